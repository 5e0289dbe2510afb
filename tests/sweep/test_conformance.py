"""Hydra's own conformance suite passes for the launchers that need no cluster (test_slurm.py has the other)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "debug"])
def test_hydras_own_conformance_suite(tmp_path: Path, launcher: str) -> None:
    shutil.copy(Path(__file__).parent / "conformance.py", tmp_path / "test_conformance.py")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_conformance.py"]
    variables = {**os.environ, "CONFORMANCE_LAUNCHER": launcher}
    done = subprocess.run(words, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "skipped" not in done.stdout
