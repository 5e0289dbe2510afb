"""What a finished avatar is worth: metrics, each a callable that returns named numbers and what they are made of."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from headstudio.render import SceneRenderer

log = logging.getLogger(__name__)

UNRIGGED = "the avatar is not made of Gaussians that are rigged to triangles"
"""Why some metrics say nothing about some representations."""


@dataclass(frozen=True)
class Judgement:
    """What one metric found.

    `scores` are the numbers that tables and dashboards show. `details` is what they are means of (per view, per pose),
    as JSON can hold it. A metric that does not apply to an avatar has no scores and says why ("not_measured").
    """

    scores: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


class Metric(Protocol):
    """One entry of the `metrics` group: a judge of the finished avatar."""

    def __call__(self, avatar: Any, renderer: SceneRenderer, prompt: str) -> Judgement:
        """Judge `avatar`, a representation with `pose(pose)` and `head`, against the sentence that made it.

        The same avatar gives the same scores: what a metric draws at random it seeds itself.
        """
        ...


@runtime_checkable
class Watcher(Protocol):
    """Another kind of entry: one that looks at the avatar while it is made, and changes nothing of how it is made."""

    def due(self, step: int) -> bool:
        """Whether to look at what this step has made."""
        ...

    def see(self, avatar: Any, renderer: SceneRenderer, prompt: str) -> dict[str, float]:
        """A few numbers, logged with the step's; the rule for what is drawn at random is that of `Metric`."""
        ...

    def sum_up(self, points: Mapping[int, Mapping[str, float]], steps: int) -> dict[str, Any]:
        """What all points together say, as JSON can hold it; nothing if there are none.

        Args:
            points: what `see` returned, by step.
            steps: of the whole training.
        """
        ...


class Watch:
    """The watchers of one run, for the trainer. What they see goes to the loggers as `ENTRY/NAME`, so that a run that
    was killed finds it again in its metrics.jsonl.

    Args:
        metrics: the group; entries that are no watchers are left alone.
        prompt: the run's sentence.
    """

    def __init__(self, metrics: Mapping[str, Any], prompt: str) -> None:
        self._watchers = _watchers(metrics)
        self._prompt = prompt

    def due(self, step: int) -> bool:
        return any(watcher.due(step) for watcher in self._watchers.values())

    def see(self, step: int, avatar: Any, renderer: SceneRenderer) -> dict[str, float]:
        """The row of what is due after this step; empty where nothing is."""
        return {
            f"{entry}/{name}": value
            for entry, watcher in self._watchers.items()
            if watcher.due(step)
            for name, value in watcher.see(avatar, renderer, self._prompt).items()
        }


def watched(metrics: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """What each watcher makes of a run's rows (the lines of its metrics.jsonl), by its entry's name."""
    found = {}
    for entry, watcher in _watchers(metrics).items():
        points = {
            int(row["step"]): seen
            for row in rows
            if (seen := {name.partition("/")[2]: v for name, v in row.items() if name.startswith(f"{entry}/")})
        }
        if told := watcher.sum_up(points, int(rows[-1]["step"]) + 1 if rows else 0):
            found[entry] = told
    return found


def _watchers(metrics: Mapping[str, Any]) -> dict[str, Watcher]:
    return {entry: metric for entry, metric in metrics.items() if isinstance(metric, Watcher)}


def prepare(metrics: Mapping[str, Any]) -> None:
    """Let every metric that must fetch something do so now, before the work that it will judge.

    Raises:
        UserError: for what cannot be had.
    """
    for metric in metrics.values():
        if hasattr(metric, "prepare"):
            metric.prepare()


def judge(metrics: Mapping[str, Any], avatar: Any, renderer: SceneRenderer, prompt: str) -> dict[str, Any]:
    """All scores side by side, and under "details" what each judge among `metrics` has to say beyond them.

    Raises:
        ValueError: if two metrics give the same name.
    """
    scores: dict[str, Any] = {}
    details: dict[str, Any] = {}
    for name, metric in metrics.items():
        if isinstance(metric, Watcher):
            continue
        found: Judgement = metric(avatar, renderer, prompt)
        if twice := scores.keys() & found.scores.keys():
            raise ValueError(f"metrics.{name} gives {', '.join(sorted(twice))}, which another metric gave already")
        scores |= found.scores
        if why := found.details.get("not_measured"):
            log.info("metrics.%s is not measured: %s", name, why)
        if found.details:
            details[name] = found.details
    return {**scores, "details": details} if details else scores
