"""What an ablation's runs measured while they trained, as curves: mean and interval of each arm, step by step."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from headstudio.ablation import Ablation
from headstudio.evaluate.statistics import Estimate, Score, estimate
from headstudio.report.ablation_runs import Result
from headstudio.report.figures import COLOURS, FONT, INK, QUIET, RULE
from headstudio.report.glossary import metric
from headstudio.runstate import RunPaths, write_atomically

TRACE, STEPS = "trace", "steps"
"""The entry of metrics.json that holds the steps and, as lists of the same length, what was measured at them."""
Curve = Mapping[int, Estimate]  # step to estimate

WIDTH, HEIGHT, LEFT, TOP, KEY = 380, 220, 48, 28, 22  # pixels: a panel, its margins, a line of the key


def write_curves(path: Path, wanted: Ablation, found: Sequence[Result]) -> str:
    """Draw every traced number against the step, as SVG; a figure that is there is kept while runs are missing.

    Returns:
        What was done, in words; "" where nothing was traced and nothing is there.
    """
    traces = [(result, _trace(result.directory)) for result in found if result.directory is not None]
    traced = [(result, trace) for result, trace in traces if trace]
    runs = len(wanted.arms) * len(wanted.prompts) * len(wanted.seeds)
    if len(traced) < runs and path.exists():
        return f"its curves are kept as they are ({len(traced)} of {runs} runs are there to draw)"
    if not traced:
        return ""
    names = dict.fromkeys(name for _, trace in traced for name in trace if name != STEPS)
    arms = [arm for arm in wanted.arms if any(result.planned.arm == arm for result, _ in traced)]
    panels = {
        name: {arm: _curve(name, [pair for pair in traced if pair[0].planned.arm == arm]) for arm in arms}
        for name in names
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    counts = Counter(result.planned.arm for result, _ in traced)
    labels = [f"{wanted.arms[arm].label} ({counts[arm]} runs)" for arm in arms]
    write_atomically(path, "\n".join(_svg(panels, labels)).encode())
    return f"its curves are of {len(traced)} runs"


def _trace(directory: Path) -> dict[str, list[Any]]:
    """The lists of a run's trace; empty where there is none."""
    try:
        found = json.loads(RunPaths(directory).metrics.read_bytes()).get(TRACE, {})
    except (OSError, ValueError):
        return {}
    return {name: values for name, values in found.items() if isinstance(values, list)}


def _curve(name: str, traced: Sequence[tuple[Result, Mapping[str, list[Any]]]]) -> Curve:
    """One number of one arm: step to mean over sentences and seeds."""
    scores: dict[int, list[Score]] = {}
    for result, trace in traced:
        settings = {"prompt": result.planned.prompt, "seed": str(result.planned.seed)}
        for step, value in zip(trace[STEPS], trace.get(name, ()), strict=False):
            if value is not None:
                scores.setdefault(step, []).append(Score(settings, value))
    return {step: estimate(of_step) for step, of_step in sorted(scores.items())}


def _svg(panels: Mapping[str, Mapping[str, Curve]], labels: Sequence[str]) -> Iterator[str]:
    """The lines of the file: panels side by side, the key below."""
    width, foot = len(panels) * (LEFT + WIDTH), TOP + HEIGHT + 40
    height = foot + KEY * math.ceil(len(labels) / 2)
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    yield f' font-family="{escape(FONT)}" font-size="12" fill="{INK}">'
    yield f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    for number, (name, curves) in enumerate(panels.items()):
        yield f'<g transform="translate({number * (LEFT + WIDTH) + LEFT},{TOP})">'
        yield from _panel(metric(f"{TRACE}.{name}").label, list(curves.values()))
        yield "</g>"
    for number, label in enumerate(labels):
        x, y = LEFT + number % 2 * (width - LEFT) // 2, foot + KEY * (number // 2)
        yield f'<path d="M{x} {y - 4}h22" {_stroke(number)}/>'
        yield f'<text x="{x + 30}" y="{y}">{escape(label)}</text>'
    yield "</svg>\n"


def _panel(title: str, curves: Sequence[Curve]) -> Iterator[str]:
    """Title, axes, and for each arm a line with its interval as a band."""
    steps = [step for curve in curves for step in curve]
    values = [bound for curve in curves for e in curve.values() for bound in (e.low, e.high)]
    yield f'<text x="0" y="-12" font-weight="600">{escape(title)}, by step</text>'
    if not values:
        return
    most = max(steps) or 1
    ticks = _ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]

    def x(step: float) -> str:
        return f"{step / most * (WIDTH - 24):.1f}"

    def y(value: float) -> str:
        return f"{HEIGHT * (1 - (value - low) / (high - low)):.1f}"

    for tick in ticks:
        yield f'<path d="M0 {y(tick)}H{x(most)}" stroke="{RULE}"/>'
        yield f'<text x="-8" y="{y(tick)}" dy="4" text-anchor="end" fill="{QUIET}">{tick:g}</text>'
    for step in (int(tick) for tick in _ticks(0, most) if tick <= most and tick.is_integer()):
        yield f'<text x="{x(step)}" y="{HEIGHT + 18}" text-anchor="middle" fill="{QUIET}">{step}</text>'
    for number, curve in enumerate(curves):
        there = [f"{x(step)},{y(e.low)}" for step, e in curve.items()]
        back = [f"{x(step)},{y(e.high)}" for step, e in reversed(list(curve.items()))]
        yield f'<polygon points="{" ".join(there + back)}" fill="{_colour(number)}" fill-opacity="0.12"/>'
    for number, curve in enumerate(curves):
        line = " ".join(f"{x(step)},{y(e.mean)}" for step, e in curve.items())
        yield f'<polyline points="{line}" fill="none" {_stroke(number)}/>'


def _ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from at or below `low` to at or above `high`."""
    reach = max(high - low, 1e-6)
    power = 10.0 ** math.floor(math.log10(reach / most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if reach / (power * factor) <= most - 1)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(float(number * step), 12) for number in range(first, max(last, first + 1) + 1)]


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _stroke(number: int, plain: int = 5) -> str:
    """How an arm's line is drawn; dashed beyond the first few, as later colours are like earlier ones."""
    dashes = ' stroke-dasharray="6 4"' if number >= plain else ""
    return f'stroke="{_colour(number)}" stroke-width="2"{dashes}'
