#!/usr/bin/env bash
# Makes the runs that the numbers in this folder come from: most of a day on two cores. Finished runs are kept, so it can
# be interrupted. The tables and figures are then made by `make results`, in seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}

# The shipped prior, judged on 256 sentences.
"$python" -m headstudio.synthetic.judge headstudio/assets/prior_tiny --out results/prior

# Eight heads from eight sentences that no setting was chosen by.
"$python" -m headstudio.run -m prompt=@tiny8 metrics=ablation hydra.launcher.workers=2 hydra.sweep.dir=multirun/eight_prompts

# The three regularisations of the demo.
"$python" -m headstudio.run -m reg=none,strict,scaled hydra.sweep.dir=multirun/reg

# The same three over three sentences and three seeds, compared.
"$python" -m headstudio.run -m reg=none,strict,scaled prompt=@tiny3 seed=0,1,2 hydra.sweep.dir=multirun/reg_grid

# The paper's ablations, all into multirun/ablations, as they share runs.
for file in ablations/*.yaml; do
  "$python" -m headstudio.run -m +ablation="$(basename "$file" .yaml)"
done

"$python" -m headstudio.bench | tee results/bench.txt
