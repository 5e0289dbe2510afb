"""A sweep of an ablation goes on like any other: what is done stays, what an edited file adds is done."""

from __future__ import annotations

import pytest
from app import expected
from shell import Shell

pytestmark = pytest.mark.slow
TWO = """\
# Two arms
title: Two
paper: Nothing.
base: [steps=3]
prompts: tiny3
seeds: [0]
arms:
  one: {label: one, overrides: [n=1]}
  two: {label: two, overrides: [n=2]}
"""


@pytest.mark.parametrize("launcher", ["local", "debug"])
def test_an_edited_file_adds_its_runs(launcher: str, shell: Shell) -> None:
    words = ["+ablation=two.yaml", "prompt=x", f"hydra/launcher={launcher}"]
    (shell.folder / "two.yaml").write_text(TWO)
    assert "2 runs: 2 to do" in shell.run(*words)
    (shell.folder / "two.yaml").write_text(TWO + "  three: {label: three, overrides: [n=3]}\n")
    assert "3 runs: 1 to do, 2 already finished" in shell.run(*words)
    (shell.folder / "two.yaml").write_text(TWO.replace("n=2", "n=4"))
    assert "2 runs: 1 to do, 1 already finished" in shell.run(*words)
    assert [shell.result(n) for n in range(1, 5)] == [expected(n, 3) for n in range(1, 5)]
    assert [len(shell.starts(n)) for n in range(1, 5)] == [1, 1, 1, 1]
