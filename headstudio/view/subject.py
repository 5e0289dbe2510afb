"""A head to be looked at: a finished run's avatar, or what a training run has made so far."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstudio.errors import UserError
from headstudio.opened import OpenedRun, open_run, read_setting
from headstudio.runstate import RunPaths

log = logging.getLogger(__name__)


class Subject:
    """The avatar of one run; while that trains, the newest that it has saved.

    Args:
        folder: the run's directory, with a setting in it.

    Raises:
        UserError: it is no run, or its head cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.paths = RunPaths(folder)
        self._run = open_run(folder) if self.paths.done.exists() else OpenedRun(self.paths, read_setting(self.paths))
        self.head = self._run.head
        self.finished = False
        self.avatar: Any = None  # None: nothing has been saved yet
        self._stamp = -1
        self._learned: tuple[Any, Any] | None = None  # an avatar and its own shape
        self.refresh()

    @property
    def title(self) -> str:
        """The sentence, and how far the training is."""
        if self.finished:
            return self._run.prompt
        return f"{self._run.prompt} (step {self._step()} of {int(self._run.config.trainer.steps)})"

    @property
    def run(self) -> OpenedRun:
        return self._run

    def refresh(self) -> bool:
        """Load what has been saved since; whether there was anything."""
        if self.finished:
            return False
        if self.paths.done.exists():
            self.avatar, self.finished = self._run.avatar, True
            return True
        try:
            stamp = self.paths.checkpoint.stat().st_mtime_ns
        except OSError:
            return False
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        return self._load_checkpoint()

    def shaped(self, change: Sequence[float]) -> Any:
        """The avatar, its head's first shape coefficients changed by so much from what was learned."""
        shape = self.avatar.shape.data
        if self._learned is None or self._learned[0] is not self.avatar:
            self._learned = self.avatar, shape.clone()
        changed = self._learned[1].clone()
        count = min(len(change), len(changed))
        changed[:count] += changed.new_tensor(change[:count])
        shape.copy_(changed)
        return self.avatar

    def _load_checkpoint(self) -> bool:
        import torch
        from hydra.utils import get_class

        try:
            state = torch.load(self.paths.checkpoint, map_location="cpu", weights_only=True)["avatar"]
            kind: Any = get_class(self._run.config.representation._target_)
            self.avatar = kind.from_state(self._run.head, state)
        except (OSError, KeyError, RuntimeError, UserError) as problem:  # being replaced at this moment, or damaged
            log.warning("The checkpoint %s cannot be read yet (%s)", self.paths.checkpoint, problem)
            return False
        return True

    def _step(self) -> int:
        """The last step that its log tells of."""
        try:
            lines = self.paths.steps.read_bytes().splitlines()
        except OSError:
            return 0
        for line in reversed(lines):
            try:
                return int(json.loads(line)["step"]) + 1
            except (ValueError, KeyError):  # half a line
                continue
        return 0


def told_apart(paths: Sequence[Path]) -> list[str]:
    """The paths' last names, with as many of those before as tell each from the others."""
    parts = [path.resolve().parts for path in paths]
    deepest = max((len(names) for names in parts), default=1)
    for depth in range(1, deepest + 1):
        found = ["/".join(names[-depth:]) for names in parts]
        if len(set(found)) == len(set(parts)):
            return found
    return [str(path) for path in paths]


def runs_in(folder: Path) -> list[Path]:
    """The run in a directory, or the runs of the sweep there, in the order of their names; those that have begun.

    Raises:
        UserError: there is none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no directory; name a run's or a sweep's, such as multirun/SWEEP.")
    found = [folder] if (folder / "config.yaml").exists() else sorted(p.parent for p in folder.glob("*/config.yaml"))
    if not found:
        raise UserError(f"{folder} holds no run that has begun: neither config.yaml nor */config.yaml is there.")
    return found
