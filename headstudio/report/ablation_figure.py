"""The heads of an ablation in one picture, laid out as in the paper: a column per arm, a row per sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headstudio.ablation import Ablation
from headstudio.report.ablation_runs import Result
from headstudio.report.sheet import views, wrapped
from headstudio.runstate import RunPaths

CELL = (("rest", 0.0), ("mouth_open", 0.0))
"""What stands in a cell, side by side: poses, and azimuths in degrees."""


def write_heads(
    path: Path, wanted: Ablation, found: Sequence[Result], *, rows: int = 4, width: int = 1600, largest: int = 160
) -> str:
    """Draw the first sentences with the first seed, each head at rest and with its mouth open.

    A figure that is there already is kept if not all its heads can be drawn: the directories of runs do not last.

    Args:
        path: a .jpg file.
        wanted: its `figure` says which arms, in which order.
        found: its runs.
        rows: how many sentences.
        width: pixels of all columns together, more or less.
        largest: pixels of one picture at most.

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
    prompts, seed = wanted.prompts[:rows], wanted.seeds[0]
    places = [(arm, prompt, seed) for prompt in prompts for arm in wanted.figure]
    drawn = sum(place in directories for place in places)
    if drawn < len(places) and (path.exists() or not drawn):
        told = "its figure is kept as it is" if path.exists() else "it has no figure yet"
        return f"{told} ({drawn} of {len(places)} heads are there to draw)"
    size = min(largest, width // (len(CELL) * len(wanted.figure)))
    white = torch.ones(3, size, size * len(CELL))

    def cell(arm: str, prompt: str) -> torch.Tensor:
        directory = directories.get((arm, prompt, seed))
        if directory is None:
            return white
        paths = RunPaths(directory)
        head = made(paths, read_setting(paths), "head")
        return torch.cat(views(paths.avatar, head, size, CELL), -1)

    path.parent.mkdir(parents=True, exist_ok=True)
    letters = size * len(CELL) // 11
    write_grid(
        [[cell(arm, prompt) for arm in wanted.figure] for prompt in prompts],
        path,
        row_labels=[wrapped(prompt, 24) for prompt in prompts],
        column_labels=[wrapped(wanted.arms[arm].label, letters) for arm in wanted.figure],
    )
    return f"its figure shows {drawn} heads"
