#!/usr/bin/env bash
# Makes the tables and figures of this folder again, from the directories of runs in multirun/ (results/run.sh makes those).
# What has no runs here stays as it is; a line for each says what was made and what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}

# table NAME: the table of the sweep multirun/NAME; fails where that sweep is not here, or has not ended.
table() {
  if [[ ! -f multirun/$1/summary.csv ]]; then
    echo "$1: left as it is, as there is no multirun/$1/summary.csv (results/run.sh makes it)"
    return 1
  fi
  mkdir -p "results/$1"
  cp "multirun/$1/summary.csv" "results/$1/"
  echo "$1: $(($(wc -l <"multirun/$1/summary.csv") - 1)) runs in results/$1/summary.csv"
}

for sweep in eight_prompts reg; do
  if table "$sweep"; then "$python" -m headstudio.report sheet "multirun/$sweep" "results/$sweep/sheet.png"; fi
done
table reg_grid || true

"$python" -m headstudio.report ablation all
