"""What the header of a `.safetensors` file says: names, shapes, completeness. No tensor is read. Light: no torch."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

from headstudio.errors import UserError

PICKLED = (".ckpt", ".bin", ".pt", ".pth")
_LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library itself
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Header:
    """Shapes by name, and how many bytes the file must have."""

    shapes: dict[str, tuple[int, ...]]
    size: int

    @property
    def parameters(self) -> int:
        """How many numbers the file holds."""
        return sum(math.prod(shape) for shape in self.shapes.values())


def read_header(file: Path) -> Header:
    """The header of a complete file.

    Raises:
        UserError: a Git LFS pointer instead of the file, a file of another format, or one that ends too early.
    """
    found = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(len(_POINTER))
        if start == _POINTER:
            raise UserError(f"{file} is a Git LFS pointer and not the weights; run `git lfs pull` in its folder.")
        length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
        if not 2 <= length <= _LARGEST_HEADER:
            raise UserError(f"{file} is no .safetensors file ({found} bytes); download it again.")
        stream.seek(8)
        text = stream.read(length)
    if len(text) < length:
        raise UserError(f"{file} is cut short after {found} bytes; download it again.")
    try:
        entries = {name: entry for name, entry in json.loads(text).items() if name != "__metadata__"}
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in entries.items()}
        size = 8 + length + max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is no .safetensors file (its header can't be read); download it again.") from error
    if found < size:
        raise UserError(f"{file} is cut short ({found} of {size} bytes); download it again.")
    return Header(shapes, size)


def refuse_pickled(key: str, file: Path) -> str:
    """The sentence about weights that are saved as a Python pickle."""
    return (
        f"prior.{key}={str(file)!r} is a pickled file, which can run code when it is opened, and is never read; "
        "name a .safetensors file or a folder in diffusers' format."
    )
