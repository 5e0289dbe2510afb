// The table of all runs: sorted by any column, filtered by words and states
(() => {
  const table = byId("table");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const inOrder = new Intl.Collator(undefined, { numeric: true });
  const off = new Set();

  const key = (row, column) => {
    const cell = row.cells[column];
    if (!heads[column].classList.contains("number")) return cell.textContent.trim();
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  };
  const sort = (column, falling) => {
    const sign = falling ? -1 : 1;
    const sorted = rows.map((row, place) => ({ row, place, key: key(row, column) }));
    sorted.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
      const order = typeof a.key === "number" ? a.key - b.key : inOrder.compare(a.key, b.key);
      return sign * order || a.place - b.place;
    });
    body.append(...sorted.map((entry) => entry.row));
    heads.forEach((head, place) => {
      if (head.hasAttribute("aria-sort")) head.setAttribute("aria-sort", place !== column ? "none" : falling ? "descending" : "ascending");
    });
  };
  heads.forEach((head, column) => {
    if (!head.hasAttribute("aria-sort")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      // Scores are wanted with the highest first, everything else from the start
      const first = head.classList.contains("number") && column > 0 ? "descending" : "ascending";
      const next = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
      sort(column, next === "descending");
    });
  });

  const texts = new Map(rows.map((row) => [row, [row.textContent, ...all("[data-filter]", row).map((c) => c.dataset.filter)].join(" ").toLowerCase()]));
  const filter = () => {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      row.hidden = off.has(row.dataset.state) || !words.every((word) => texts.get(row).includes(word));
      count += !row.hidden;
    }
    byId("shown").textContent = count === rows.length ? "" : `${count} of ${rows.length} runs`;
  };
  byId("filter").addEventListener("input", filter);
  for (const chip of all("[data-state].chip")) {
    chip.addEventListener("click", () => {
      const on = chip.getAttribute("aria-pressed") !== "true";
      chip.setAttribute("aria-pressed", String(on));
      off[on ? "delete" : "add"](chip.dataset.state);
      filter();
    });
  }
  const whole = byId("all-metrics");
  if (whole) whole.addEventListener("change", () => table.classList.toggle("whole", whole.checked));
  byId("filters").hidden = false;
})();
