"""Gaussians at one pose as .ply (3DGS), .splat and .spz.

* `.ply`: float32, as 3DGS saves it (`splats.PROPERTIES`), nothing is lost.
* `.splat`: 32 bytes a Gaussian, large ones first as viewers that stream it expect: position and scale float32, colour
  and opacity and rotation a byte each.
* `.spz`: Niantic's packed format, version 3 (gzip), by the library gsply. Positions have up to 16 fractional bits,
  everything else is a byte or 10 bits. Its specification stores right-up-back where a PLY is right-down-forward, so y
  and z change their signs on the way, and readers turn them back.

Sources: graphdeco-inria/gaussian-splatting `GaussianModel.save_ply`; antimatter15/splat `convert.py`; nianticlabs/spz.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from headstudio.export.axes import AXES, Axes
from headstudio.export.splats import Splats, check_has_gaussians, check_moves, splats_of
from headstudio.files import put

if TYPE_CHECKING:
    from headstudio.opened import OpenedRun
    from headstudio.types import Pose

SPZ_VERSION = 3
SPZ_BITS = 16  # of a position after the point, where 24 bits in all reach: 1/65536 of a world unit, within +-128
SPZ_FROM_PLY = AXES["opencv"]  # the turn between right-down-forward and right-up-back


def write_ply(opened: OpenedRun, path: Path, *, pose: Pose, axes: Axes) -> str:
    """A 3DGS scene. Raises UserError for a representation without Gaussians."""
    return _write(path, _splats(opened, pose, axes), ply_bytes)


def write_splat(opened: OpenedRun, path: Path, *, pose: Pose, axes: Axes) -> str:
    """antimatter15's format. Raises as `write_ply`."""
    return _write(path, _splats(opened, pose, axes), splat_bytes)


def write_spz(opened: OpenedRun, path: Path, *, pose: Pose, axes: Axes) -> str:
    """Niantic's format. Raises as `write_ply`."""
    return _write(path, _splats(opened, pose, axes), spz_bytes)


def ply_bytes(splats: Splats) -> bytes:
    """One element `vertex` with `PROPERTIES`, little-endian."""
    from plyfile import PlyData, PlyElement

    from headstudio.export.ply import table_of

    content = io.BytesIO()
    vertex = PlyElement.describe(table_of(splats.columns()), "vertex")
    PlyData([vertex], byte_order="<").write(content)
    return content.getvalue()


def splat_bytes(splats: Splats) -> bytes:
    """32 bytes each, by falling opacity times volume.

    A byte b stands for b / 255 in colour and opacity, and for (b - 128) / 128 in the quaternion (wxyz).
    """
    opacity = 1.0 / (1.0 + np.exp(-splats.opacities.astype(np.float64)))
    order = np.argsort(-opacity * np.exp(splats.log_scales.sum(-1, dtype=np.float64)), kind="stable")
    record = np.dtype([("position", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("rotation", "u1", 4)])
    table = np.empty(len(splats), record)
    table["position"] = splats.means
    table["scale"] = np.exp(splats.log_scales)
    table["rgba"] = np.rint(np.column_stack((splats.colors, opacity)) * 255.0).clip(0, 255)
    table["rotation"] = np.rint(splats.quats * 128.0 + 128.0).clip(0, 255)
    return table[order].tobytes()


def spz_bytes(splats: Splats) -> bytes:
    """The packed file, by gsply."""
    from gsply import GSData
    from gsply.spz import write_spz as write_packed

    stored = replace(splats, means=SPZ_FROM_PLY.points(splats.means), quats=SPZ_FROM_PLY.quaternions(splats.quats))
    data = GSData.from_arrays(
        means=stored.means,
        scales=stored.log_scales,
        quats=stored.quats,
        opacities=stored.opacities,
        sh0=stored.f_dc,
        shN=None,
        format="ply",
    )
    with TemporaryDirectory() as folder:
        file = Path(folder) / "packed.spz"
        write_packed(file, data, version=SPZ_VERSION, fractional_bits=fractional_bits(stored.means))
        return file.read_bytes()


def fractional_bits(means: np.ndarray) -> int:
    """As many as fit beside the largest coordinate in 24 bits with a sign, at most `SPZ_BITS`."""
    largest = max(float(np.abs(means).max(initial=0.0)), 2.0**-SPZ_BITS)
    return max(1, min(SPZ_BITS, int(np.floor(np.log2((2**23 - 1) / largest)))))


def _splats(opened: OpenedRun, pose: Pose, axes: Axes) -> Splats:
    check_has_gaussians(opened.avatar)
    if bool(pose.expression.any()) or bool(pose.joints.any()):
        check_moves(opened.avatar, "--pose")
    return splats_of(opened.avatar, pose, axes)


def _write(path: Path, splats: Splats, packed: Callable[[Splats], bytes]) -> str:
    put(path, packed(splats))
    return f"{len(splats):,} Gaussians"
