const byId = (id) => document.getElementById(id);
const all = (selector) => Array.from(document.querySelectorAll(selector));
const DARK = matchMedia("(prefers-color-scheme: dark)"), CALM = matchMedia("(prefers-reduced-motion: reduce)");
const REST_MS = 250; // after the last change a picture is drawn in full

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);

async function start() {
  const canvas = byId("canvas"), pack = await readPack(byId("data").textContent);
  const rig = pack.kind === "static" ? STILL : new Rig(pack.arrays);
  const values = new Float32Array(pack.kind === "static" ? 0 : rig.expressions + 3 * rig.joints_count);
  const camera = new OrbitCamera(pack.view), stage = new Stage(canvas, pack, rig, camera);
  const film = pack.kind === "static" ? null : new Film(pack.arrays, pack.fps, rig.joints_count, rig.expressions);
  let asked = 0, before_ms = 0, rest = 0, drawn = 0;

  // Nothing is drawn unless something has changed
  const changed = () => { if (!asked) asked = requestAnimationFrame(frame); };
  const player = film && film.frames > 1 ? new Player(film, values, byId("sound"), changed) : null;
  const panel = new Panel(pack, values, () => { if (player) player.pause(); changed(); });

  function frame(now_ms) {
    const passed_ms = now_ms - before_ms, is_steady = before_ms && passed_ms < 1000;
    asked = 0;
    before_ms = now_ms;
    if (player) player.advance(is_steady ? passed_ms / 1000 : 0);
    draw(true);
    drawn += 1;
    if (is_steady && drawn > 3) stage.took(passed_ms); // the first frames compile
    clearTimeout(rest);
    rest = setTimeout(() => { before_ms = 0; if (!asked && stage.share) draw(false); }, REST_MS);
    if (player && player.is_playing) changed();
  }

  function draw(is_moving) {
    rig.pose(values);
    stage.draw(is_moving);
    panel.follow();
  }

  function picture() {
    draw(false);
    return canvas.toDataURL("image/png");
  }

  // The quickest of so many times: a pose to numbers that the GPU takes, in milliseconds
  function work_ms(count) {
    const times = Array.from({ length: count }, () => {
      const start = performance.now();
      rig.pose(values);
      if (stage.splats) stage.splats.arrange(rig.frames, camera.seen(canvas.width, canvas.height));
      return performance.now() - start;
    });
    return Math.min(...times);
  }

  function wear() { // the colours of the page
    const style = getComputedStyle(document.documentElement);
    byId("background").value = style.getPropertyValue("--stage").trim();
    stage.ink = channels(style.getPropertyValue("--accent").trim());
    stage.background = channels(byId("background").value);
    changed();
  }

  followPointers(canvas, camera, changed);
  addEventListener("keydown", (event) => {
    const { tagName, type } = event.target, is_range = tagName === "INPUT" && type === "range";
    if (event.ctrlKey || event.metaKey || event.altKey || tagName === "SELECT") return;
    if (event.key === " " && player && tagName !== "BUTTON" && tagName !== "SUMMARY" && (tagName !== "INPUT" || is_range)) {
      player.toggle();
    } else if (Object.hasOwn(KEY_MOVES, event.key) && tagName !== "INPUT") {
      KEY_MOVES[event.key](camera);
      changed();
    } else return;
    event.preventDefault();
  });
  byId("mesh").addEventListener("change", (event) => { stage.shows_mesh = event.target.checked; changed(); });
  byId("background").addEventListener("input", (event) => { stage.background = channels(event.target.value); changed(); });
  byId("front").addEventListener("click", () => { camera.reset(); changed(); });
  byId("save").addEventListener("click", () => download(picture(), byId("save").dataset.name));
  if (byId("neutral")) byId("neutral").addEventListener("click", () => { if (player) player.pause(); values.fill(0); changed(); });
  DARK.addEventListener("change", wear);
  new ResizeObserver(changed).observe(canvas);
  wear();
  if (film) film.at(0, values); // one frame has no player
  draw(false);

  // For tests and the curious: what is shown, to be read
  window.headstudio = Object.freeze({
    vertices: () => Array.from(rig.vertices || []),
    pose: () => Array.from(values),
    camera: () => { const { view, focal, width, height } = camera.seen(canvas.width, canvas.height); return { view: Array.from(view), focal, width, height }; },
    picture,
    work_ms,
    pace_ms: () => stage.pace_ms,
    share: () => SHARES[stage.share],
  });
  if (player && !player.sound && !CALM.matches) player.play();
}

start().catch((problem) => {
  const reason = typeof DecompressionStream === "undefined" || problem.message === "no WebGL2" ? "It needs a browser of 2023 or later with WebGL2 switched on." : String(problem.message);
  byId("trouble").textContent = `This head cannot be shown here. ${reason}`;
  byId("trouble").hidden = false;
});
