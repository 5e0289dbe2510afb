// The canvas: Gaussians are blended in half floats, because hundreds of layers would show the rounding of bytes, and
// then put on the screen. While something moves on a slow machine, the picture that is blended is made smaller.

const SCREEN_VERTEX = `
out vec2 place;
void main() {
  place = vec2(float(gl_VertexID & 1), float(gl_VertexID >> 1)) * 2.0;
  gl_Position = vec4(place * 2.0 - 1.0, 0.0, 1.0);
}`;
const SCREEN_FRAGMENT = `
uniform sampler2D picture;
in vec2 place;
out vec4 color;
void main() { color = vec4(texture(picture, place).rgb, 1.0); }`;

// one step costs at most twice the pixels, so that what is quick does not become slow by it
const SLOW_MS = 40, QUICK_MS = 19, SHARES = [1, 0.75, 0.5, 0.35], MOST_PIXELS_A_POINT = 2;

class Stage {
  constructor(canvas, pack, rig, camera) {
    Object.assign(this, { canvas, pack, rig, camera, background: [1, 1, 1], shows_mesh: false, share: 0, paced: 0, pace_ms: 0, ink: [0, 0.35, 0.6] });
    this.gl = canvas.getContext("webgl2", { alpha: false, antialias: true, powerPreference: "high-performance" });
    if (!this.gl) throw new Error("no WebGL2");
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.build(); this.draw(false); });
    this.build();
  }

  build() {
    const { gl, pack, rig } = this;
    this.format = gl.getExtension("EXT_color_buffer_float") || gl.getExtension("EXT_color_buffer_half_float") ? gl.RGBA16F : gl.RGBA8;
    this.screen = programOf(gl, SCREEN_VERTEX, SCREEN_FRAGMENT);
    this.blank = gl.createVertexArray();
    this.layer = null;
    this.splats = pack.kind === "mesh" ? null : new Splats(gl, pack.arrays, rig.frames);
    this.surface = pack.kind === "mesh" ? new Surface(gl, pack.arrays) : null;
    this.wireframe = pack.kind === "static" ? null : new Wireframe(gl, pack.arrays);
  }

  // As many pixels as the screen has under the canvas, up to two a point
  fit() {
    const ratio = Math.min(devicePixelRatio || 1, MOST_PIXELS_A_POINT);
    const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio)), height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (this.canvas.width === width && this.canvas.height === height) return;
    Object.assign(this.canvas, { width, height });
    this.become(0);
  }

  // Told how long a frame took while something moves: slow ones make the next ones coarser, quick ones finer again
  took(ms) {
    this.pace_ms = this.paced ? 0.85 * this.pace_ms + 0.15 * ms : ms;
    this.paced += 1;
    if (this.pace_ms > SLOW_MS && this.paced > 3) this.become(this.share + 1);
    else if (this.pace_ms < QUICK_MS && this.paced > 60) this.become(this.share - 1);
  }

  become(share) {
    this.share = Math.min(Math.max(share, 0), SHARES.length - 1);
    this.paced = 0;
  }

  draw(is_moving) {
    this.fit();
    const { gl, canvas } = this, share = is_moving ? SHARES[this.share] : 1;
    const full = this.camera.seen(canvas.width, canvas.height);
    if (this.splats) {
      const coarse = this.camera.seen(Math.ceil(canvas.width * share), Math.ceil(canvas.height * share));
      this.into(coarse.width, coarse.height);
      this.splats.draw(gl, this.rig.frames, coarse);
      this.onto(null, canvas.width, canvas.height);
      this.show();
    } else {
      this.onto(null, canvas.width, canvas.height);
      this.surface.draw(gl, this.rig, full);
    }
    if (this.shows_mesh && this.wireframe) this.wireframe.draw(gl, this.rig, full, [...this.ink.map((v) => 0.55 * v), 0.55]);
  }

  // Draw into the layer of half floats from now on
  into(width, height) {
    const { gl } = this;
    if (!this.layer || this.layer.width !== width || this.layer.height !== height) {
      if (this.layer) { gl.deleteTexture(this.layer.texture); gl.deleteFramebuffer(this.layer.buffer); }
      this.layer = { width, height, texture: gl.createTexture(), buffer: gl.createFramebuffer() };
      gl.bindTexture(gl.TEXTURE_2D, this.layer.texture);
      gl.texStorage2D(gl.TEXTURE_2D, 1, this.format, width, height);
      for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, gl.LINEAR);
      for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
      gl.bindFramebuffer(gl.FRAMEBUFFER, this.layer.buffer);
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.layer.texture, 0);
    }
    this.onto(this.layer.buffer, width, height);
  }

  onto(buffer, width, height) {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, buffer);
    gl.viewport(0, 0, width, height);
    gl.clearColor(...this.background, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
  }

  show() {
    const { gl } = this;
    gl.useProgram(this.screen.program);
    gl.bindTexture(gl.TEXTURE_2D, this.layer.texture);
    gl.uniform1i(this.screen.at.picture, 0);
    gl.bindVertexArray(this.blank);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.bindVertexArray(null);
  }
}
