// Plots: those of the comparison as they were made, the learning curves as they are asked for
(() => {
  const config = { displayModeBar: false, responsive: true };
  const drawn = new WeakSet();
  const draw = (element) => {
    if (drawn.has(element) || element.closest("[hidden]")) return;
    drawn.add(element);
    const figure = DATA.figures[element.dataset.figure];
    Plotly.newPlot(element, figure.data, figure.layout, config);
  };
  const strips = all(".strip");
  if (strips.length && "IntersectionObserver" in window) {  // a hundred plots are drawn as they come into sight
    const watch = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) draw(entry.target);
    }, { rootMargin: "600px" });
    for (const strip of strips) {
      strip.style.minHeight = `${DATA.figures[strip.dataset.figure].layout.height}px`;
      watch.observe(strip);
    }
  } else strips.forEach(draw);

  const choose = byId("choose");
  if (choose) {
    choose.hidden = false;
    for (const chip of all(".chip", choose)) {
      chip.addEventListener("click", () => {
        const on = chip.getAttribute("aria-pressed") !== "true";
        chip.setAttribute("aria-pressed", String(on));
        for (const part of all(".panel, .of-metric")) if (part.dataset.metric === chip.dataset.metric) {
          part.hidden = !on;
          if (on) all(".strip", part).forEach(draw);
        }
      });
    }
  }

  const { names, keys, runs } = DATA.curves;
  if (!runs.length) {
    byId("curve").hidden = true;
    byId("curve-note").textContent = "No run has logged anything that changes.";
    return;
  }
  const dashes = ["solid", "dash", "dot", "dashdot"];
  const fill = (id, words) => byId(id).append(...words.map((word, at) => new Option(word, at)));
  fill("quantity", names);
  fill("by", keys);
  byId("by-label").hidden = !keys.length;
  const start = names.findIndex((name) => name === "guidance" || name === "loss/guidance");
  byId("quantity").value = start < 0 ? 0 : start;

  // A running mean over as many logged values to either side
  const smoothed = (values, reach) => !reach ? values : values.map((value, at) => {
    const near = values.slice(Math.max(0, at - reach), at + reach + 1).filter((v) => v !== null && v !== undefined);
    return near.length ? near.reduce((a, b) => a + b, 0) / near.length : null;
  });
  const mean = (group, column) => {
    const at = new Map();
    for (const run of group) run.steps.forEach((step, place) => {
      const value = run.values[column][place];
      if (value === null || value === undefined) return;
      const sum = at.get(step) || [0, 0];
      at.set(step, [sum[0] + value, sum[1] + 1]);
    });
    // Only steps that all runs of the group have: else a mean jumps where runs end
    const most = Math.max(...Array.from(at.values(), (sum) => sum[1]));
    const steps = Array.from(at.keys()).filter((step) => at.get(step)[1] === most).sort((a, b) => a - b);
    return { x: steps, y: steps.map((step) => at.get(step)[0] / at.get(step)[1]) };
  };
  const folded = (text, width) => {
    const lines = [""];
    for (const word of text.split(" ")) {
      if (lines[lines.length - 1].length + word.length > width && lines[lines.length - 1]) lines.push("");
      lines[lines.length - 1] += (lines[lines.length - 1] ? " " : "") + word;
    }
    return lines.map(plain).join("<br>");
  };

  const curves = () => {
    const column = Number(byId("quantity").value), reach = Number(byId("smooth").value), by = Number(byId("by").value || 0);
    const has = runs.filter((run) => run.values[column] && run.values[column].some((v) => v !== null));
    const groups = new Map();
    for (const run of has) {
      const value = keys.length ? run.of[by] : "";
      groups.set(value, [...(groups.get(value) || []), run]);
    }
    const traces = [];
    let place = 0;
    for (const [value, group] of groups) {
      const colour = DATA.colours[place % DATA.colours.length];
      const dash = dashes[Math.floor(place / DATA.colours.length) % dashes.length];
      const name = keys.length ? folded(keys[by] === "prompt" ? value : `${keys[by]}=${value}`, 44) : "run";
      const many = group.length > 1;
      if (runs.length <= 200) for (const run of group) traces.push({
        type: "scatter", mode: "lines", x: run.steps, y: smoothed(run.values[column], reach), legendgroup: value,
        showlegend: !many, name, opacity: many ? 0.28 : 1, line: { color: colour, width: many ? 1 : 2, dash },
        text: run.steps.map(() => folded(run.label, 44)), hovertemplate: "%{text}<br>step %{x}: %{y:.4g}<extra></extra>",
      });
      if (many || runs.length > 200) {
        const line = mean(group, column);
        traces.push({
          type: "scatter", mode: "lines", x: line.x, y: smoothed(line.y, reach), name, legendgroup: value, showlegend: true,
          line: { color: colour, width: 2.5, dash }, hovertemplate: `${name}<br>mean of ${group.length} at step %{x}: %{y:.4g}<extra></extra>`,
        });
      }
      place += 1;
    }
    const ink = DATA.ink, tick = { color: ink.quiet, size: 12 };
    const axis = { gridcolor: ink.rule, zeroline: false, tickfont: tick, fixedrange: true, automargin: true };
    const legend = groups.size > 1 && groups.size <= 12;
    const lines = Array.from(groups.keys(), (value) => folded(value, 44).split("<br>").length).reduce((a, b) => a + b, 0);
    const room = 40 + 17 * lines + 8 * groups.size;
    const isNarrow = byId("curve").clientWidth < 640;
    Plotly.react("curve", traces, {
      height: legend ? (isNarrow ? 340 + room : Math.max(420, 20 + room)) : isNarrow ? 340 : 420,
      margin: { l: 12, r: 12, t: 28, b: 44 }, font: { family: ink.font, size: 13, color: ink.text },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", dragmode: false,
      hoverlabel: { bgcolor: "#fff", bordercolor: ink.quiet, font: { family: ink.font, size: 13, color: ink.text }, align: "left" },
      showlegend: legend, legend: isNarrow ? { orientation: "h", y: -0.2, yanchor: "top", x: 0 } : { y: 1, x: 1.02 },
      title: { text: plain(names[column]), x: 0, xref: "paper", xanchor: "left", font: { size: 14 }, y: 0.99, yanchor: "top" },
      xaxis: { ...axis, title: { text: "step", font: tick, standoff: 8 } },
      yaxis: { ...axis, type: byId("log").checked ? "log" : "linear" },
    }, config);
    byId("curve").setAttribute("aria-label", `Learning curves of ${names[column]} for ${has.length} runs`);
    const many = has.length > groups.size ? "Thin lines are runs, thick lines the means of runs of one colour. " : "";
    const hidden = groups.size > 12 ? `${groups.size} values are too many for a legend: point at a line. ` : "";
    byId("curve-note").textContent = many + hidden;
  };
  for (const id of ["quantity", "by", "smooth", "log"]) byId(id).addEventListener("input", curves);
  document.querySelector("#curves .tools").hidden = false;
  curves();
})();
