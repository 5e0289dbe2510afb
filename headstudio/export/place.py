"""Where an export goes."""

from __future__ import annotations

from pathlib import Path

from headstudio.errors import UserError
from headstudio.export.formats import Format
from headstudio.files import require_writable

FOLDER = "export"
"""Beside the avatar, in the run's directory."""


def checked_place(root: Path, out: Path | None, form: Format, name: str) -> Path:
    """The file or folder to write, made sure of before long work starts.

    Args:
        root: the run's directory.
        out: what was asked for; None is `RUN/export/NAME.SUFFIX`, NAME being the run's, and for a folder
            `RUN/export/NAME-FORMAT`.
        form, name: the format.

    Raises:
        UserError: the folder that it would lie in is not there or cannot be written, it has another suffix, or a folder
            lies where a file should, or a file where a folder should.
    """
    if out is None:
        _make(root / FOLDER)
        out = root / FOLDER / f"{root.resolve().name}{form.suffix or f'-{name}'}"
    out = out.expanduser()
    if form.suffix and out.is_dir():
        raise UserError(f"--out {out} is a folder; name a file, such as {out / f'head{form.suffix}'}.")
    if form.suffix and out.suffix.lower() != form.suffix:
        raise UserError(f"--out {out} does not end in {form.suffix}, as --format {name} does.")
    if not form.suffix and out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file, and --format {name} writes a folder.")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}; make it, or name another place.")
    require_writable(out if out.is_dir() else out.parent, "--out")
    return out


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); name another place with --out.") from error
