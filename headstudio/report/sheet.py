"""One picture of all heads of a sweep.

    python -m headstudio.report.sheet SWEEP sheet.png [--size 192]

Each finished run is a row: from the front, from both sides, from behind, and with its mouth open. Runs are loaded
from their `avatar.ply`, so a sheet can be made long after, on any machine that has their head.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from headstudio.camera_views import View
from headstudio.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaxtyping import Float
    from torch import Tensor

    from headstudio.head.model import HeadModel

VIEWS = {
    "front": View("at rest"),
    "40 right": View("from its right", azimuth_deg=-40.0),
    "40 left": View("from its left", azimuth_deg=40.0),
    "side": View("from the side", azimuth_deg=90.0),
    "back": View("from behind", azimuth_deg=180.0),
    "mouth open": View("with its mouth open", "mouth_open", azimuth_deg=15.0),
}
"""Columns of a sheet."""


def write_sheet(sweep: Path, path: Path, *, size: int, label_chars: int = 26) -> int:
    """Write the sheet of a sweep's finished runs, in the order of the sweep; returns how many there are.

    Raises:
        UserError: when the folder holds no finished run.
    """
    from headstudio.export.pictures import write_grid
    from headstudio.opened import made, read_setting
    from headstudio.runstate import RunPaths
    from headstudio.sweep.record import Sweep
    from headstudio.sweep.state import read_states
    from headstudio.sweep.table import differing

    finished = [state for state in read_states(Sweep.open(sweep)) if state.state == "finished"]
    if not finished:
        raise UserError(f"{sweep} holds no finished run; name the folder of a multirun that has ended.")
    keys = differing(finished)
    rows, labels = [], []
    for row in finished:
        paths = RunPaths(row.directory)
        config = read_setting(paths)
        rows.append(views(paths.avatar, made(paths, config, "head"), size, VIEWS.values()))
        # A sentence speaks for itself; a single run is told by its sentence too.
        told = [str(config.prompt)] if "prompt" in keys or not keys else []
        told += [f"{key}={row.overrides.get(key, '')}" for key in keys if key != "prompt"]
        labels.append("\n".join(wrapped(line, label_chars) for line in told))
    write_grid(rows, path, row_labels=labels, column_labels=list(VIEWS))
    return len(rows)


@torch.no_grad()
def views(avatar_file: Path, head: HeadModel, size: int, wanted: Iterable[View]) -> list[Float[Tensor, "3 H W"]]:
    """Pictures of one avatar, on white, `size` pixels a side."""
    from headstudio.export.ply import load_avatar
    from headstudio.motion.evaluation import evaluation_poses
    from headstudio.render.cpu import CpuRenderer

    avatar = load_avatar(avatar_file, head)
    renderer, white = avatar.renderer(CpuRenderer()), torch.ones(3)
    poses = evaluation_poses(head)
    return [renderer(avatar.pose(poses[view.pose])[2], view.cameras(size), white).rgb[0] for view in wanted]


def wrapped(text: str, width: int) -> str:
    """Words of `text` in lines of at most `width` characters, whole words even where one is longer."""
    import textwrap

    return "\n".join(textwrap.wrap(text, width, break_long_words=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("path", type=Path)
    parser.add_argument("--size", type=int, default=192, help="of one picture, pixels")
    arguments = parser.parse_args()
    try:
        count = write_sheet(arguments.sweep, arguments.path, size=arguments.size)
    except UserError as error:
        raise SystemExit(str(error)) from None
    print(f"{count} heads in {arguments.path}")


if __name__ == "__main__":
    main()
