"""The package's commands as processes of their own, without the ten seconds in which each would import its libraries.

A server of `multiprocessing` has imported them and forks for every command: that has an exit code, output, variables,
a folder and signals of its own. What the libraries read of the variables when they are imported is the server's: the
tests' number of threads, no network for the Hugging Face hub, and an empty cache. Where that matters, or how a command
starts, a test starts an interpreter.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

IMPORTED = ["headstudio.trainer", "headstudio.guidance.components", "headstudio.render.cpu", "open_clip"]


class Command:
    """`python -m MODULE WORDS`, as far as tests need `subprocess.Popen` of it.

    Args:
        module: what has the command's `main`, which takes the words and returns or raises the exit code.
        words: the command line.
        cwd: its current directory.
        env: its variables; None is those of this process.
    """

    def __init__(self, module: str, *words: str, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self._files = [tempfile.NamedTemporaryFile(mode="r", encoding="utf-8") for _ in range(2)]  # noqa: SIM115
        names = [file.name for file in self._files]
        given = (module, words, str(cwd), dict(os.environ if env is None else env), names)
        self._process = _server().Process(target=_work, args=given)
        self._process.start()
        self.args = [module, *words]

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    @property
    def returncode(self) -> int | None:
        """As `subprocess` has it: minus the signal that killed it; None while it runs."""
        code: int | None = self._process.exitcode
        return code

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Its output and its errors, once it has ended; it is killed when that takes too long."""
        self._process.join(timeout)
        if self.returncode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired(self.args, timeout, *(file.read() for file in self._files))
        out, errors = (file.read() for file in self._files)
        return out, errors


def run(
    module: str, *words: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """A command from its start to its end, as `subprocess.run` tells it. The arguments are those of `Command`."""
    command = Command(module, *words, cwd=cwd, env=env)
    out, errors = command.communicate(timeout)
    assert command.returncode is not None
    return subprocess.CompletedProcess(command.args, command.returncode, out, errors)


@lru_cache(maxsize=1)
def _server() -> Any:
    """What makes the processes. The server begins now and ends with this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", os.devnull)
        forkserver.ensure_running()
    return context


def _work(module: str, words: tuple[str, ...], cwd: str, env: dict[str, str], files: list[str]) -> None:
    """In the new process: what an interpreter does before a program."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, name in enumerate(files, 1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [module, *words]
    sys.exit(import_module(module).main(list(words)))
