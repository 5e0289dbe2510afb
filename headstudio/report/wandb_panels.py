"""What a W&B workspace and report of a project show, section by section; the names are those of the loggers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstudio import quantities as q
from headstudio.report.glossary import metric

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as wr

SCORES = ("clip_score", "clip_score_front", "clip_r_precision", "alignment_rest", "alignment_animation")
"""What is compared unless others are asked for, by their names in metrics.json and in W&B's summary."""
COSTS = ("seconds", "peak_memory_gb", "gaussians", "render_fps")
MEDIA = ("turntable", "animation", "grid", q.VIEW, q.SNAPSHOT)

GRID = 24  # columns of a report's panel grid


@dataclass(frozen=True)
class Axis:
    """What an experiment varies.

    Attributes:
        name: for people; a config group, or a dotted key of the config.
        key: where W&B's config has its value.
    """

    name: str
    key: str

    @classmethod
    def named(cls, name: str, groups: Collection[str]) -> Axis:
        """The axis of a name; of a config group it is the option taken, which the logger notes under `options`."""
        return cls(name, f"options.{name}" if name in groups else name)


@dataclass(frozen=True)
class Chapter:
    """One section of the workspace and of the report."""

    title: str
    text: str
    panels: list[Any]
    is_open: bool = True


def chapters(axes: Sequence[Axis], scores: Sequence[str]) -> list[Chapter]:
    """Everything, in the order of interest.

    Args:
        axes: what the runs differ in; each gets a section of its own.
        scores: names of the summary.
    """
    return [
        Chapter(
            "Scores",
            "Each line of the first plot is a run: from its setting to its scores. The scatter plots show what a score "
            "costs, and whether the scores agree.",
            _overview(axes, scores),
        ),
        *(_ablation(axis, scores) for axis in axes),
        Chapter("Heads", "The finished heads turning, talking, and from all sides.", _media(MEDIA[:3])),
        Chapter(
            "Learning curves",
            "The loss of score distillation says little by itself: its size depends on the noise levels drawn. What is "
            "worth a look is whether a regulariser grows, and the pictures on the way.",
            _curves(),
        ),
        Chapter("Schedules", "What was in force at each step.", _schedules(), is_open=False),
        Chapter("Cost", "Seconds per step and phase, memory, and how many Gaussians there are.", _cost()),
        Chapter("On the way", "A rendered view, and what the prior made of it.", _media(MEDIA[3:]), is_open=False),
    ]


def _overview(axes: Sequence[Axis], scores: Sequence[str]) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    column = wr.ParallelCoordinatesPlotColumn
    columns = [column(metric=wr.Config(axis.key), display_name=axis.name) for axis in axes]
    columns += [column(metric=wr.SummaryMetric(name), display_name=metric(name).label) for name in scores]
    parallel = wr.ParallelCoordinatesPlot(title="Settings and scores", columns=columns)
    _place(parallel, GRID, 10)
    return [
        parallel,
        *(_bars(name, None) for name in scores[:2]),
        *(_scatter("seconds", name) for name in scores[:1]),
        *(_scatter(scores[0], name) for name in scores[1:] if name.startswith("alignment")),
        _place(wr.RunComparer(diff_only="split"), GRID, 9),
    ]


def _ablation(axis: Axis, scores: Sequence[str]) -> Chapter:
    """One axis: every score and cost by its values, over all that else differs, and the curves apart."""
    import wandb_workspaces.reports.v2 as wr

    by = wr.Config(axis.key)
    bars = [_bars(name, by, axis.name) for name in (*scores, "seconds")]
    curve = _line(f"Total loss by {axis.name}", [q.TOTAL], groupby=by)
    return Chapter(
        f"By {axis.name}",
        f"Means over all runs with the same {axis.name}, whatever else differs; the whiskers are standard errors. "
        "Fair only where the runs of each are alike otherwise: the HTML report compares pairs.",
        [*bars, curve],
    )


def _bars(name: str, by: wr.Config | None, called: str = "") -> Any:
    import wandb_workspaces.reports.v2 as wr

    if by is None:
        return _place(wr.BarPlot(title=metric(name).label, metrics=[name]))
    title = f"{metric(name).label} by {called}"
    return _place(
        wr.BarPlot(title=title, metrics=[name], groupby=by, groupby_aggfunc="mean", groupby_rangefunc="stderr")
    )


def _scatter(x: str, y: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    title = f"{metric(y).label} and {metric(x).label}"
    return _place(wr.ScatterPlot(title=title, x=wr.SummaryMetric(x), y=wr.SummaryMetric(y)))


def _line(title: str, names: Sequence[str] = (), *, group: str = "", groupby: Any = None) -> Any:
    """Curves over the steps: those of `names`, or of every quantity of a group."""
    import wandb_workspaces.reports.v2 as wr

    more: dict[str, Any] = {"metric_regex": f"^{group}/.*"} if group else {}
    if groupby is not None:
        more = {"groupby": groupby, "groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}
    return _place(wr.LinePlot(title=title, x="Step", y=list(names), **more))


def _curves() -> list[Any]:
    return [
        _line("Total loss", [q.TOTAL]),
        _line("Losses", group=q.LOSS),
        _line("Guidance", group=q.GUIDANCE),
        _line("Gaussians", [q.GAUSSIANS]),
    ]


def _schedules() -> list[Any]:
    levels = [f"{q.SCHEDULE}/min_timestep", f"{q.SCHEDULE}/max_timestep"]
    scales = [f"{q.SCHEDULE}/guidance_scale", f"{q.SCHEDULE}/conditioning_scale"]
    return [
        _line("Noise levels, lowest and highest", levels),
        _line("Guidance scales", scales),
        _line("All schedules", group=q.SCHEDULE),
        _line("Learning rates", group=q.RATE),
    ]


def _cost() -> list[Any]:
    return [
        _line("Seconds per step", [q.STEP_SECONDS]),
        _line("Seconds per step and phase", group=q.SECONDS),
        _line("Memory, GB", [q.MEMORY, q.GPU_MEMORY]),
        *(_bars(name, None) for name in COSTS),
    ]


def _media(names: Sequence[str]) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    browsers = []
    for name in names:
        browser = wr.MediaBrowser(title=name.capitalize(), media_keys=[f"{q.PICTURES}/{name}"], num_columns=4)
        browsers.append(_place(browser, GRID, 12))
    return browsers


def _place(panel: Any, width: int = GRID // 3, height: int = 6) -> Any:
    """The size of a panel; `arranged` gives it a place."""
    import wandb_workspaces.reports.v2 as wr

    panel.layout = wr.Layout(w=width, h=height)
    return panel


def arranged(panels: Sequence[Any]) -> list[Any]:
    """The panels from left to right in rows, none above another."""
    x = y = height = 0
    for panel in panels:
        if x + panel.layout.w > GRID:
            x, y, height = 0, y + height, 0
        panel.layout.x, panel.layout.y = x, y
        x, height = x + panel.layout.w, max(height, panel.layout.h)
    return list(panels)
