"""Seconds of a run, and of each phase of its steps."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


class _HostClock:
    """Moments by the host's clock."""

    def now(self) -> Any:
        return time.perf_counter()

    def between(self, start: Any, end: Any) -> float:
        return float(end - start)


class _DeviceClock:
    """Moments in an accelerator's queue of work: marking one waits for nothing, asking for the time between does."""

    def now(self) -> Any:
        event = torch.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start: Any, end: Any) -> float:
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


class PhaseTimer:
    """Adds up seconds; on an accelerator a phase begins and ends when its kernels do.

    The first step of every process counts in `seconds` but not in the phases: it compiles kernels and fills caches.
    An accelerator's moments are marked in its queue and read by `means`, `lap` and `save`, so that timing stops nobody.

    Args:
        device: where the phases do their work; the host's clock serves the CPU, and None.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._clock = _DeviceClock() if _is_accelerator(device) else _HostClock()
        self._phases: dict[str, float] = {}
        self._steps = 0
        self._before = 0.0
        self._start = time.monotonic()
        self._is_warm = False
        self._current: list[tuple[str, Any, Any]] = []
        self._unread: list[tuple[str, Any, Any]] = []
        self._lap: dict[str, float] = {}
        self._lap_steps, self._lap_start = 0, self._start

    @classmethod
    def continued(cls, path: Path, device: torch.device | None = None) -> PhaseTimer:
        """A timer that goes on from what `save` wrote; a fresh one if that is missing or half written."""
        timer = cls(device)
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            timer._phases, timer._steps, timer._before = saved["phases"], saved["steps"], saved["seconds"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return timer

    def save(self, path: Path) -> None:
        """Keep the sums for the process that goes on; times are no part of a checkpoint, which must be repeatable."""
        self._read()
        content = {"phases": self._phases, "steps": self._steps, "seconds": self.seconds}
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = self._clock.now()
        yield
        self._current.append((phase, start, self._clock.now()))

    def end_step(self) -> None:
        """Close one step."""
        if self._is_warm:
            self._steps += 1
            self._lap_steps += 1
            self._unread += self._current
        else:
            self._lap_start = time.monotonic()
        self._is_warm = True
        self._current = []

    @property
    def seconds(self) -> float:
        """Since the run began, without the time between its processes."""
        return self._before + time.monotonic() - self._start

    def means(self) -> dict[str, float]:
        """Mean seconds per step of each phase, in the order of the step."""
        self._read()
        return {phase: total / self._steps for phase, total in self._phases.items()} if self._steps else {}

    def lap(self) -> dict[str, float]:
        """Mean seconds per step since the last call: `step` by the clock, with saving and logging, then each phase.

        Nothing until a step that counts has been done.
        """
        if not self._lap_steps:
            return {}
        self._read()
        now, steps = time.monotonic(), self._lap_steps
        found = {"step": now - self._lap_start, **self._lap}
        self._lap, self._lap_steps, self._lap_start = {}, 0, now
        return {phase: seconds / steps for phase, seconds in found.items()}

    def _read(self) -> None:
        """Add up the phases of the steps that have ended."""
        for phase, start, end in self._unread:
            seconds = self._clock.between(start, end)
            self._phases[phase] = self._phases.get(phase, 0.0) + seconds
            self._lap[phase] = self._lap.get(phase, 0.0) + seconds
        self._unread = []


def _is_accelerator(device: torch.device | None) -> bool:
    present = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device is not None and present is not None and device.type == present.type
