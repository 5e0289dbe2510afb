// Sliders: each shows what the pose holds and, when it is moved, sets it. `targets` are [place, plus, minus]: a slider
// at v sets the place to v plus where v is at least 0, and to v minus elsewhere.

function readSlider({ targets }, values) {
  const positive = targets.find(([, plus]) => plus !== 0), negative = targets.find(([, , minus]) => minus !== 0);
  const above = positive ? Math.max(0, values[positive[0]] / positive[1]) : 0;
  const below = negative ? Math.min(0, values[negative[0]] / negative[2]) : 0;
  return above + below;
}

function setSlider({ targets }, value, values) {
  for (const [place, plus, minus] of targets) values[place] = value * (value >= 0 ? plus : minus);
}

class Panel {
  constructor(pack, values, moved) {
    this.values = values;
    this.shown = all("input[data-of]").map((input) => {
      const slider = pack[input.dataset.of][Number(input.dataset.number)];
      const output = input.parentElement.querySelector("output");
      input.addEventListener("input", () => {
        setSlider(slider, Number(input.value), values);
        moved();
      });
      return { input, slider, output };
    });
  }

  // Put every slider where the pose is
  follow() {
    for (const { input, slider, output } of this.shown) {
      const value = readSlider(slider, this.values), text = value.toFixed(slider.unit ? 0 : 2).replace(/^-(0(\.0+)?)$/, "$1");
      if (output.textContent === text + slider.unit) continue;
      input.value = value;
      output.textContent = text + slider.unit;
    }
  }
}

// Save what the canvas shows
function download(address, name) {
  const link = document.createElement("a");
  Object.assign(link, { href: address, download: name });
  link.click();
}
