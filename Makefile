# make setup | demo | test | test-slurm | check | results | bench | bench-gpu. Everything runs in .venv, which is made when it is missing or outdated.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.headstudio-installed

.PHONY: setup demo test test-slurm check results bench bench-gpu
.DEFAULT_GOAL := setup

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "headstudio needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || \
	  { echo "python3 -m venv failed; on Debian or Ubuntu: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	$(PY) -m headstudio.run --multirun reg=none,strict,scaled

# Two processes of one thread each: more threads would only wait for each other's cores
test: $(STAMP)
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# A SLURM of one node, brought up and torn down by the tests; as root, with Debian's slurm-wlm and munge
test-slurm: $(STAMP)
	$(PY) -m pytest -m slurm -rs

check: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

# The tables and figures of results/, from the directories of runs; results/run.sh makes the runs
results: $(STAMP)
	PYTHON=$(PY) results/make.sh

bench: $(STAMP)
	$(PY) -m headstudio.bench

# Parity, speed and memory on an NVIDIA GPU; one sentence where there is none
bench-gpu: $(STAMP)
	$(PY) -m headstudio.bench_gpu --text results/bench_gpu.txt
