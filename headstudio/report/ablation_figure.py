"""The heads of an ablation in one picture: as in the paper a column per arm and a row per sentence, or turned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headstudio.ablation import Ablation
from headstudio.camera_views import VIEWS
from headstudio.report.ablation_runs import Result
from headstudio.report.sheet import views, wrapped
from headstudio.runstate import RunPaths


def caption(wanted: Ablation) -> str:
    """What the figure shows, in a sentence without its full stop."""
    figure = wanted.figure
    count = min(figure.sentences, len(wanted.prompts))
    sentences = f"first {count} sentences" if count > 1 else "first sentence"
    return (
        f"Each arm's heads of the {sentences}, first seed: {', then '.join(VIEWS[name].shows for name in figure.views)}"
    )


def write_heads(path: Path, wanted: Ablation, found: Sequence[Result], *, width: int = 1600) -> str:
    """Draw the first sentences with the first seed, each head in the views that the ablation's figure names.

    A figure that is there already is kept if not all its heads can be drawn: the directories of runs do not last.

    Args:
        path: a .jpg file.
        wanted: its `figure` says which arms, in which order, and how they are seen.
        found: its runs.
        width: pixels of all columns together, more or less.

    Returns:
        What was done, in words.
    """
    import torch

    from headstudio.export.pictures import write_grid
    from headstudio.opened import made, read_setting

    directories = {
        (result.planned.arm, result.planned.prompt, result.planned.seed): result.directory
        for result in found
        if result.directory is not None and RunPaths(result.directory).avatar.exists()
    }
    figure, seed = wanted.figure, wanted.seeds[0]
    prompts = wanted.prompts[: figure.sentences]
    places = [(arm, prompt, seed) for prompt in prompts for arm in figure.arms]
    drawn = sum(place in directories for place in places)
    if not drawn or (drawn < len(places) and path.exists()):
        told = "its figure is kept as it is" if path.exists() else "it has no figure yet"
        return f"{told} ({drawn} of {len(places)} heads are there to draw)"
    across, turned = len(figure.views), figure.rows == "arms"
    size = min(figure.pixels, width // (across * len(prompts if turned else figure.arms)))
    white = torch.ones(3, size, size * across)

    def cell(arm: str, prompt: str) -> torch.Tensor:
        directory = directories.get((arm, prompt, seed))
        if directory is None:
            return white
        paths = RunPaths(directory)
        head = made(paths, read_setting(paths), "head")
        return torch.cat(views(paths.avatar, head, size, [VIEWS[name] for name in figure.views]), -1)

    rows = [[cell(arm, prompt) for arm in figure.arms] for prompt in prompts]
    labels = [wanted.arms[arm].label for arm in figure.arms]
    above, beside = (prompts, labels) if turned else (labels, prompts)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_grid(
        [list(column) for column in zip(*rows, strict=True)] if turned else rows,
        path,
        row_labels=[wrapped(label, 24) for label in beside],
        column_labels=[wrapped(label, size * across // 11) for label in above],
    )
    return f"its figure shows {drawn} heads"
