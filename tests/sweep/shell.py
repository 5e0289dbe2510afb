"""Starting the app of this folder, and asking how its runs stand."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from headstudio.sweep.__main__ import main as sweep_command

APP = Path(__file__).parent / "app.py"


class Shell:
    """A user's shell in an empty folder.

    Args:
        folder: its current directory.
        launcher: options put before those of every start of the app.
        environment: variables added to its environment.
    """

    def __init__(self, folder: Path, launcher: tuple[str, ...] = (), environment: dict[str, str] | None = None) -> None:
        self.folder, self.launcher = folder, launcher
        self.environment = {**os.environ, **(environment or {})}

    def start(self, *words: str, python: tuple[str, ...] = (str(APP), "-m")) -> subprocess.Popen[str]:
        extra = self.launcher if python[0] == str(APP) else ()
        return subprocess.Popen(
            [sys.executable, *python, *extra, *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_interruptible,
        )

    def run(self, *words: str, code: int | None = 0, timeout: float = 120) -> str:
        """The app's multirun with these overrides; what it printed."""
        return ended(self.start(*words), code, timeout)

    def sweep(self, *words: str, code: int | None = 0, timeout: float = 120) -> str:
        """`python -m headstudio.sweep`; what it printed."""
        return ended(self.start(*words, python=("-m", "headstudio.sweep")), code, timeout)

    def states(self) -> dict[str, str]:
        """Name without the steps to state, as `status --json` has it."""
        if not (self.folder / "sweep" / ".sweep" / "commands").exists():
            return {}  # not yet
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            assert sweep_command(["status", str(self.folder / "sweep"), "--json"]) == 0
        rows = json.loads(told.getvalue())
        return {row["name"].partition("-")[0]: row["state"] for row in rows}

    def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        until(condition, seconds, lambda: str(self.states()))

    def result(self, n: int, steps: int = 3) -> str:
        return (self.root(n, steps) / "result.txt").read_text()

    def root(self, n: int, steps: int = 3) -> Path:
        return self.folder / "sweep" / f"n{n}-steps{steps}"

    def starts(self, n: int, steps: int = 3) -> list[list[str]]:
        """GPU, time and first step of every start of a run."""
        path = self.root(n, steps) / "starts.txt"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def _interruptible() -> None:
    """Ctrl-C reaches a program although the tests were started in the background, where it is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def ended(process: subprocess.Popen[str], code: int | None, timeout: float) -> str:
    out, _ = process.communicate(timeout=timeout)
    assert code is None or process.returncode == code, f"exit code {process.returncode}\n{out}"
    return out


def until(condition: Callable[[], bool], seconds: float, otherwise: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not come true in {seconds} s: {otherwise()}"
        time.sleep(0.1)
