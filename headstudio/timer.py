"""Seconds of a run, and of each phase of its steps."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


class PhaseTimer:
    """Adds up wall-clock seconds; on a GPU a phase ends when its kernels do.

    The first step of every process counts in `seconds` but not in the phases: it compiles kernels and fills caches.
    """

    def __init__(self) -> None:
        self._phases: dict[str, float] = {}
        self._steps = 0
        self._before = 0.0
        self._start = time.monotonic()
        self._is_warm = False
        self._current: dict[str, float] = {}
        self._lap: dict[str, float] = {}
        self._lap_steps, self._lap_start = 0, self._start

    @classmethod
    def continued(cls, path: Path) -> PhaseTimer:
        """A timer that goes on from what `save` wrote; a fresh one if that is missing or half written."""
        timer = cls()
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            timer._phases, timer._steps, timer._before = saved["phases"], saved["steps"], saved["seconds"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return timer

    def save(self, path: Path) -> None:
        """Keep the sums for the process that goes on; times are no part of a checkpoint, which must be repeatable."""
        content = {"phases": self._phases, "steps": self._steps, "seconds": self.seconds}
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self._current[phase] = self._current.get(phase, 0.0) + time.perf_counter() - start

    def end_step(self) -> None:
        """Close one step."""
        if self._is_warm:
            self._steps += 1
            self._lap_steps += 1
            for phase, seconds in self._current.items():
                self._phases[phase] = self._phases.get(phase, 0.0) + seconds
                self._lap[phase] = self._lap.get(phase, 0.0) + seconds
        else:
            self._lap_start = time.monotonic()
        self._is_warm = True
        self._current = {}

    @property
    def seconds(self) -> float:
        """Since the run began, without the time between its processes."""
        return self._before + time.monotonic() - self._start

    def means(self) -> dict[str, float]:
        """Mean seconds per step of each phase, in the order of the step."""
        return {phase: total / self._steps for phase, total in self._phases.items()} if self._steps else {}

    def lap(self) -> dict[str, float]:
        """Mean seconds per step since the last call: `step` by the clock, with saving and logging, then each phase.

        Nothing until a step that counts has been done.
        """
        if not self._lap_steps:
            return {}
        now, steps = time.monotonic(), self._lap_steps
        found = {"step": now - self._lap_start, **self._lap}
        self._lap, self._lap_steps, self._lap_start = {}, 0, now
        return {phase: seconds / steps for phase, seconds in found.items()}
