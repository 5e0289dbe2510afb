// Surfaces: the coloured mesh of a head without Gaussians, and the lines of the mesh that carries them

const CLIP = `
uniform mat4 view;
uniform vec2 size; // pixels
uniform float focal; // pixels
vec4 clip(vec3 world) {
  vec3 p = mat3(view) * world + view[3].xyz;
  const float NEAR = 0.01, FAR = 100.0;
  float depth = ((FAR + NEAR) * p.z - 2.0 * FAR * NEAR) / (FAR - NEAR);
  return vec4(2.0 * focal * p.x / size.x, -2.0 * focal * p.y / size.y, depth, p.z);
}\n`;

const TEXEL_VERTEX = `${FETCH}${CLIP}
uniform sampler2D vertices;
in uvec3 corners;
in vec3 weights, tint;
out vec3 color;
void main() {
  vec3 p = weights.x * fetch(vertices, int(corners.x)).xyz + weights.y * fetch(vertices, int(corners.y)).xyz;
  gl_Position = clip(p + weights.z * fetch(vertices, int(corners.z)).xyz);
  color = tint;
}`;
const TEXEL_FRAGMENT = "in vec3 color; out vec4 shown; void main() { shown = vec4(color, 1.0); }";
const LINE_VERTEX = `${FETCH}${CLIP}
uniform sampler2D vertices;
void main() { gl_Position = clip(fetch(vertices, gl_VertexID).xyz); }`;
const LINE_FRAGMENT = "uniform vec4 ink; out vec4 shown; void main() { shown = ink; }";

function setCamera(gl, at, camera) {
  gl.uniformMatrix4fv(at.view, false, camera.view);
  gl.uniform2f(at.size, camera.width, camera.height);
  gl.uniform1f(at.focal, camera.focal);
}

class Surface {
  constructor(gl, arrays) {
    const { texel_corners: corners, texel_weights: weights, texel_colors: colors, texel_triangles: triangles } = arrays;
    this.drawing = programOf(gl, TEXEL_VERTEX, TEXEL_FRAGMENT);
    this.vertices = new TexelList(gl, (arrays.template.length / 3) * 4);
    this.vertexArray = gl.createVertexArray();
    gl.bindVertexArray(this.vertexArray);
    for (const [name, values] of [["corners", Uint32Array.from(corners)], ["weights", weights], ["tint", colors]]) {
      const place = gl.getAttribLocation(this.drawing.program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(place);
      if (name === "corners") gl.vertexAttribIPointer(place, 3, gl.UNSIGNED_INT, 0, 0);
      else gl.vertexAttribPointer(place, 3, gl.FLOAT, false, 0, 0);
    }
    this.count = indexBuffer(gl, triangles);
    gl.bindVertexArray(null);
  }

  draw(gl, rig, camera) {
    this.vertices.set(gl, asTexels(rig.vertices));
    const { program, at } = this.drawing;
    gl.useProgram(program);
    this.vertices.bind(gl, 0, at.vertices);
    setCamera(gl, at, camera);
    gl.bindVertexArray(this.vertexArray);
    gl.enable(gl.DEPTH_TEST);
    gl.clear(gl.DEPTH_BUFFER_BIT);
    gl.drawElements(gl.TRIANGLES, this.count, gl.UNSIGNED_INT, 0);
    gl.disable(gl.DEPTH_TEST);
    gl.bindVertexArray(null);
  }
}

class Wireframe {
  constructor(gl, { template, faces }) {
    this.drawing = programOf(gl, LINE_VERTEX, LINE_FRAGMENT);
    this.vertices = new TexelList(gl, (template.length / 3) * 4);
    this.solid = gl.createVertexArray();
    gl.bindVertexArray(this.solid);
    this.corners = indexBuffer(gl, faces);
    this.lines = gl.createVertexArray();
    gl.bindVertexArray(this.lines);
    this.ends = indexBuffer(gl, edgesOf(faces, template.length / 3));
    gl.bindVertexArray(null);
  }

  // First the depth of the triangles alone, a little farther than they are, so that they hide the lines behind them
  draw(gl, rig, camera, ink) {
    this.vertices.set(gl, asTexels(rig.vertices));
    const { program, at } = this.drawing;
    gl.useProgram(program);
    this.vertices.bind(gl, 0, at.vertices);
    setCamera(gl, at, camera);
    gl.uniform4f(at.ink, ...ink);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
    gl.clear(gl.DEPTH_BUFFER_BIT);
    gl.colorMask(false, false, false, false);
    gl.enable(gl.POLYGON_OFFSET_FILL);
    gl.polygonOffset(1, 1);
    gl.bindVertexArray(this.solid);
    gl.drawElements(gl.TRIANGLES, this.corners, gl.UNSIGNED_INT, 0);
    gl.disable(gl.POLYGON_OFFSET_FILL);
    gl.colorMask(true, true, true, true);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.bindVertexArray(this.lines);
    gl.drawElements(gl.LINES, this.ends, gl.UNSIGNED_INT, 0);
    gl.disable(gl.BLEND);
    gl.disable(gl.DEPTH_TEST);
    gl.bindVertexArray(null);
  }
}

// Both ends of every edge, each edge once
function edgesOf(faces, vertices) {
  const seen = new Set();
  for (let f = 0; f < faces.length; f += 3) {
    for (let side = 0; side < 3; side++) {
      const a = faces[f + side], b = faces[f + ((side + 1) % 3)];
      seen.add(Math.min(a, b) * vertices + Math.max(a, b));
    }
  }
  return Array.from(seen).flatMap((key) => [Math.floor(key / vertices), key % vertices]);
}
