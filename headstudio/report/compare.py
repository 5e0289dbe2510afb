"""The comparison of settings, key by key and metric by metric: estimates, tests, and what they come to in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from headstudio.evaluate.statistics import (
    Contrast,
    Estimate,
    Score,
    by_setting,
    contrasts,
    estimate,
    in_words,
    least_pairs,
)
from headstudio.report.collect import Collection
from headstudio.report.differences import Differences, Key, measurements
from headstudio.report.glossary import Metric, main_metrics, metric

EVERYTHING, MEASURED = "all runs", "(measured)"


@dataclass(frozen=True)
class Row:
    """One setting: its estimate, and the runs it is made of."""

    value: str
    estimate: Estimate
    runs: tuple[tuple[str, float], ...]  # what differs otherwise, and the value


@dataclass(frozen=True)
class Panel:
    """One metric by one key.

    Attributes:
        told: sentences on pairs of settings that differ.
        rest: sentences on all other pairs.
        short_of: how many pairs every comparison would need where none has as many; 0 where they suffice.
    """

    key: str
    metric: Metric
    is_main: bool
    rows: tuple[Row, ...]
    contrasts: tuple[Contrast, ...] = ()
    told: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()
    short_of: int = 0

    @property
    def pairs(self) -> int:
        """Of the comparison that has most."""
        return max((contrast.pairs for contrast in self.contrasts), default=0)


@dataclass(frozen=True)
class Comparison:
    """All metrics by one key; `key` is None for runs between which nothing but the seed differs."""

    key: Key
    is_ranked: bool  # prompts and seeds are not settings that could be better
    panels: tuple[Panel, ...]

    @property
    def by_value(self) -> list[tuple[str, dict[str, Row]]]:
        """Each setting with its row of every metric, by name."""
        values = dict.fromkeys(row.value for panel in self.panels for row in panel.rows)
        return [(v, {p.metric.name: r for p in self.panels for r in p.rows if r.value == v}) for v in values]

    @property
    def main(self) -> tuple[Panel, ...]:
        return tuple(panel for panel in self.panels if panel.is_main)


def metric_names(collection: Collection) -> list[str]:
    """What the finished runs have, main metrics first; timings of phases are left to the files."""
    names = list(dict.fromkeys(n for m in collection.members for n in m.scores if "." not in n))
    main = main_metrics(names)
    return main + [name for name in names if name not in main]


def comparisons(collection: Collection, found: Differences) -> list[Comparison]:
    """A comparison for each key that differs between finished runs; prompts come last and are not ranked."""
    scored = _scored(collection, found)
    names = metric_names(collection)
    result = []
    for key in sorted(found.keys, key=lambda key: (key.name == "seed", key.name == "prompt")):
        if key.name == "seed" and len(found.keys) > 1:
            continue
        ranked = key in found.axes
        panels = [panel for name in names if (panel := _panel(key.name, name, scored, ranked)) is not None]
        if panels:
            result.append(Comparison(key, ranked, tuple(panels)))
    return result


def _scored(collection: Collection, found: Differences) -> list[tuple[dict[str, str], str, dict[str, Score]]]:
    """Settings, caption and scores of every finished run, each setting once."""
    seen: dict[tuple[tuple[str, str], ...], tuple[dict[str, str], str, dict[str, Score]]] = {}
    measured = measurements(collection)
    ways = list(dict.fromkeys(measured))
    for number, member in enumerate(collection.members):
        settings = dict(found.settings[number])
        if len(ways) > 1:  # runs that were measured differently are no pair
            settings[MEASURED] = str(ways.index(measured[number]))
        if member.scores and tuple(settings.items()) not in seen:
            scores = {
                name: Score(settings, value, _views_of(member.views.get(name, ()), value))
                for name, value in member.scores.items()
                if math.isfinite(value)
            }
            seen[tuple(settings.items())] = settings, found.names(number), scores
    return list(seen.values())


def _views_of(views: tuple[float, ...], mean: float) -> tuple[float, ...]:
    """The views, unless the score is not their mean: then something else wrote them."""
    return views if views and abs(sum(views) / len(views) - mean) < 1e-3 else ()


def _panel(
    key: str, name: str, scored: Sequence[tuple[dict[str, str], str, dict[str, Score]]], ranked: bool
) -> Panel | None:
    having = [(settings, scores[name]) for settings, _, scores in scored if name in scores]
    if not having:
        return None
    about, of_main = metric(name), name in main_metrics([name])
    scores = [score for _, score in having]
    if key == "seed":
        runs = tuple((f"seed={settings['seed']}", score.value) for settings, score in having)
        return Panel(key, about, of_main, (Row(EVERYTHING, estimate(scores), runs),))
    rows = tuple(
        Row(
            value,
            of_value,
            tuple((_others(settings, key), score.value) for settings, score in having if settings[key] == value),
        )
        for value, of_value in by_setting(scores, key).items()
    )
    if not ranked or len(rows) < 2:
        return Panel(key, about, of_main, rows)
    tested = contrasts(scores, key)
    needed = least_pairs(tested[0].together)
    short = needed if all(contrast.pairs < needed for contrast in tested) else 0
    told = tuple(_words(contrast, about) for contrast in tested if contrast.differ)
    rest = tuple(_words(contrast, about) for contrast in tested if not contrast.differ)
    return Panel(key, about, of_main, rows, tuple(tested), told, rest, short)


def _words(contrast: Contrast, about: Metric) -> str:
    if about.better == "neither" and contrast.differ:
        more = contrast.second if contrast.difference.mean > 0 else contrast.first
        less = contrast.first if more == contrast.second else contrast.second
        gap = about.show(abs(contrast.difference.mean))
        p = f"p = {contrast.p:.3f}" if contrast.p and contrast.p >= 0.001 else "p < 0.001"
        return (
            f"{contrast.key}={more} has more {about.label} than {contrast.key}={less}, by {gap} "
            f"({p}, {contrast.pairs} pairs)."
        )
    digits = max(about.digits, 1)
    return in_words(contrast, about.label, more_is_better=about.better != "less", digits=digits)


def _others(settings: dict[str, str], key: str) -> str:
    return ", ".join(v if k == "prompt" else f"{k}={v}" for k, v in settings.items() if k not in (key, MEASURED))
