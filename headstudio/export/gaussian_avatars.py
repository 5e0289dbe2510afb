"""A rigged avatar in the layout of GaussianAvatars, whose viewer then animates it (`local_viewer.py --point_path`).

Its Gaussians live on triangles as ours do: the origin is the triangle's centre, and the axes are its first edge, its
normal and their cross product. Only the unit of length differs: ours is the root of the triangle's area, theirs the
mean of the first edge's length and the height on it. Means and scales are converted on the resting head with the
avatar's shape. As triangles stretch, the two units stretch a little differently, so other poses are close but not the
same.

FLAME's metres and our world differ by a similarity that has no rotation, which local coordinates do not see. Its viewer
adds teeth behind FLAME's own vertices and triangles, so triangle numbers stay, and offsets have rows for the teeth.

Sources (facts): ShenhanQian/GaussianAvatars `scene/gaussian_model.py` (save_ply, load_ply, get_xyz, get_scaling,
get_rotation as corrected in issue 23), `scene/flame_gaussian_model.py`, `utils/graphics_utils.py`
(compute_face_orientation), `flame_model/flame.py` (add_teeth).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstudio.errors import UserError
from headstudio.export.ply import table_of
from headstudio.export.splats import SH_DEGREE_0
from headstudio.files import put

if TYPE_CHECKING:
    from headstudio.avatar.rigged import RiggedGaussians
    from headstudio.export.moves import Film
    from headstudio.head.model import HeadModel
    from headstudio.opened import OpenedRun
    from headstudio.types import Pose

POINTS, PARAMETERS = "point_cloud.ply", "flame_param.npz"
SH_REST = 45  # coefficients above degree 0 that its loader insists on (--sh_degree 3), all zero here


def write_gaussian_avatar(opened: OpenedRun, path: Path, *, pose: Pose, motion: Film | None) -> str:
    """`point_cloud.ply` and `flame_param.npz` in the folder `path`.

    Args:
        opened: the run.
        path: the folder; made if it is not there.
        pose: the one time step where there is no motion.
        motion: the time steps, which its viewer plays.

    Raises:
        UserError: for a head that is not FLAME, a representation other than rigged Gaussians, or a folder that holds
            something else than such an avatar.
    """
    from headstudio.avatar.rigged import RiggedGaussians

    avatar = opened.avatar
    check_is_flame(avatar.head)
    if not isinstance(avatar, RiggedGaussians):
        raise UserError("--format gaussian-avatars needs Gaussians on triangles (representation=f3dgs).")
    path.mkdir(exist_ok=True)
    there = {file.name for file in path.iterdir()}
    if there and there != {POINTS, PARAMETERS}:
        raise UserError(f"--out {path} holds other files, such as {min(there)}; name a new or empty folder.")
    poses = pose if motion is None else motion.poses
    arrays = io.BytesIO()
    fps = 1.0 if motion is None else motion.fps
    np.savez_compressed(arrays, **flame_parameters(avatar, poses, fps))  # type: ignore[arg-type]
    put(path / POINTS, point_cloud(avatar))
    put(path / PARAMETERS, arrays.getvalue())
    return f"{avatar.num_gaussians:,} Gaussians, {len(poses)} time step{'' if len(poses) == 1 else 's'}"


def check_is_flame(head: HeadModel) -> None:
    """Raises UserError unless the head has FLAME's coefficients."""
    from headstudio.motion.transfer import flame_columns

    if not flame_columns(head):
        raise UserError(
            "--format gaussian-avatars needs a run with head=flame: its viewer moves FLAME's triangles, which another "
            "head does not have; take glb or ply-sequence for this one."
        )


@torch.no_grad()
def point_cloud(avatar: RiggedGaussians) -> bytes:
    """The PLY: all properties float32, the triangle's number as `binding_0`."""
    from plyfile import PlyData, PlyElement

    from headstudio.avatar.frames import triangle_frames

    rest = avatar.head(avatar.shape, avatar.head.neutral_pose()).vertices
    ours = triangle_frames(rest, avatar.head.faces).area[0].sqrt()
    ratio = (ours / face_scale(rest[0], avatar.head.faces))[avatar.triangle, None]
    quats = torch.nn.functional.normalize(avatar.quats, dim=-1)
    groups: dict[str, tuple[list[str], Tensor]] = {
        "means": (["x", "y", "z"], avatar.means * ratio),
        "normals": (["nx", "ny", "nz"], torch.zeros_like(avatar.means)),
        "f_dc": (_numbered("f_dc", 3), (avatar.color_logits.sigmoid() - 0.5) / SH_DEGREE_0),
        "f_rest": (_numbered("f_rest", SH_REST), avatar.means.new_zeros(len(avatar.means), SH_REST)),
        "opacity": (["opacity"], avatar.opacity_logits[:, None]),
        "scale": (_numbered("scale", 3), avatar.log_scales + ratio.log()),
        "rot": (_numbered("rot", 4), quats),
        "binding": (["binding_0"], avatar.triangle[:, None].to(avatar.means)),
    }
    columns: dict[str, np.ndarray] = {}
    for names, values in groups.values():
        columns |= dict(zip(names, values.cpu().numpy().astype("<f4").T, strict=True))
    content = io.BytesIO()
    PlyData([PlyElement.describe(table_of(columns), "vertex")], byte_order="<").write(content)
    return content.getvalue()


def face_scale(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, " F"]:
    """GaussianAvatars' size of each triangle: the mean of its first edge and of the height on it."""
    first, second, third = (vertices[faces[:, corner]] for corner in range(3))
    edge = torch.linalg.vector_norm(second - first, dim=-1)
    twice_area = torch.linalg.vector_norm(torch.linalg.cross(second - first, third - first), dim=-1)
    return ((edge + twice_area / edge.clamp(min=1e-10)) / 2).clamp(min=1e-10)


def flame_parameters(avatar: RiggedGaussians, poses: Pose, fps: float) -> dict[str, Any]:
    """`flame_param.npz`: T time steps of FLAME, float32; rotations are axis-angle in radians, lengths metres."""
    from headstudio.motion.recording import Recording
    from headstudio.motion.transfer import flame_columns
    from headstudio.motion.vhap import arrays_of

    head = avatar.head
    columns = flame_columns(head)
    expression = torch.zeros(len(poses), 1 + max(columns.values()))
    expression[:, list(columns.values())] = poses.expression[:, list(columns)].cpu()
    arrays = arrays_of(
        Recording(
            source="the run's motion",
            fps=fps,
            expression=expression.numpy(),
            shape=avatar.shape.detach().cpu().numpy(),
            **{name: poses.joints[:, row].cpu().numpy() for row, name in enumerate(head.joint_names)},
        )
    )
    rows = arrays["static_offset"].shape[1]
    return arrays | {"dynamic_offset": np.zeros((len(poses), rows, 3), np.float32)}


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{index}" for index in range(count)]
