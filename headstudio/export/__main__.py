"""Write a finished run as a file that other programs open.

python -m headstudio.export RUN --format spz
python -m headstudio.export RUN --format ply --pose smile --out ~/smile.ply
python -m headstudio.export RUN --format glb --motion talk.npz
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstudio.cli import nearest
from headstudio.errors import UserError
from headstudio.export.axes import AXES
from headstudio.export.formats import FORMATS, Format
from headstudio.interrupt import stopping_at_once

if TYPE_CHECKING:
    from headstudio.opened import OpenedRun


def parser() -> argparse.ArgumentParser:
    """The command line."""
    formats = "\n".join(f"  {name:<18}{form.line}" for name, form in FORMATS.items())
    axes = "\n".join(f"  {name:<18}{turned.line}" for name, turned in AXES.items())
    top = argparse.ArgumentParser(
        prog="python -m headstudio.export",
        description=__doc__,
        epilog=f"formats (docs/export.md):\n{formats}\n\naxes of ply, splat, spz and ply-sequence:\n{axes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("run", metavar="RUN", help="a finished run's directory")
    top.add_argument("--format", required=True, metavar="FORMAT", help=f"one of {', '.join(FORMATS)}")
    top.add_argument(
        "--out", type=Path, metavar="PATH", help="a file or, for some formats, a folder (default: RUN/export)"
    )
    top.add_argument(
        "--pose", metavar="POSE", help="rest, mouth_open, blink, smile, turned, or ARKit's weights: jawOpen=0.6"
    )
    top.add_argument("--motion", type=Path, metavar="FILE", help="a recording (docs/motion.md; default: the run's own)")
    top.add_argument("--motion-fps", type=float, help="frames a second of a recording that does not say its own")
    top.add_argument(
        "--fps", type=float, help="frames a second of the motion (default: the file's, or the run's films')"
    )
    top.add_argument(
        "--seconds", type=float, help="length of the motion, at most (default: the file's, or the run's films')"
    )
    top.add_argument("--sound", type=Path, metavar="FILE", help="what is heard with the motion of --format web")
    top.add_argument(
        "--axes", default=None, metavar="AXES", help=f"one of {', '.join(AXES)} (default: {next(iter(AXES))})"
    )
    return top


def main(words: Sequence[str] | None = None) -> int:
    """The command line; the user's mistakes are one sentence and exit code 2."""
    chosen = parser().parse_args(words)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("headstudio.progress").setLevel(logging.INFO)
    try:
        with stopping_at_once():
            sys.stdout.write(f"{_export(chosen)}\n")
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt as stopped:
        sys.stderr.write(f"{str(stopped) or 'Stopped; nothing was written.'}\n")
        return 128 + getattr(stopped, "number", signal.SIGINT)
    return 0


def _export(chosen: argparse.Namespace) -> str:
    """Check everything that is cheap to check, then write; returns what to say."""
    form = _known("--format", chosen.format, FORMATS)
    axes = _known("--axes", chosen.axes or next(iter(AXES)), AXES)
    _check_options(chosen, form)
    from headstudio.export.place import checked_place, size_of
    from headstudio.files import require_free_of
    from headstudio.opened import open_run

    opened = open_run(chosen.run)
    path = checked_place(opened.paths.root, chosen.out, form, chosen.format)
    require_free_of(path, [*opened.paths.files(), chosen.motion, chosen.sound], "--out")
    keywords = {"axes": axes, "sound": chosen.sound, **_moves(chosen, form, opened)}
    try:
        told = form.write()(opened, path, **{name: keywords[name] for name in form.takes})
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); name another place with --out."
        ) from error
    return f"{path}: {told + ', ' if told else ''}{size_of(path) / 1e6:.2f} MB"


def _known(option: str, name: str, table: dict[str, Any]) -> Any:
    if name not in table:
        raise UserError(f"{option} {name} does not exist: it is one of {', '.join(table)}.{nearest(name, table)}")
    return table[name]


def _check_options(chosen: argparse.Namespace, form: Format) -> None:
    """What is given must be of use to this format."""
    needs = {"pose": "pose", "axes": "axes", "motion": "motion", "sound": "sound"}
    needs |= dict.fromkeys(("motion_fps", "fps", "seconds"), "motion")
    for option, kind in needs.items():
        if getattr(chosen, option) is not None and kind not in form.takes:
            able = ", ".join(name for name, other in FORMATS.items() if kind in other.takes)
            raise UserError(
                f"--{option.replace('_', '-')} has no meaning for --format {chosen.format}; it has for {able}."
            )


def _moves(chosen: argparse.Namespace, form: Format, opened: OpenedRun) -> dict[str, Any]:
    """The pose and the film, as far as the format takes them."""
    from headstudio.export.moves import film_from, pose_from

    asked = any(value is not None for value in (chosen.motion, chosen.fps, chosen.seconds))
    moved: dict[str, Any] = {"motion": None}
    if "motion" in form.takes and (asked or form.always_moves):
        moved["motion"] = film_from(opened, chosen.motion, chosen.fps, chosen.seconds, file_fps=chosen.motion_fps)
    if "pose" in form.takes:
        moved["pose"] = pose_from(opened.head, chosen.pose or "rest")
    return moved


if __name__ == "__main__":
    sys.exit(main())
