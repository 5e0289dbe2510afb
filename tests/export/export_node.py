"""Packages of npm as second readers: installed once per test session into a temporary folder, where node is."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ("gltf-validator@2.0.0-dev.3.10", "@adobe/spz@0.2.2")
"""Khronos' validator, and Niantic's own SPZ code compiled to WebAssembly."""


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose node_modules has `PACKAGES`; skips the test where node or the registry is out of reach."""
    return with_packages(tmp_path_factory.mktemp("node"), *PACKAGES)


def with_packages(folder: Path, *packages: str) -> Path:
    """The folder, with these packages of npm in it; skips the test where node or the registry is out of reach."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs node and npm")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm does not answer")
    if done.returncode:
        pytest.skip(f"npm cannot install: {done.stderr[-300:]}")
    return folder


def run_script(folder: Path, script: str, *words: str) -> Any:
    """What a script prints as JSON."""
    file = folder / "script.mjs"
    file.write_text(script, encoding="utf-8")
    command = ["node", str(file), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])
