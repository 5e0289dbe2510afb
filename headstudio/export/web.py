"""A head as one HTML file that plays it and lets anyone drive it: no server, no network, opens from a disk.

The page lies in `web/` as a template with its scripts and its style. Here it gets its numbers (`web_scene`, packed by
`web_pack`), its sliders (`web_controls`) and its words.
"""

from __future__ import annotations

import base64
import logging
import math
import re
from collections.abc import Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstudio.errors import UserError
from headstudio.motion import FACE_JOINTS

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from headstudio.export.moves import Film
    from headstudio.export.web_pack import Stored
    from headstudio.head.model import HeadModel
    from headstudio.motion.recording import Recording
    from headstudio.opened import OpenedRun
    from headstudio.types import Pose

SCRIPTS = ("pack", "rig", "film", "gl", "splats", "mesh", "camera", "stage", "player", "panel", "main")

SOUNDS = {
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".webm": "audio/webm",
}


def write_page(opened: OpenedRun, path: Path, *, motion: Film, sound: Path | None) -> str:
    """`write_web`, as the command calls it: the page plays the film."""
    write_web(opened, path, motion=motion.poses, fps=motion.fps, sound=None if sound is None else sound.expanduser())
    return f"{len(motion)} frames at {motion.fps:g} a second, {motion.source}"


def write_web(
    opened: OpenedRun,
    path: Path,
    *,
    motion: Pose | Recording | None,
    fps: float,
    sound: Path | None = None,
    joints: Sequence[str] = FACE_JOINTS,
) -> Path:
    """Write the page and return where; it appears in one rename, so no half of one ever lies there.

    Args:
        opened: whose avatar is shown; its sentence is the title and its gallery's framing the first view.
        path: the file, .html; its folder exists.
        motion: T poses of the avatar's head, or a recording, which is put on that head; None leaves the film out.
            An avatar without a rig stands still whatever is given.
        fps: frames per second of `motion` (a recording is resampled to it).
        sound: a sound file that plays with the film; any of `SOUNDS`. It goes into the page as it is.
        joints: which of `motion.transfer.JOINTS` a recording may turn.

    Raises:
        UserError: for an argument that cannot be, an avatar that no page can draw, or a file that cannot be written.
    """
    from headstudio.export.web_controls import all_sliders, common_sliders
    from headstudio.export.web_pack import pack
    from headstudio.export.web_scene import film, scene
    from headstudio.files import put

    path, sound = Path(path), None if sound is None else Path(sound)
    _check_arguments(path, fps, sound)
    if sound is not None and (motion is None or len(motion) < 2):
        raise UserError(f"The sound {sound} needs a motion of two frames or more to go with.")
    kind, arrays = scene(opened.avatar)
    has_rig = kind != "static"
    header: dict[str, Any] = {"kind": kind, "view": _first_view(opened.config), "common": [], "all": [], "fps": fps}
    if has_rig:
        _warn_of_licence(opened.head)
        header |= {"common": common_sliders(opened.head), "all": all_sliders(opened.head)}
        arrays = {**arrays, **film(_poses(opened.head, motion, fps, joints))}
    elif sound is not None:
        logging.warning("This avatar has no rig, so it stands still, and %s is left out.", sound)
    page = _page(opened.prompt, header, arrays, pack(header, arrays), sound if has_rig else None)
    try:
        put(path, page)
    except OSError as error:
        raise UserError(f"The page {path} cannot be written ({error.strerror}).") from error
    return path


def _check_arguments(path: Path, fps: float, sound: Path | None) -> None:
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"The page {path} must end in .html, so that a browser opens it.")
    if not path.parent.is_dir():
        raise UserError(f"The page {path} cannot be written: there is no folder {path.parent}.")
    if not (math.isfinite(fps) and fps > 0):
        raise UserError(f"fps={fps} must be a number above 0.")
    if sound is not None:
        if sound.suffix.lower() not in SOUNDS:
            raise UserError(f"The sound {sound} must be a file that browsers play: {', '.join(SOUNDS)}.")
        if not sound.is_file():
            raise UserError(f"There is no sound file {sound}.")
        from headstudio.speech.audio import require_sound

        try:
            require_sound(sound)
        except UserError as error:
            raise UserError(str(error).replace("audio=", "The sound ", 1)) from error


def _poses(head: HeadModel, motion: Pose | Recording | None, fps: float, joints: Sequence[str]) -> Pose:
    """The film on this head; one neutral pose where there is none.

    Raises:
        UserError: when the poses are none, not finite or another head's.
    """
    from headstudio.motion.recording import Recording
    from headstudio.motion.transfer import losses, pose_of_recording

    if motion is None:
        return head.neutral_pose()
    if isinstance(motion, Recording):
        for sentence in losses(head, motion):
            logging.warning("%s", sentence)
        return pose_of_recording(head, motion.resampled(fps), joints)
    wanted = (len(motion), head.num_expression), (len(motion), head.num_joints, 3)
    if (tuple(motion.expression.shape), tuple(motion.joints.shape)) != wanted or not len(motion):
        raise UserError(
            f"The motion has expressions {tuple(motion.expression.shape)} and joints {tuple(motion.joints.shape)}, but "
            f"this head takes (T, {head.num_expression}) and (T, {head.num_joints}, 3) with at least one frame."
        )
    if not bool(motion.expression.isfinite().all() & motion.joints.isfinite().all()):
        raise UserError("The motion holds values that are not finite.")
    return motion


def _first_view(config: DictConfig) -> dict[str, Any]:
    """The framing of the run's own films."""
    from headstudio.export.gallery import Gallery
    from headstudio.run import make

    gallery = make(config.gallery) if "gallery" in config else Gallery(width=256, height=256, seconds=1, fps=1)
    return {
        "distance": gallery.distance,
        "fovy_deg": gallery.fovy_deg,
        "elevation_deg": gallery.elevation_deg,
        "target": list(gallery.target),
    }


def _warn_of_licence(head: HeadModel) -> None:
    if any(name.startswith("flame_") for name in head.expression_names):
        logging.warning(
            "The page holds shape and expressions of a FLAME head: see that FLAME's licence lets you pass it on."
        )


def _facts(arrays: dict[str, Stored]) -> str:
    """What the page is made of, in a line."""
    counted = {"means": "Gaussians", "texel_colors": "texels", "faces": "triangles"}
    return " · ".join(f"{len(arrays[name].array):,} {word}" for name, word in counted.items() if name in arrays)


def _page(prompt: str, header: dict[str, Any], arrays: dict[str, Stored], packed: bytes, sound: Path | None) -> str:
    from headstudio import __version__
    from headstudio.inlined import environment, policy_hash

    script, style = "\n".join(["'use strict';", *(_own(f"{name}.js") for name in SCRIPTS)]), _own("page.css")
    rows = _numbered(header)
    context = {
        "prompt": prompt,
        "version": __version__,
        "facts": _facts(arrays),
        "groups": [(name, list(sliders)) for name, sliders in groupby(rows, key=lambda row: row["group"])],
        "has_film": "film_turns" in arrays and len(arrays["film_turns"].array) > 1,
        "file_name": f"{_file_name(prompt)}.png",
        "style": style,
        "style_hash": policy_hash(style),
        "script": script,
        "script_hash": policy_hash(script),
        "data": base64.b64encode(packed).decode(),
        "sound": None if sound is None else _data_address(sound),
    }
    return environment("headstudio.export", "web").get_template("index.html.j2").render(context)


def _numbered(header: dict[str, Any]) -> list[dict[str, Any]]:
    """Every slider with where the script finds it."""
    return [{**slider, "of": of, "number": n} for of in ("common", "all") for n, slider in enumerate(header[of])]


def _file_name(prompt: str) -> str:
    """The sentence as far as every file system takes it."""
    return re.sub(r"[^A-Za-z0-9]+", "-", prompt)[:60].strip("-") or "head"


def _own(name: str) -> str:
    return (resources.files("headstudio.export") / "web" / name).read_text(encoding="utf-8")


def _data_address(sound: Path) -> str:
    content = base64.b64encode(sound.read_bytes()).decode()
    return f"data:{SOUNDS[sound.suffix.lower()]};base64,{content}"
