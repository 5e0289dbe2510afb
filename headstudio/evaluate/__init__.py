"""What a finished avatar is worth: metrics, each a callable that returns named numbers and what they are made of."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

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
    """One entry of the `metrics` group."""

    def __call__(self, avatar: Any, renderer: SceneRenderer, prompt: str) -> Judgement:
        """Judge `avatar`, a representation with `pose(pose)` and `head`, against the sentence that made it.

        The same avatar gives the same scores: what a metric draws at random it seeds itself.
        """
        ...


def prepare(metrics: Mapping[str, Any]) -> None:
    """Let every metric that must fetch something do so now, before the work that it will judge.

    Raises:
        UserError: for what cannot be had.
    """
    for metric in metrics.values():
        if hasattr(metric, "prepare"):
            metric.prepare()


def judge(metrics: Mapping[str, Metric], avatar: Any, renderer: SceneRenderer, prompt: str) -> dict[str, Any]:
    """All scores side by side, and under "details" what each entry of `metrics` has to say beyond them.

    Raises:
        ValueError: if two metrics give the same name.
    """
    scores: dict[str, Any] = {}
    details: dict[str, Any] = {}
    for name, metric in metrics.items():
        found = metric(avatar, renderer, prompt)
        if twice := scores.keys() & found.scores.keys():
            raise ValueError(f"metrics.{name} gives {', '.join(sorted(twice))}, which another metric gave already")
        scores |= found.scores
        if why := found.details.get("not_measured"):
            log.info("metrics.%s is not measured: %s", name, why)
        if found.details:
            details[name] = found.details
    return {**scores, "details": details} if details else scores
