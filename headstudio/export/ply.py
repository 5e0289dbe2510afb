"""avatar.ply: one file that the usual viewers open and that restores the avatar bit by bit.

What the file holds depends on the representation and stands in `ply_gaussians` and `ply_mesh`: first what viewers read,
in the world of `headstudio.types` (y up) at the neutral pose, then the parameters themselves, float32 as they were
optimised. The representation, the head's name, a checksum of its triangles and the shape coefficients are header
comments.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from headstudio.errors import UserError
from headstudio.runstate import write_atomically

if TYPE_CHECKING:
    from plyfile import PlyData, PlyElement
    from torch import Tensor

    from headstudio.head.model import HeadModel

FORMAT = 1
_SHAPE_PER_LINE = 8


@dataclass(frozen=True)
class AvatarHeader:
    """What the comments of an avatar's file say: enough to choose the head before loading.

    `kind` is `avatar` for rigged Gaussians, else the representation's name.
    """

    kind: str
    head_name: str
    num_gaussians: int
    num_triangles: int
    triangles_crc32: int
    shape: tuple[float, ...]


class Layout(Protocol):
    """How one representation lies in a file."""

    kind: str
    has_shape: bool

    def holds(self, avatar: Any) -> bool:
        """Whether this is how `avatar` is saved."""
        ...

    def write(self, avatar: Any) -> tuple[list[str], list[PlyElement]]:
        """Further comments, and all elements."""
        ...

    def is_complete(self, ply: PlyData) -> bool:
        """Whether the elements and properties are there."""
        ...

    def num_gaussians(self, ply: PlyData) -> int: ...

    def read(self, ply: PlyData, said: Mapping[str, Sequence[str]], head: HeadModel, shape: Tensor) -> Any:
        """The avatar from a complete file; `said` are the comments by their first word."""
        ...


def save_avatar(avatar: Any, path: Path, *, head_name: str) -> None:
    """Write `avatar` atomically: `path` is either what it was or complete.

    Args:
        avatar: a representation, float32; a wider type is rounded to it.
        path: the file; its folder exists.
        head_name: what `head=` was, for whoever loads the file.

    Raises:
        UserError: if the disk is full.
        ValueError: if the head's name is not one word.
    """
    from plyfile import PlyData

    if head_name.split() != [head_name]:
        raise ValueError(f"a head's name is one word, not {head_name!r}")
    layout = next(layout for layout in _layouts() if layout.holds(avatar))
    more, elements = layout.write(avatar)
    values = avatar.shape.detach().cpu().numpy().astype(np.float32) if layout.has_shape else ()
    shape = [str(value) for value in values]
    comments = [
        f"headstudio {layout.kind} {FORMAT}",
        "frame x right, y up, z towards the viewer of the face; neutral pose",
        f"head {head_name}",
        f"head_triangles {len(avatar.head.faces)} crc32 {_checksum(avatar.head)}",
        *more,
        f"shape_values {len(shape)}",
        *(f"shape {' '.join(shape[i : i + _SHAPE_PER_LINE])}" for i in range(0, len(shape), _SHAPE_PER_LINE)),
    ]
    content = io.BytesIO()
    PlyData(elements, byte_order="<", comments=comments).write(content)
    write_atomically(path, content.getvalue())


def load_avatar(path: Path, head: HeadModel) -> Any:
    """The avatar that `save_avatar` wrote, on `head` (its device and type), bit by bit.

    Raises:
        UserError: if the file is missing, damaged, no avatar of ours, or made on other triangles or a shape basis
            of another size than `head`'s.
    """
    ply = _read(path)
    header, layout = _header(ply, path)
    if (header.num_triangles, header.triangles_crc32) != (len(head.faces), _checksum(head)):
        raise UserError(
            f"The avatar {path} was made on the head {header.head_name} with {header.num_triangles} triangles, and the "
            f"given head's {len(head.faces)} are others: give the head and the version that it was made with."
        )
    return layout.read(ply, _said(ply), head, torch.tensor(header.shape, dtype=torch.float32))


def read_header(path: Path) -> AvatarHeader:
    """What the file says about itself, without a head. Raises UserError as `load_avatar`."""
    return _header(_read(path), path)[0]


def _layouts() -> tuple[Layout, ...]:
    from headstudio.export.ply_gaussians import RiggedLayout, StaticLayout
    from headstudio.export.ply_mesh import MeshLayout

    return RiggedLayout(), StaticLayout(), MeshLayout()


def _checksum(head: HeadModel) -> int:
    """Two heads whose triangles have equal corners in equal order carry each other's Gaussians."""
    return zlib.crc32(head.faces.cpu().numpy().astype("<i8").tobytes())


def _read(path: Path) -> PlyData:
    from plyfile import PlyData, PlyParseError

    if not path.is_file():
        raise UserError(f"There is no avatar file {path}.")
    try:
        return PlyData.read(io.BytesIO(path.read_bytes()))
    except (PlyParseError, ValueError, UnicodeDecodeError) as error:
        raise UserError(f"The avatar file {path} is damaged or no PLY file ({error}).") from error


def _said(ply: PlyData) -> dict[str, list[str]]:
    """The comments by their first word."""
    lines = [line.split() for line in ply.comments]
    return {words[0]: words[1:] for words in lines if words}


def _header(ply: PlyData, path: Path) -> tuple[AvatarHeader, Layout]:
    """The comments, and that the properties are there."""
    lines = [line.split() for line in ply.comments]
    said = _said(ply)
    try:
        version = said["headstudio"]
        layout = next((layout for layout in _layouts() if version == [layout.kind, str(FORMAT)]), None)
        if layout is None:
            kinds = ", ".join(f"{layout.kind} {FORMAT}" for layout in _layouts())
            raise UserError(f"The avatar {path} has the format {' '.join(version)}; this version reads {kinds}.")
        header = AvatarHeader(
            kind=layout.kind,
            head_name=said["head"][0],
            num_gaussians=layout.num_gaussians(ply),
            num_triangles=int(said["head_triangles"][0]),
            triangles_crc32=int(said["head_triangles"][2]),
            shape=tuple(float(np.float32(value)) for words in lines if words[:1] == ["shape"] for value in words[1:]),
        )
        complete = layout.is_complete(ply) and len(header.shape) == int(said["shape_values"][0])
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(f"The file {path} is no avatar of headstudio: it lacks what rigs it to a head.") from error
    if not complete:
        raise UserError(f"The avatar {path} is incomplete: properties or shape values are missing from it.")
    return header, layout


def has(ply: PlyData, element: str, properties: set[str]) -> bool:
    """Whether an element has these properties."""
    return element in ply and properties <= {prop.name for prop in ply[element].properties}


def floats(ply: PlyData, element: str, names: Sequence[str]) -> Tensor:
    """(N, len(names)): float32 properties side by side."""
    table = ply[element]
    return torch.from_numpy(np.stack([table[name] for name in names], axis=-1).astype(np.float32))


def table_of(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Columns of one length as the records of an element."""
    first = next(iter(columns.values()))
    table = np.empty(len(first), dtype=[(name, column.dtype.str) for name, column in columns.items()])
    for name, column in columns.items():
        table[name] = column
    return table
