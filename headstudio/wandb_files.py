"""W&B's own files of a run: one folder per process that worked on it, and which steps a server may have of them.

W&B appends protobuf records to `run-ID.wandb`, framed as LevelDB frames its log: blocks of 32 KiB, each piece with
checksum, length and kind, pieces of one record marked as its first, middle and last.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Mode = Literal["offline", "online", "disabled"]

BLOCK, HEADER, FILE_HEADER = 32768, 7, 7
WHOLE, LAST = 1, 4


@dataclass(frozen=True)
class Segment:
    """What one process wrote: its `run-ID.wandb`, in a folder of its own."""

    file: Path

    @property
    def may_be_sent(self) -> bool:
        """Whether a server may have it: it was written online, or `wandb sync` has left its mark."""
        is_offline = self.file.parent.name.startswith("offline-")
        return not is_offline or self.file.with_suffix(".wandb.synced").exists()


def segments(directory: Path, run: str) -> list[Segment]:
    """All that lies in the `wandb` folder of a run's directory."""
    folders = sorted((directory / "wandb").glob(f"*run-*-{run}"))
    return [Segment(folder / f"run-{run}.wandb") for folder in folders]


def recorded_steps(file: Path) -> set[int]:
    """The steps whose rows stand in a W&B file; what was cut off by a kill is left out."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # protobuf makes it at import

    steps: set[int] = set()
    for content in _records(file.read_bytes() if file.exists() else b""):
        record = Record()
        record.ParseFromString(content)
        if record.WhichOneof("record_type") == "history":
            steps.add(int(record.history.step.num))
    return steps


def _records(data: bytes) -> Iterator[bytes]:
    """Every complete record."""
    position, record = FILE_HEADER, b""
    while position + HEADER <= len(data):
        if BLOCK - position % BLOCK < HEADER:  # too short for another header: padding
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + HEADER])
        position += HEADER
        piece = data[position : position + length]
        if len(piece) < length or kind == 0:
            return
        position += length
        record += piece
        if kind in (WHOLE, LAST):
            yield record
            record = b""


def first_line(error: Exception) -> str:
    """What W&B's errors say, which may be many lines or none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
