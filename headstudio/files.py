"""Small files that several processes read while one writes, on any file system."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from headstudio.errors import UserError


def put(path: Path, content: str | bytes) -> None:
    """Put `content` at `path` in one rename, so that a reader sees the old or the new, never half."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def require_writable(folder: Path, option: str) -> None:
    """Raise UserError unless a file can be made in `folder`; told before long work, `option` names another place."""
    probe = folder / f".writable-{uuid.uuid4().hex}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); name another place with {option}.") from error


def numbered(path: Path) -> Path:
    """`path` where nothing lies there, else the first of `NAME-2`, `NAME-3`, ... that is free."""
    free, number = path, 2
    while free.exists():
        free, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return free


def require_free_of(path: Path, kept: Iterable[Path | None], option: str) -> None:
    """Raise UserError if writing to `path` would replace one of these files: what the work is made from."""
    if any(path.resolve() == other.expanduser().resolve() for other in kept if other is not None):
        raise UserError(f"{option} {path} is a file that this is made from or that the run needs; name another one.")


def file_time(folder: Path) -> float:
    """Now, by the clock that stamps the files of `folder` (a file server's, which may differ from ours)."""
    probe = folder / f".now-{uuid.uuid4().hex}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        probe.unlink(missing_ok=True)
