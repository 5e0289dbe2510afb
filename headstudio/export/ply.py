"""avatar.ply: one file that any Gaussian splatting viewer opens and that restores the rigged avatar bit by bit.

The viewer finds the usual 3DGS properties, in the world of `headstudio.types` (y up) at the neutral pose: x y z,
nx ny nz (zero), f_dc_0..2 (degree 0 of the spherical harmonics), opacity (logit), scale_0..2 (log), rot_0..3 (wxyz).
Behind them stand the parameters themselves, float32 as they were optimised: local_mean_0..2, local_scale_0..2 (log),
local_rot_0..3, color_logit_0..2 and the triangle's index; `opacity` is already a parameter. The head's name, a
checksum of its triangles and the shape coefficients are header comments and not a second element, because some web
viewers take all properties of a file for those of one vertex.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from headstudio.avatar.rigged import RiggedGaussians
from headstudio.errors import UserError
from headstudio.runstate import write_atomically

if TYPE_CHECKING:
    from plyfile import PlyData
    from torch import Tensor

    from headstudio.head.model import HeadModel

FORMAT = 1
SH_DEGREE_0 = 0.28209479177387814  # the constant basis function: rgb = 0.5 + SH_DEGREE_0 * f_dc

_VIEWER: tuple[str, ...] = ("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity")
_VIEWER += ("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")
_RIGGED = {
    "means": ("local_mean_0", "local_mean_1", "local_mean_2"),
    "log_scales": ("local_scale_0", "local_scale_1", "local_scale_2"),
    "quats": ("local_rot_0", "local_rot_1", "local_rot_2", "local_rot_3"),
    "color_logits": ("color_logit_0", "color_logit_1", "color_logit_2"),
}
_SHAPE_PER_LINE = 8


@dataclass(frozen=True)
class AvatarHeader:
    """What the comments of an avatar's file say: enough to choose the head before loading."""

    head_name: str
    num_gaussians: int
    num_triangles: int
    triangles_crc32: int
    shape: tuple[float, ...]


def save_avatar(avatar: RiggedGaussians, path: Path, *, head_name: str) -> None:
    """Write `avatar` atomically: `path` is either what it was or complete.

    Args:
        avatar: float32; a wider type is rounded to it.
        path: the file; its folder exists.
        head_name: what `head=` was, for whoever loads the file.

    Raises:
        UserError: if the disk is full.
        ValueError: if the head's name is not one word.
    """
    from plyfile import PlyData, PlyElement

    if head_name.split() != [head_name]:
        raise ValueError(f"a head's name is one word, not {head_name!r}")
    columns = _viewer_columns(avatar) | _rigged_columns(avatar)
    table = np.empty(avatar.num_gaussians, dtype=[(name, column.dtype.str) for name, column in columns.items()])
    for name, column in columns.items():
        table[name] = column
    shape = [str(value) for value in avatar.shape.detach().cpu().numpy().astype(np.float32)]
    comments = [
        f"headstudio avatar {FORMAT}",
        "frame x right, y up, z towards the viewer of the face; neutral pose",
        f"head {head_name}",
        f"head_triangles {len(avatar.head.faces)} crc32 {_checksum(avatar.head)}",
        f"shape_values {len(shape)}",
        *(f"shape {' '.join(shape[i : i + _SHAPE_PER_LINE])}" for i in range(0, len(shape), _SHAPE_PER_LINE)),
    ]
    content = io.BytesIO()
    PlyData([PlyElement.describe(table, "vertex")], byte_order="<", comments=comments).write(content)
    write_atomically(path, content.getvalue())


def load_avatar(path: Path, head: HeadModel) -> RiggedGaussians:
    """The avatar that `save_avatar` wrote, on `head` (its device and type), bit by bit.

    Raises:
        UserError: if the file is missing, damaged, no avatar of ours, or made on other triangles or a shape basis
            of another size than `head`'s.
    """
    ply = _read(path)
    header = _header(ply, path)
    if (header.num_triangles, header.triangles_crc32) != (len(head.faces), _checksum(head)):
        raise UserError(
            f"The avatar {path} was made on the head {header.head_name} with {header.num_triangles} triangles, and the "
            f"given head's {len(head.faces)} are others: give the head and the version that it was made with."
        )
    table = ply["vertex"]
    state: dict[str, Tensor] = {
        key: torch.from_numpy(np.stack([table[name] for name in names], axis=-1).astype(np.float32))
        for key, names in _RIGGED.items()
    }
    state["opacity_logits"] = torch.from_numpy(np.asarray(table["opacity"], dtype=np.float32).copy())
    state["triangle"] = torch.from_numpy(np.asarray(table["triangle"], dtype=np.int64).copy())
    state["shape"] = torch.tensor(header.shape, dtype=torch.float32)
    own = head.v_template
    return RiggedGaussians.from_state(
        head, {key: value.to(own) if value.is_floating_point() else value for key, value in state.items()}
    )


def read_header(path: Path) -> AvatarHeader:
    """What the file says about itself, without a head. Raises UserError as `load_avatar`."""
    return _header(_read(path), path)


def _viewer_columns(avatar: RiggedGaussians) -> dict[str, np.ndarray]:
    """The properties that viewers read, in the world at the neutral pose."""
    with torch.no_grad():
        _, _, world = avatar.pose(avatar.head.neutral_pose())
        fields = torch.cat(
            (
                world.means[0],
                torch.zeros_like(world.means[0]),
                (world.colors - 0.5) / SH_DEGREE_0,
                avatar.opacity_logits[:, None],
                world.scales[0].log(),
                torch.nn.functional.normalize(world.quats[0], dim=-1),
            ),
            dim=-1,
        )
    return dict(zip(_VIEWER, fields.cpu().numpy().astype("<f4").T, strict=True))


def _rigged_columns(avatar: RiggedGaussians) -> dict[str, np.ndarray]:
    """The parameters themselves."""
    columns: dict[str, np.ndarray] = {}
    for key, names in _RIGGED.items():
        values = getattr(avatar, key).detach().cpu().numpy().astype("<f4")
        columns |= dict(zip(names, values.T, strict=True))
    return columns | {"triangle": avatar.triangle.cpu().numpy().astype("<i4")}


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


def _header(ply: PlyData, path: Path) -> AvatarHeader:
    """The comments, and that the properties are there."""
    lines = [line.split() for line in ply.comments]
    said = {words[0]: words[1:] for words in lines if words}
    needed = {"opacity", "triangle", *(name for names in _RIGGED.values() for name in names)}
    try:
        version = said["headstudio"]
        vertices = ply["vertex"]
        missing = needed - {prop.name for prop in vertices.properties}
        header = AvatarHeader(
            head_name=said["head"][0],
            num_gaussians=len(vertices.data),
            num_triangles=int(said["head_triangles"][0]),
            triangles_crc32=int(said["head_triangles"][2]),
            shape=tuple(float(np.float32(value)) for words in lines if words[:1] == ["shape"] for value in words[1:]),
        )
        complete = not missing and len(header.shape) == int(said["shape_values"][0])
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(f"The file {path} is no avatar of headstudio: it lacks what rigs it to a head.") from error
    if version != ["avatar", str(FORMAT)]:
        raise UserError(f"The avatar {path} has the format {' '.join(version)}; this version reads avatar {FORMAT}.")
    if not complete:
        raise UserError(f"The avatar {path} is incomplete: properties or shape values are missing from it.")
    return header
