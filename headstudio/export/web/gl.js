// WebGL in few words

function programOf(gl, vertex, fragment) {
  const program = gl.createProgram();
  for (const [type, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, `#version 300 es\nprecision highp float;\nprecision highp int;\nprecision highp sampler2D;\n${source}`);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    throw new Error(gl.getAttachedShaders(program).map((shader) => gl.getShaderInfoLog(shader)).join("\n"));
  }
  const count = gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS) || 0, at = {};
  for (let i = 0; i < count; i++) {
    const { name } = gl.getActiveUniform(program, i);
    at[name] = gl.getUniformLocation(program, name);
  }
  return { program, at };
}

// A long list of texels of four floats, folded into rows; shaders read it by `fetch`
const ROW = 1024;
const FETCH = `vec4 fetch(sampler2D list, int i) { return texelFetch(list, ivec2(i & ${ROW - 1}, i >> 10), 0); }\n`;

class TexelList {
  constructor(gl, floats) {
    this.rows = Math.max(1, Math.ceil(floats / 4 / ROW));
    this.padded = new Float32Array(this.rows * ROW * 4);
    this.texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA32F, ROW, this.rows);
    for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, gl.NEAREST);
  }

  set(gl, values) {
    this.padded.set(values);
    this.send(gl, values.length);
  }

  // The first of the floats in `padded`, as they are now
  send(gl, floats) {
    const rows = Math.min(this.rows, Math.ceil(floats / 4 / ROW));
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    if (rows) gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, ROW, rows, gl.RGBA, gl.FLOAT, this.padded);
  }

  bind(gl, unit, place) {
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.uniform1i(place, unit);
    gl.activeTexture(gl.TEXTURE0);
  }
}

// A mesh's vertices as a list: x, y, z, 0 each
function asTexels(points) {
  const texels = new Float32Array((points.length / 3) * 4);
  for (let i = 0; i < points.length / 3; i++) texels.set(points.subarray(3 * i, 3 * i + 3), 4 * i);
  return texels;
}

function indexBuffer(gl, indices) {
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices instanceof Uint32Array ? indices : Uint32Array.from(indices), gl.STATIC_DRAW);
  return indices.length;
}
