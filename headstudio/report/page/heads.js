// Every head shows the same frame of its film: one slider, one player, and dragging on any of them
(() => {
  const slider = byId("frame");
  if (!slider) return;
  const { frames, columns, seconds } = DATA.film;
  const rows = frames / columns;
  const stages = all(".stage");
  let shown = "turntable", timer = 0;

  const show = (frame) => {
    const at = ((frame % frames) + frames) % frames;
    const shift = `translate(${(-100 * (at % columns)) / columns}%, ${(-100 * Math.floor(at / columns)) / rows}%)`;
    for (const stage of stages) {
      stage.dataset.frame = at;
      const image = stage.firstElementChild;
      if (image.tagName === "IMG") image.style.transform = shift;
    }
    slider.value = at;
    const words = shown === "turntable" ? `${Math.round((360 * at) / frames)}°` : `${((seconds * at) / frames).toFixed(2)} s`;
    byId("where").textContent = words;
    slider.setAttribute("aria-valuetext", words);
  };
  const play = (on) => {
    clearInterval(timer);
    const pace = shown === "turntable" ? 110 : (1000 * seconds) / frames;
    timer = on ? setInterval(() => show(Number(slider.value) + 1), isCalm ? 400 : pace) : 0;
    byId("play").textContent = on ? "pause" : "play";
    byId("play").setAttribute("aria-pressed", String(on));
  };

  slider.max = frames - 1;
  slider.addEventListener("input", () => { play(false); show(Number(slider.value)); });
  byId("play").addEventListener("click", () => play(!timer));
  for (const button of all("[data-show]")) {
    button.addEventListener("click", () => {
      shown = button.dataset.show;
      for (const other of all("[data-show]")) other.setAttribute("aria-pressed", String(other === button));
      for (const stage of stages) stage.hidden = stage.dataset.film !== shown;
      show(Number(slider.value));
      if (timer) play(true);
    });
  }
  for (const stage of stages) {
    let from = null;
    stage.addEventListener("pointerdown", (event) => {
      from = { x: event.clientX, frame: Number(slider.value) };
      stage.setPointerCapture(event.pointerId);
      play(false);
    });
    stage.addEventListener("pointermove", (event) => {
      if (from) show(from.frame + Math.round(((event.clientX - from.x) / stage.clientWidth) * frames * 0.75));
    });
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => { from = null; });
  }
  document.querySelector(".player").hidden = false;
  show(0);
})();
