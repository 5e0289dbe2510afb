"""What W&B's offline files already hold of a run: a process that was killed took an unknown part of it along.

W&B appends protobuf records to `offline-run-*/run-ID.wandb`, framed as LevelDB frames its log: blocks of 32 KiB, each
piece with checksum, length and kind, pieces of one record marked as its first, middle and last.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

BLOCK, HEADER, FILE_HEADER = 32768, 7, 7
WHOLE, LAST = 1, 4


def recorded_steps(folder: Path, run: str) -> set[int]:
    """The steps of the run `run` that stand in the offline files of a `wandb` folder."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # protobuf makes it at import

    steps: set[int] = set()
    for path in folder.glob(f"offline-run-*-{run}/run-{run}.wandb"):
        for content in _records(path.read_bytes()):
            record = Record()
            record.ParseFromString(content)
            if record.WhichOneof("record_type") == "history":
                steps.add(int(record.history.step.num))
    return steps


def _records(data: bytes) -> Iterator[bytes]:
    """Every complete record; what was cut off by a kill is left out."""
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
