"""The open head that ships with the package (`head=anny`)."""

from __future__ import annotations

import zipfile
import zlib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstudio.errors import UserError
from headstudio.findings import Finding, State
from headstudio.head.model import HeadModel

FLOATS = ("v_template", "shapedirs", "exprdirs", "posedirs", "weights", "J_regressor", "landmark_bary")
INDICES = ("faces", "face_region", "landmark_faces", "parents")
NAMES = ("joint_names", "expression_names", "region_names", "polyline_names")
POLYLINES = ("polyline_first", "polyline_last", "polyline_closed")


def load_anny(*, num_shape: int) -> HeadModel:
    """The head that the baking script wrote into `headstudio/assets/head_anny.npz`, float32 on the CPU.

    Args:
        num_shape: how many of the shape directions to keep, the widest first.

    Raises:
        UserError: when the file is missing, damaged or does not hold a head, or has fewer shape directions.
    """
    return read_head(Path(str(resources.files("headstudio") / "assets" / "head_anny.npz")), num_shape=num_shape)


def look(*, num_shape: int) -> list[Finding]:
    """Nothing, as the file ships with the package, but that it does not have as many shape directions (in no time)."""
    try:
        load_anny(num_shape=num_shape)
    except UserError as problem:
        return [Finding(what="The open head", state=State.BROKEN, detail=str(problem))]
    return []


load_anny.look = look  # type: ignore[attr-defined]


def read_head(path: Path, *, num_shape: int) -> HeadModel:
    """A head from an `.npz` whose keys are `HeadModel`'s arguments.

    Blend shapes may be stored in half precision. Landmark lines are four arrays of one length:
    `polyline_names`, `polyline_first`, `polyline_last` (one past the last point), `polyline_closed`.

    Raises:
        UserError: as `load_anny`.
    """
    arrays = _read(path)
    stored = arrays["shapedirs"].shape[-1]
    if not 0 <= num_shape <= stored:
        raise UserError(
            f"head.num_shape={num_shape} is not possible: {path.name} has {stored} shape directions; "
            f"scale.num_shape={stored} takes all of them."
        )
    arrays["shapedirs"] = arrays["shapedirs"][..., :num_shape]
    lines = [arrays[key].tolist() for key in ("polyline_names", *POLYLINES)]
    settings: dict[str, Any] = {key: torch.from_numpy(arrays[key].astype(np.float32)) for key in FLOATS}
    settings |= {key: torch.from_numpy(arrays[key].astype(np.int64)) for key in INDICES if key != "parents"}
    settings |= {key: arrays[key].tolist() for key in ("parents", "joint_names", "expression_names", "region_names")}
    try:
        return HeadModel(**settings, landmark_polylines=list(zip(*lines, strict=True)))
    except ValueError as problem:
        raise UserError(f"The head file {path} does not fit together ({problem}); reinstall the package.") from problem


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"The head file {path} is missing; reinstall the package, or bake the head again.")
    wanted = (*FLOATS, *INDICES, *NAMES, *POLYLINES)
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            lacking = [key for key in wanted if key not in file.files]
            arrays = {key: file[key] for key in wanted if key not in lacking}
    except (zipfile.BadZipFile, zlib.error, ValueError, TypeError, EOFError, OSError) as problem:
        raise UserError(f"The head file {path} is damaged ({problem}); reinstall the package.") from problem
    if lacking:
        raise UserError(f"The head file {path} lacks {', '.join(lacking)}; reinstall the package.")
    return arrays
