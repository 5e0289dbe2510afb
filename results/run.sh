#!/usr/bin/env bash
# Makes what stands in this folder again: about an hour on two cores. Finished runs are kept, so it can be interrupted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}

# The shipped prior, judged on 256 sentences.
"$python" -m headstudio.synthetic.judge headstudio/assets/prior_tiny --out results/prior

# Eight heads from eight sentences that no setting was chosen by.
sweep=multirun/eight_prompts
"$python" -m headstudio.run -m prompt=@tiny8 hydra.sweep.dir="$sweep"
cp "$sweep/summary.csv" results/eight_prompts/
"$python" -m headstudio.report.sheet "$sweep" results/eight_prompts/sheet.png

# The three regularisations of the demo.
mkdir -p results/reg
sweep=multirun/reg
"$python" -m headstudio.run -m reg=none,strict,scaled hydra.sweep.dir="$sweep"
cp "$sweep/summary.csv" results/reg/
"$python" -m headstudio.report.sheet "$sweep" results/reg/sheet.png

# The same three over three sentences and three seeds, compared.
mkdir -p results/reg_grid
sweep=multirun/reg_grid
"$python" -m headstudio.run -m reg=none,strict,scaled prompt=@tiny3 seed=0,1,2 hydra.sweep.dir="$sweep"
cp "$sweep/summary.csv" results/reg_grid/

"$python" -m headstudio.bench | tee results/bench.txt
