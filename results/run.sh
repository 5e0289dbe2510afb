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

# The same with the default that they began with: its prior, its schedule, its guidance.
before=multirun/before_prior
mkdir -p "$before" && git archive 57388b3 headstudio/assets/prior_tiny | tar x -C "$before"
"$python" -m headstudio.run -m prompt=@tiny8 metrics=ablation guidance=fsds_denoised cleanup=none \
  prior.path="$before/headstudio/assets/prior_tiny" scale.steps=450 scale.batch_size=4 \
  scale.grow.first=80 scale.grow.last=240 scale.grow.interval=80 scale.prune.first=320 scale.prune.last=400 \
  scale.prune.interval=40 scale.shape_freeze_step=300 scale.trace_every_steps=25 \
  hydra.launcher.workers=2 hydra.sweep.dir=multirun/before

# The three regularisations of the demo.
"$python" -m headstudio.run -m reg=none,strict,scaled hydra.sweep.dir=multirun/reg

# The same three over three sentences and three seeds, compared.
"$python" -m headstudio.run -m reg=none,strict,scaled prompt=@tiny3 seed=0,1,2 hydra.sweep.dir=multirun/reg_grid

# The paper's ablations, all into multirun/ablations, as they share runs.
for file in ablations/*.yaml; do
  "$python" -m headstudio.run -m +ablation="$(basename "$file" .yaml)"
done

"$python" -m headstudio.bench | tee results/bench.txt
