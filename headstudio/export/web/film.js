// A sequence of poses, and what it is between its frames

// Unit quaternion (w, x, y, z) of an axis-angle vector
function quaternionOf(x, y, z) {
  const angle = Math.hypot(x, y, z), s = angle < 1e-6 ? 0.5 : Math.sin(angle / 2) / angle;
  return [Math.cos(angle / 2), s * x, s * y, s * z];
}

// The turn a share of the way from one axis-angle vector to another, along the shortest arc
function turnBetween(from, to, share) {
  const a = quaternionOf(...from), b = quaternionOf(...to);
  const dot = a.reduce((sum, value, i) => sum + value * b[i], 0), sign = dot < 0 ? -1 : 1;
  const angle = Math.acos(Math.min(1, Math.abs(dot))), sine = Math.sin(angle);
  const [p, q] = sine < 1e-6 ? [1 - share, share] : [Math.sin((1 - share) * angle) / sine, Math.sin(share * angle) / sine];
  const [w, x, y, z] = a.map((value, i) => p * value + sign * q * b[i]);
  const half = Math.hypot(x, y, z), factor = half < 1e-9 ? 2 / w : (2 * Math.atan2(half, w)) / half;
  return [x * factor, y * factor, z * factor];
}

class Film {
  constructor({ film_weights: weights, film_turns: turns }, fps, joints, expressions) {
    Object.assign(this, { weights, turns, fps, joints, expressions });
    this.frames = turns.length / (3 * joints);
    this.lasts_s = (this.frames - 1) / fps;
  }

  // Write the pose at a frame, which may be a fraction, into `values`
  at(frame, values) {
    const place = Math.min(Math.max(frame, 0), this.frames - 1);
    const first = Math.floor(place), second = Math.min(first + 1, this.frames - 1), share = place - first;
    const { weights, turns, expressions, joints } = this;
    for (let k = 0; k < expressions; k++) {
      values[k] = (1 - share) * weights[first * expressions + k] + share * weights[second * expressions + k];
    }
    for (let j = 0; j < joints; j++) {
      const [a, b] = [first, second].map((row) => turns.subarray(3 * (row * joints + j), 3 * (row * joints + j) + 3));
      values.set(share ? turnBetween(a, b, share) : a, expressions + 3 * j);
    }
  }
}
