"""Small files that several processes read while one writes, on any file system."""

from __future__ import annotations

import time
import uuid
from pathlib import Path


def put(path: Path, content: str | bytes) -> None:
    """Put `content` at `path` in one rename, so that a reader sees the old or the new, never half."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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
