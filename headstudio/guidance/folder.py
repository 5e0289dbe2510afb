"""Folders that ship with the package. Light: no torch, so `--help` and early checks stay quick."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from headstudio.errors import UserError


def packaged_folder(*, name: str) -> str:
    """The path of `headstudio/assets/<name>` in this installation.

    Raises:
        UserError: the package carries no such folder.
    """
    folder = Path(str(files("headstudio"))) / "assets" / name
    if not folder.is_dir():
        raise UserError(f"prior.path: the package carries no folder {folder}; reinstall it, or name your own folder.")
    return str(folder)
