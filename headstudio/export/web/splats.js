// Gaussians as ellipses, drawn back to front. The rules are those of headstudio/render: what differs is only that a
// pixel goes on after its transmittance has become less than 1e-4. Projection and order are computed here, as some 100
// multiplications for each Gaussian are little work, and what has no GPU draws textures of numbers slowly.

const NEAR = 0.01, BLUR = 0.3, MARGIN = 1.3, MIN_ALPHA = 1 / 255, KEYS = 65536;
const WORDS = 8; // of what a Gaussian's rectangle needs: centre (2), sides (3), reach, colour as a whole number, 0

// Four vertices for each Gaussian, which fetch their numbers: many small instances are what software draws worst
const SPLAT_VERTEX = `${FETCH}
uniform sampler2D splats;
uniform vec2 size; // pixels
out vec2 place; // the ellipse is the unit circle
flat out vec4 paint; // colour, and log(opacity / threshold)
void main() {
  int i = 2 * (gl_VertexID >> 2);
  vec4 first = fetch(splats, i), second = fetch(splats, i + 1); // centre in pixels from the middle, y down; sides; reach
  uint rgb = uint(second.z);
  place = vec2(float(gl_VertexID & 1), float((gl_VertexID >> 1) & 1)) * 2.0 - 1.0;
  paint = vec4(vec3(rgb & 255u, (rgb >> 8) & 255u, rgb >> 16) / 255.0, 0.5 * second.y * second.y);
  vec2 pixel = first.xy + vec2(first.z * place.x + first.w * place.y, second.x * place.y);
  gl_Position = vec4(2.0 * pixel.x / size.x, -2.0 * pixel.y / size.y, 0.0, 1.0);
}`;

const SPLAT_FRAGMENT = `
in vec2 place;
flat in vec4 paint;
out vec4 shown;
void main() {
  float away = dot(place, place);
  if (away > 1.0) discard;
  float alpha = min(0.999, exp(paint.a * (1.0 - away)) / 255.0);
  shown = vec4(paint.rgb * alpha, alpha);
}`;

class Splats {
  constructor(gl, arrays, frames) {
    const { means, log_scales, quats, opacities, colors, triangle } = arrays, count = opacities.length;
    Object.assign(this, { count, means, seen: 0, triangle: triangle || new Uint16Array(count) });
    this.shapes = new Float32Array(9 * count); // rotation times scales, row by row
    this.reach = Float32Array.from(opacities, (opacity) => Math.sqrt(2 * Math.log(Math.max(1, opacity / MIN_ALPHA))));
    this.colors = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      this.shapes.set(shapeOf(quats.subarray(4 * i, 4 * i + 4), log_scales.subarray(3 * i, 3 * i + 3)), 9 * i);
      const [r, g, b] = colors.subarray(3 * i, 3 * i + 3);
      this.colors[i] = Math.round(255 * r) + 256 * Math.round(255 * g) + 65536 * Math.round(255 * b);
    }
    this.eyes = new Float32Array(frames.length); // the frames as the camera sees them
    this.depths = new Float32Array(count);
    this.flat = new Float32Array(5 * count); // centre and sides of those that are seen, in the order of `who`
    this.who = new Uint32Array(count);
    this.keys = new Uint16Array(count);
    this.order = new Uint32Array(count);
    this.bins = new Uint32Array(KEYS + 1);
    this.build(gl);
  }

  build(gl) {
    this.drawing = programOf(gl, SPLAT_VERTEX, SPLAT_FRAGMENT);
    this.list = new TexelList(gl, WORDS * this.count);
    this.words = this.list.padded;
    this.vertexArray = gl.createVertexArray();
    gl.bindVertexArray(this.vertexArray);
    const corners = new Uint32Array(6 * this.count);
    for (let i = 0; i < this.count; i++) [0, 1, 2, 1, 3, 2].forEach((corner, n) => { corners[6 * i + n] = 4 * i + corner; });
    indexBuffer(gl, corners);
    gl.bindVertexArray(null);
  }

  // Where every Gaussian's ellipse lies in the picture; those outside of it are left out
  project(frames, { view, focal, width, height }) {
    const { eyes, means, shapes, triangle, reach, flat, who, depths } = this;
    toCamera(frames, view, eyes);
    const limit_x = (MARGIN * 0.5 * width) / focal, limit_y = (MARGIN * 0.5 * height) / focal;
    let seen = 0;
    for (let i = 0; i < this.count; i++) {
      const f = FRAME_FLOATS * triangle[i], m = 3 * i, s = 9 * i;
      const e0 = eyes[f], e1 = eyes[f + 1], e2 = eyes[f + 2], e3 = eyes[f + 3], e4 = eyes[f + 4], e5 = eyes[f + 5];
      const e6 = eyes[f + 6], e7 = eyes[f + 7], e8 = eyes[f + 8], mx = means[m], my = means[m + 1], mz = means[m + 2];
      const z = e6 * mx + e7 * my + e8 * mz + eyes[f + 11];
      if (!(z >= NEAR)) continue;
      const scale = focal / z;
      const x = (e0 * mx + e1 * my + e2 * mz + eyes[f + 9]) / z, y = (e3 * mx + e4 * my + e5 * mz + eyes[f + 10]) / z;
      const tx = Math.min(Math.max(x, -limit_x), limit_x), ty = Math.min(Math.max(y, -limit_y), limit_y);
      // the two rows of J W sqrt(S) R, then those times the Gaussian's own rotation and scales
      const a0 = scale * (e0 - tx * e6), a1 = scale * (e1 - tx * e7), a2 = scale * (e2 - tx * e8);
      const b0 = scale * (e3 - ty * e6), b1 = scale * (e4 - ty * e7), b2 = scale * (e5 - ty * e8);
      const u0 = a0 * shapes[s] + a1 * shapes[s + 3] + a2 * shapes[s + 6], v0 = b0 * shapes[s] + b1 * shapes[s + 3] + b2 * shapes[s + 6];
      const u1 = a0 * shapes[s + 1] + a1 * shapes[s + 4] + a2 * shapes[s + 7], v1 = b0 * shapes[s + 1] + b1 * shapes[s + 4] + b2 * shapes[s + 7];
      const u2 = a0 * shapes[s + 2] + a1 * shapes[s + 5] + a2 * shapes[s + 8], v2 = b0 * shapes[s + 2] + b1 * shapes[s + 5] + b2 * shapes[s + 8];
      const xx = u0 * u0 + u1 * u1 + u2 * u2 + BLUR, yy = v0 * v0 + v1 * v1 + v2 * v2 + BLUR, xy = u0 * v0 + u1 * v1 + u2 * v2;
      const r = reach[i], px = focal * x, py = focal * y, wide = r * Math.sqrt(xx), high = r * Math.sqrt(yy);
      if (Math.abs(px) - wide > width / 2 || Math.abs(py) - high > height / 2) continue;
      // the parallelogram with two level sides around the ellipse: no rectangle that holds it is smaller
      const o = 5 * seen;
      flat[o] = px; flat[o + 1] = py;
      flat[o + 2] = r * Math.sqrt(Math.max(0, xx - (xy * xy) / yy));
      flat[o + 3] = (xy / yy) * high;
      flat[o + 4] = high;
      depths[seen] = z;
      who[seen++] = i;
    }
    this.seen = seen;
  }

  // Counting sort, the farthest first; of equal ones the lower number is nearer
  sort() {
    const { depths, keys, order, bins, seen } = this;
    let near = Infinity, far = -Infinity;
    for (let i = 0; i < seen; i++) { near = Math.min(near, depths[i]); far = Math.max(far, depths[i]); }
    const factor = far > near ? (KEYS - 1) / (far - near) : 0;
    bins.fill(0);
    for (let i = 0; i < seen; i++) {
      keys[i] = (far - depths[i]) * factor;
      bins[keys[i] + 1]++;
    }
    for (let k = 0; k < KEYS; k++) bins[k + 1] += bins[k];
    for (let i = seen - 1; i >= 0; i--) order[bins[keys[i]]++] = i;
  }

  gather() {
    const { order, who, flat, words, reach, colors, seen } = this;
    for (let n = 0, w = 0; n < seen; n++, w += WORDS) {
      const o = 5 * order[n], i = who[order[n]];
      words[w] = flat[o]; words[w + 1] = flat[o + 1]; words[w + 2] = flat[o + 2]; words[w + 3] = flat[o + 3]; words[w + 4] = flat[o + 4];
      words[w + 5] = reach[i];
      words[w + 6] = colors[i];
    }
  }

  // Everything but the drawing itself
  arrange(frames, camera) {
    this.project(frames, camera);
    this.sort();
    this.gather();
  }

  draw(gl, frames, camera) {
    this.arrange(frames, camera);
    gl.useProgram(this.drawing.program);
    this.list.send(gl, WORDS * this.seen);
    this.list.bind(gl, 0, this.drawing.at.splats);
    gl.uniform2f(this.drawing.at.size, camera.width, camera.height);
    gl.bindVertexArray(this.vertexArray);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.drawElements(gl.TRIANGLES, 6 * this.seen, gl.UNSIGNED_INT, 0);
    gl.disable(gl.BLEND);
    gl.bindVertexArray(null);
  }
}

// Rotation of a quaternion (w, x, y, z; of any length) with its columns times the scales
function shapeOf(quat, log_scales) {
  const [w, x, y, z] = quat.map((value) => value / Math.hypot(...quat)), [a, b, c] = log_scales.map(Math.exp);
  return [
    a * (1 - 2 * (y * y + z * z)), b * 2 * (x * y - w * z), c * 2 * (x * z + w * y),
    a * 2 * (x * y + w * z), b * (1 - 2 * (x * x + z * z)), c * 2 * (y * z - w * x),
    a * 2 * (x * z - w * y), b * 2 * (y * z + w * x), c * (1 - 2 * (x * x + y * y)),
  ];
}

// Frames in the world to frames before the camera; `view` is column by column
function toCamera(frames, view, eyes) {
  for (let f = 0; f < frames.length; f += FRAME_FLOATS) {
    for (let row = 0; row < 3; row++) {
      const x = view[row], y = view[4 + row], z = view[8 + row], at = f + 3 * row;
      eyes[at] = x * frames[f] + y * frames[f + 3] + z * frames[f + 6];
      eyes[at + 1] = x * frames[f + 1] + y * frames[f + 4] + z * frames[f + 7];
      eyes[at + 2] = x * frames[f + 2] + y * frames[f + 5] + z * frames[f + 8];
      eyes[f + 9 + row] = x * frames[f + 9] + y * frames[f + 10] + z * frames[f + 11] + view[12 + row];
    }
  }
}
