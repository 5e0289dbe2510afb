// A camera on a sphere around a point, and the mouse, fingers and keys that move it

const RAD = Math.PI / 180;

class OrbitCamera {
  constructor(first) {
    this.first = first;
    this.reset();
  }

  reset() {
    Object.assign(this, { azimuth_deg: 0, elevation_deg: this.first.elevation_deg, distance: this.first.distance });
    this.target = [...this.first.target];
  }

  // Right, down and forward of the picture in the world: the rows of the camera's rotation
  rows() {
    const a = this.azimuth_deg * RAD, e = this.elevation_deg * RAD;
    const forward = [-Math.cos(e) * Math.sin(a), -Math.sin(e), -Math.cos(e) * Math.cos(a)];
    const right = [Math.cos(a), 0, -Math.sin(a)];
    const down = [Math.sin(e) * Math.sin(a), -Math.cos(e), Math.sin(e) * Math.cos(a)];
    return [right, down, forward];
  }

  // As shaders take it; the field of view is that of the picture's shorter side
  seen(width, height) {
    const rows = this.rows(), view = new Float32Array(16);
    const eye = this.target.map((value, i) => value - this.distance * rows[2][i]);
    rows.forEach((row, r) => {
      row.forEach((value, c) => { view[4 * c + r] = value; });
      view[12 + r] = -row.reduce((sum, value, i) => sum + value * eye[i], 0);
    });
    view[15] = 1;
    const focal = (0.5 * Math.min(width, height)) / Math.tan((this.first.fovy_deg * RAD) / 2);
    return { view, width, height, focal };
  }

  orbit(right_deg, up_deg) {
    this.azimuth_deg = ((this.azimuth_deg + right_deg + 540) % 360) - 180;
    this.elevation_deg = Math.min(85, Math.max(-85, this.elevation_deg + up_deg));
  }

  zoom(factor) {
    this.distance = Math.min(6, Math.max(0.5, this.distance * factor));
  }

  // Move what is looked at, by shares of the picture's height
  pan(right, down) {
    const rows = this.rows(), size = 2 * this.distance * Math.tan((this.first.fovy_deg * RAD) / 2);
    this.target = this.target.map((value, i) => {
      const moved = value + size * (right * rows[0][i] + down * rows[1][i]);
      return Math.min(1.5, Math.max(-1.5, moved));
    });
  }
}

// One finger or the left button turns; two fingers zoom and move; the right button, or Shift, moves; the wheel zooms
function followPointers(element, camera, changed) {
  const pointers = new Map();
  const spread = () => {
    const [a, b] = Array.from(pointers.values());
    return { gap: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  };
  const release = (event) => pointers.delete(event.pointerId);
  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  element.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId), height = element.clientHeight;
    if (!before) return;
    const held = pointers.size === 2 ? spread() : null;
    const right = event.clientX - before.x, down = event.clientY - before.y;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (held) {
      const now = spread();
      camera.zoom(held.gap / Math.max(1, now.gap));
      camera.pan((held.x - now.x) / height, (held.y - now.y) / height);
    } else if (event.shiftKey || event.buttons & 2) {
      camera.pan(-right / height, -down / height);
    } else if (pointers.size === 1) {
      camera.orbit((-180 * right) / height, (180 * down) / height);
    }
    changed();
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) element.addEventListener(name, release);
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener("wheel", (event) => {
    event.preventDefault();
    camera.zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 400))));
    changed();
  }, { passive: false });
}

const KEY_TURN_DEG = 5;
const KEY_MOVES = {
  ArrowLeft: (camera) => camera.orbit(-KEY_TURN_DEG, 0),
  ArrowRight: (camera) => camera.orbit(KEY_TURN_DEG, 0),
  ArrowUp: (camera) => camera.orbit(0, KEY_TURN_DEG),
  ArrowDown: (camera) => camera.orbit(0, -KEY_TURN_DEG),
  "+": (camera) => camera.zoom(0.9),
  "=": (camera) => camera.zoom(0.9),
  "-": (camera) => camera.zoom(1 / 0.9),
  0: (camera) => camera.reset(),
};
