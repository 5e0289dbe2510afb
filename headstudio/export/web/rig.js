// The parametric head: a pose to vertices (linear blend skinning) to the frames of its triangles. Units as in Python.
// A pose is one array: the expressions' weights, then x, y, z of every joint's turn (axis-angle, radians).

const MIN_AREA = 1e-12; // world units squared; as avatar/frames.py
const FRAME_FLOATS = 12; // sqrt(S) R row by row, then T: local to world (Eq. 5-7)

// Nine numbers, row by row, of the rotation by an axis-angle vector (Rodrigues, smooth at zero)
function rotationOf(x, y, z) {
  const squared = x * x + y * y + z * z, angle = Math.sqrt(squared), half = Math.sin(angle / 2);
  const a = squared < 1e-8 ? 1 - squared / 6 : Math.sin(angle) / angle;
  const b = squared < 1e-8 ? 0.5 - squared / 24 : (2 * half * half) / squared;
  return [
    1 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y,
    b * x * y + a * z, 1 - b * (x * x + z * z), b * y * z - a * x,
    b * x * z - a * y, b * y * z + a * x, 1 - b * (x * x + y * y),
  ];
}

function product(a, b) {
  const c = new Array(9);
  for (let i = 0; i < 9; i++) {
    const row = 3 * Math.floor(i / 3), column = i % 3;
    c[i] = a[row] * b[column] + a[row + 1] * b[column + 3] + a[row + 2] * b[column + 6];
  }
  return c;
}

class Rig {
  constructor(arrays) {
    Object.assign(this, arrays);
    this.joints_count = this.parents.length;
    this.expressions = this.joint_directions.length / (3 * this.joints_count);
    this.displaced = new Float32Array(this.template.length);
    this.vertices = new Float32Array(this.template.length);
    this.frames = new Float32Array((this.faces.length / 3) * FRAME_FLOATS);
  }

  pose(values) {
    const turns = [];
    for (let j = 0; j < this.joints_count; j++) {
      turns.push(rotationOf(...values.subarray(this.expressions + 3 * j, this.expressions + 3 * j + 3)));
    }
    this.displace(values, turns);
    this.skin(this.transforms(values, turns));
    this.measure();
  }

  // Template plus every direction times its weight; behind the expressions come the pose correctives, if any
  displace(values, turns) {
    const { displaced, direction_vertices: moved, direction_offsets: offsets } = this;
    displaced.set(this.template);
    for (let k = 0, entry = 0; k < this.direction_counts.length; k++) {
      const end = entry + this.direction_counts[k], q = k - this.expressions;
      const weight = q < 0 ? values[k] : turns[1 + Math.floor(q / 9)][q % 9] - (q % 9 % 4 === 0 ? 1 : 0);
      const factor = weight * this.direction_steps[k];
      if (factor === 0) { entry = end; continue; }
      for (; entry < end; entry++) {
        const v = 3 * moved[entry], o = 3 * entry;
        displaced[v] += factor * offsets[o];
        displaced[v + 1] += factor * offsets[o + 1];
        displaced[v + 2] += factor * offsets[o + 2];
      }
    }
  }

  // Twelve numbers per joint: x' = R x + t for what is bound to it, as R's rows and t
  transforms(values, turns) {
    const rest = Float64Array.from(this.joints), size = rest.length, chain = [], all = new Float32Array(12 * this.joints_count);
    for (let k = 0; k < this.expressions; k++) {
      if (values[k]) for (let i = 0; i < size; i++) rest[i] += values[k] * this.joint_directions[k * size + i];
    }
    const apply = (r, x, y, z) => [0, 3, 6].map((i) => r[i] * x + r[i + 1] * y + r[i + 2] * z);
    for (let j = 0; j < this.joints_count; j++) {
      const at = rest.subarray(3 * j, 3 * j + 3), parent = this.parents[j];
      let turn = turns[j], place = at;
      if (parent >= 0) {
        const [x, y, z] = apply(chain[parent].turn, ...at.map((value, i) => value - rest[3 * parent + i]));
        const above = chain[parent].place;
        turn = product(chain[parent].turn, turns[j]);
        place = [above[0] + x, above[1] + y, above[2] + z];
      }
      chain.push({ turn, place });
      const carried = apply(turn, ...at);
      for (let i = 0; i < 3; i++) {
        all.set(turn.slice(3 * i, 3 * i + 3), 12 * j + 3 * i);
        all[12 * j + 9 + i] = place[i] - carried[i];
      }
    }
    return all;
  }

  skin(transforms) {
    const { displaced, vertices, weights, joints_count: joints } = this, m = new Float64Array(12);
    for (let v = 0; v < vertices.length / 3; v++) {
      m.fill(0);
      for (let j = 0; j < joints; j++) {
        const weight = weights[v * joints + j];
        if (weight !== 0) for (let i = 0; i < 12; i++) m[i] += weight * transforms[12 * j + i];
      }
      const x = displaced[3 * v], y = displaced[3 * v + 1], z = displaced[3 * v + 2];
      vertices[3 * v] = m[0] * x + m[1] * y + m[2] * z + m[9];
      vertices[3 * v + 1] = m[3] * x + m[4] * y + m[5] * z + m[10];
      vertices[3 * v + 2] = m[6] * x + m[7] * y + m[8] * z + m[11];
    }
  }

  // Where each triangle is, how it is turned, how big it is; one without an area is turned by nothing
  measure() {
    const { vertices: p, faces, frames } = this;
    for (let f = 0, at = 0; f < faces.length; f += 3, at += FRAME_FLOATS) {
      const a = 3 * faces[f], b = 3 * faces[f + 1], c = 3 * faces[f + 2];
      let ex = p[b] - p[a], ey = p[b + 1] - p[a + 1], ez = p[b + 2] - p[a + 2];
      const gx = p[c] - p[a], gy = p[c + 1] - p[a + 1], gz = p[c + 2] - p[a + 2];
      let nx = ey * gz - ez * gy, ny = ez * gx - ex * gz, nz = ex * gy - ey * gx;
      let size = Math.hypot(nx, ny, nz);
      if (size <= 2 * MIN_AREA) {
        [ex, ey, ez, nx, ny, nz, size] = [1, 0, 0, 0, 2 * MIN_AREA, 0, 2 * MIN_AREA];
      }
      const root = Math.sqrt(size / 2), e = root / Math.hypot(ex, ey, ez), n = root / size, t = (e * n) / root;
      frames[at] = e * ex; frames[at + 1] = n * nx; frames[at + 2] = t * (ey * nz - ez * ny);
      frames[at + 3] = e * ey; frames[at + 4] = n * ny; frames[at + 5] = t * (ez * nx - ex * nz);
      frames[at + 6] = e * ez; frames[at + 7] = n * nz; frames[at + 8] = t * (ex * ny - ey * nx);
      for (let i = 0; i < 3; i++) frames[at + 9 + i] = (p[a + i] + p[b + i] + p[c + i]) / 3;
    }
  }
}

// What carries Gaussians that have no rig: one frame, the world's own
const STILL = { frames: Float32Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0), pose() {} };
