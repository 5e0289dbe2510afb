"""A motion as a folder of 3DGS scenes, one for each frame."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstudio.errors import UserError
from headstudio.export.splat_files import ply_bytes
from headstudio.export.splats import check_has_gaussians, check_moves, splats_of
from headstudio.files import put
from headstudio.interrupt import Interrupted, StopRequest
from headstudio.progress import Progress
from headstudio.types import Pose

if TYPE_CHECKING:
    from headstudio.export.axes import Axes
    from headstudio.export.moves import Film
    from headstudio.opened import OpenedRun

ABOUT = "sequence.json"
FRAME = "frame_{:04d}.ply"


def write_sequence(opened: OpenedRun, path: Path, *, motion: Film, axes: Axes) -> str:
    """frame_0000.ply and so on, and `sequence.json` with fps, number of frames, prompt and axes.

    The Gaussians have the same order in all frames. A frame is there as a whole or not at all. Stopped on request
    (Ctrl-C), the finished frames stay, and `sequence.json` tells their number.

    Raises:
        UserError: for a representation that has no Gaussians or cannot move, or a folder that holds other things.
        Interrupted: it was stopped.
    """
    avatar = opened.avatar
    check_has_gaussians(avatar)
    check_moves(avatar, "--format ply-sequence")
    prepare(path)
    about: dict[str, Any] = {
        "prompt": opened.prompt,
        "fps": motion.fps,
        "motion": motion.source,
        "axes": axes.name,
        "up": "-y" if axes.signs[1] < 0 else "y",
        "files": "frame_%04d.ply",
    }
    put(path / ABOUT, _text(about, 0))  # from now on the frames are known for ours, even if this process is killed
    count = 0
    with StopRequest() as stop, Progress(0, len(motion)) as progress:
        for frame in range(len(motion)):
            if stop.requested:
                break
            one = slice(frame, frame + 1)
            pose = Pose(expression=motion.poses.expression[one], joints=motion.poses.joints[one])
            put(path / FRAME.format(frame), ply_bytes(splats_of(avatar, pose, axes)))
            count += 1
            progress.show(frame, {})
    put(path / ABOUT, _text(about, count))
    if count < len(motion):
        raise Interrupted(f"Stopped: {count} of {len(motion)} frames are complete in {path}.", stop.requested)
    return f"{count} frames at {motion.fps:g} a second, {avatar.num_gaussians:,} Gaussians each"


def _text(about: dict[str, Any], frames: int) -> str:
    return json.dumps(about | {"frames": frames}, indent=2, ensure_ascii=False) + "\n"


def prepare(folder: Path) -> None:
    """Make the folder, or remove the sequence that lies in it: frames beside a `sequence.json`.

    Raises:
        UserError: if something else lies there.
    """
    folder.mkdir(exist_ok=True)
    there = list(folder.iterdir())
    ours = (folder / ABOUT).is_file()
    frames = [file for file in there if ours and re.fullmatch(r"frame_\d{4,}\.ply", file.name)]
    others = [file.name for file in there if file not in frames and file.name != ABOUT]
    if others:
        raise UserError(f"--out {folder} holds other files, such as {sorted(others)[0]}; name a new or empty folder.")
    for file in (*frames, folder / ABOUT):
        file.unlink(missing_ok=True)
