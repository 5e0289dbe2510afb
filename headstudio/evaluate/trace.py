"""How early a head becomes what it should be: scores over the steps of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstudio.evaluate import Metric
    from headstudio.render import SceneRenderer


class Trace:
    """Some scores of the unfinished avatar, now and then; a watcher (`headstudio.evaluate.Watcher`).

    Args:
        every_steps: how often; the first point is taken after the first step.
        early: share of the training that counts as early.
        metrics: what judges; few views of small pictures will do, as this is done again and again.
        curves: name of each curve -> the score of `metrics` that it shows.
    """

    def __init__(
        self, *, every_steps: int, early: float, metrics: Mapping[str, Metric], curves: Mapping[str, str]
    ) -> None:
        self.every_steps, self.early = every_steps, early
        self.metrics, self.curves = metrics, curves

    def due(self, step: int) -> bool:
        return step % self.every_steps == 0

    def see(self, avatar: Any, renderer: SceneRenderer, prompt: str) -> dict[str, float]:
        """One point: a value of each curve that the sentence and the head allow."""
        scores: dict[str, float] = {}
        for metric in self.metrics.values():
            scores |= metric(avatar, renderer, prompt).scores
        return {curve: scores[score] for curve, score in self.curves.items() if score in scores}

    def sum_up(self, points: Mapping[int, Mapping[str, float]], steps: int) -> dict[str, Any]:
        """{"steps": [...], "alignment": [...], ..., "alignment_early": ...}; empty where nobody looked.

        Args:
            points: what `see` returned after each step; None stands where a point lacks a curve.
            steps: of the whole training. `X_early` is the mean of curve X over its first part, the area under it.
        """
        found: dict[str, Any] = {"steps": list(points)} if points else {}
        for curve in self.curves:
            known = {step: point[curve] for step, point in points.items() if curve in point}
            if known:
                found[curve] = [known.get(step) for step in points]
            if early := [value for step, value in known.items() if step < self.early * steps]:
                found[f"{curve}_early"] = round(sum(early) / len(early), 5)
        return found
