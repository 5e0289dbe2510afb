"""What each number of a run is called, in what it is measured, and which way is better: one line a metric.

docs/metrics.md defines them; this is what fits beside a table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Better = Literal["more", "less", "neither"]


@dataclass(frozen=True)
class Metric:
    """How a number is shown.

    Attributes:
        name: as in metrics.json.
        label: for people.
        unit: "" for plain numbers.
        span: the range it can have, in words.
        better: which direction is an improvement; "neither" for what is only told, not judged.
        says: one sentence; "" where nobody has written one.
        digits: after the decimal point.
    """

    name: str
    label: str
    unit: str = ""
    span: str = ""
    better: Better = "neither"
    says: str = ""
    digits: int = 3

    def show(self, value: float) -> str:
        """The value with as many digits as mean something."""
        if value != value:
            return "–"
        digits = self.digits
        if self.digits == 3 and abs(value) >= 100:  # a number nobody has described
            digits = 0 if abs(value) >= 1000 else 1
        return f"{value:,.{digits}f}".replace(",", "\u202f").replace("-", "\u2212")

    def show_signed(self, value: float) -> str:
        """A difference: always with its sign."""
        return f"+{self.show(value)}" if value > 0 else self.show(value)


_CLIP = (
    Metric("score", "CLIP score", "cosine", "−1 to 1", "more", "How well a CLIP model finds the sentence in the head, "
           "averaged over 24 views all around. Comparable only within one CLIP model and protocol."),
    Metric("score_front", "CLIP score (front)", "cosine", "−1 to 1", "more",
           "The same over the views from the front, where eyes and lips show."),
    Metric("score_suffix", "CLIP score (view words)", "cosine", "−1 to 1", "more",
           "The same with “front view”, “side view” and so on added to the sentence."),
    Metric("r_precision", "R‑precision", "share", "0 to 1", "more",
           "Share of the views for which the model prefers the run’s own sentence to all the others it is shown.", 2),
    Metric("r_precision_front", "R‑precision, front", "share", "0 to 1", "more",
           "The same over the views from the front.", 2),
    Metric("rank", "CLIP rank", "place", "1 is best", "less",
           "The place of the run’s sentence among the others, for all views together.", 1),
    Metric("first", "CLIP first", "0 or 1", "0 to 1", "more", "1 where the rank is 1.", 2),
)  # fmt: skip

_KNOWN = (
    Metric("alignment_rest", "Alignment at rest", "share", "0 to 1", "more",
           "Share of the attributes named in the sentence that the head at rest shows where it should.", 2),
    Metric("alignment_animation", "Alignment in motion", "share", "0 to 1", "more",
           "The same while the head talks and moves.", 2),
    Metric("landmark_error", "Landmark error", "eye distances", "0 and up", "less",
           "How far what one sees strays from the landmarks of the head that drives it."),
    Metric("lip_separation", "Lip separation", "share", "about 0 to 1", "more",
           "How far the lips part in the picture when the jaw opens, as a share of how far they should.", 2),
    Metric("mouth_opening", "Mouth opening", "share", "0 to 1", "more",
           "With the mouth open, how much of what one sees in it is the mouth’s own.", 2),
    Metric("stray_share", "Stray share", "share", "0 to 1", "less",
           "Share of the opacity that lies far from the triangle that carries it; hair and hats leave by right."),
    Metric("stray_distance", "Stray distance", "world units", "0 and up", "less",
           "Mean distance of the Gaussians from their triangles; the head is about 2 high."),
    Metric("color_bleeding", "Colour bleeding", "colour", "0 to 1", "less",
           "How much the colours of lips, eyes and mouth are painted over by other regions."),
    Metric("silhouette_iou", "Outline", "share", "0 to 1", "more",
           "Overlap of the head’s outline with the right one: hair, beard and hat, from all around."),
    Metric("silhouette_iou_motion", "Outline in motion", "share", "0 to 1", "more", "The same while the head moves."),
    Metric("outside_share", "Opacity outside", "share", "0 to 1", "less",
           "Share of the avatar’s opacity that lies beside the right outline: what floats around the head."),
    Metric("outside_share_motion", "Opacity outside in motion", "share", "0 to 1", "less",
           "The same while the head moves."),
    Metric("coverage", "Coverage", "share", "0 to 1", "more",
           "Share of the driving head’s surface, from all around, that is not left bare."),
    Metric("coverage_motion", "Coverage in motion", "share", "0 to 1", "more", "The same while the head moves."),
    Metric("mouth_hole", "Hole for a mouth", "share", "0 to 1", "less",
           "Of a character without a mouth: how much of the opened mouth does not look like skin.", 2),
    Metric("mouth_shown", "Mouth unlike skin", "share", "0 to 1", "neither",
           "How much of the opened mouth does not look like the skin around it.", 2),
    Metric("trace.alignment", "Alignment on the way", "share", "0 to 1", "more",
           "Alignment at rest of the unfinished head, from three sides.", 2),
    Metric("trace.coverage", "Coverage on the way", "share", "0 to 1", "more",
           "Coverage at rest of the unfinished head, from four sides."),
    Metric("trace.alignment_early", "Early alignment", "share", "0 to 1", "more",
           "Mean alignment of the unfinished head over the first third of the training.", 2),
    Metric("trace.coverage_early", "Early coverage", "share", "0 to 1", "more",
           "Mean coverage of the unfinished head over the first third of the training."),
    Metric("seconds", "Time", "s", "0 and up", "less", "Training time of the run; depends on the machine.", 0),
    Metric("peak_memory_gb", "Memory", "GB", "0 and up", "less", "The most memory in use; depends on the machine.", 2),
    Metric("gaussians", "Gaussians", "", "1 and up", "neither", "How many Gaussians the finished head has.", 0),
    Metric("render_fps", "Speed", "pictures/s", "0 and up", "more",
           "Pictures of 512 × 512 drawn per second; depends on the machine.", 1),
)  # fmt: skip
_BY_NAME = {metric.name: metric for metric in _KNOWN}

_MAIN = ("alignment_rest", "alignment_animation")
_MAIN_OF_CLIP = ("score", "score_front", "r_precision")
COSTS = ("seconds", "peak_memory_gb", "gaussians")
"""What every table shows beside the main scores."""


def metric(name: str) -> Metric:
    """The entry of a metric; one that nobody has described stands under its own name and is not judged."""
    whole, _, part = name.partition("/")
    if whole in _BY_NAME:
        found = _BY_NAME[whole]
        return replace(found, name=name, label=f"{found.label}: {part.replace('_', ' ')}") if part else found
    model, of_model = _of_clip(name)
    if of_model is not None:
        told = model.removeprefix("clip").strip("_")
        return replace(of_model, name=name, label=f"{of_model.label} ({told})" if told else of_model.label)
    return Metric(name, name, better="less" if name.endswith("_error") else "neither")


def main_metrics(names: Iterable[str]) -> list[str]:
    """What a comparison shows unasked, of the metrics that the runs have: CLIP's, model by model, then alignment."""
    names = list(names)
    parts = {name: _of_clip(name) for name in names}
    of_clip = [name for name, (_, found) in parts.items() if found is not None and found.name in _MAIN_OF_CLIP]
    models = list(dict.fromkeys(parts[name][0] for name in of_clip))
    of_clip.sort(key=lambda name: (models.index(parts[name][0]), [m.name for m in _CLIP].index(_known(parts[name][1]))))
    return of_clip + [name for name in _MAIN if name in names]


def _of_clip(name: str) -> tuple[str, Metric | None]:
    """The CLIP model's name and which of its scores it is: ("clip_l14", score) for clip_l14_score."""
    for entry in sorted(_CLIP, key=lambda entry: -len(entry.name)):
        if name.startswith("clip") and name.endswith(f"_{entry.name}"):
            return name.removesuffix(f"_{entry.name}"), entry
    return "", None


def _known(entry: Metric | None) -> str:
    return entry.name if entry else ""
