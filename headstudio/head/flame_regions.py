"""FLAME's regions under the open head's names, so that metrics that look at lips or eyes work on both.

The open head's regions are carried over (each triangle takes that of the nearest one), eyeballs are known by their
joints, and where `FLAME_masks.pkl` is at hand, lips, scalp, neck and ears are its.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstudio.errors import UserError
from headstudio.head.bake_regions import IRIS_RADIUS
from headstudio.head.flame_file import NUM_VERTICES, beside, numbers
from headstudio.head.flame_register import Carried, Skinned
from headstudio.head.safe_pickle import load_pickle

Array = NDArray[Any]
MASKS_FILE = "FLAME_masks.pkl"
# Ours, and the masks that make it up. FLAME's eye_region is the skin about the eyes, which the open head calls skin.
MASKS: Mapping[str, tuple[str, ...]] = {
    "neck": ("neck", "boundary"),
    "scalp": ("scalp",),
    "ears": ("left_ear", "right_ear"),
    "lips": ("lips",),
}
NOT_CARRIED = ("sclera", "iris", "teeth", "tongue")  # eyeballs are known otherwise, and FLAME has neither of the others


def find_file(mask_path: str | None, model_path: Path) -> Path | None:
    """The masks that are named, or lie beside the model; None if there are none.

    Raises:
        UserError: the file that is named is not there.
    """
    return beside("mask_path", mask_path, model_path, (MASKS_FILE,))


def regions(path: Path | None, flame: Skinned, carried: Carried) -> tuple[Array, tuple[str, ...]]:
    """Per triangle (F,) the index of its region, and the regions' names: those of the open head that FLAME has.

    Raises:
        UserError: the masks are refused, damaged or of another mesh.
    """
    from scipy.spatial import cKDTree

    names = carried.head.region_names
    lent = ~carried.head.of(*NOT_CARRIED)
    centres = flame.vertices[flame.faces].mean(1)
    theirs = carried.vertices[carried.head.mesh.faces[lent]].mean(1)
    region = carried.head.face_region[lent][cKDTree(theirs).query(centres)[1]]
    if path is not None:
        region = _masked(read_masks(path), region, flame.faces, names)
    for ids in flame.eyeballs().values():
        ball = np.isin(flame.faces, ids).all(1)
        iris = np.linalg.norm(centres - flame.vertices[flame.foremost(ids)], axis=1) < IRIS_RADIUS
        region[ball] = names.index("sclera")
        region[ball & iris] = names.index("iris")
    there, region = np.unique(region, return_inverse=True)
    return region.astype(np.int64), tuple(names[index] for index in there)


def _masked(masks: Mapping[str, Array], region: Array, faces: Array, names: tuple[str, ...]) -> Array:
    """Regions that the masks define are theirs alone: what was carried over beyond them becomes skin."""
    for name, parts in MASKS.items():
        given = [masks[part] for part in parts if part in masks]
        if not given:
            continue
        inside = np.isin(faces, np.concatenate(given)).all(1)
        region = np.where(region == names.index(name), names.index("skin"), region)
        region[inside] = names.index(name)
    return region


def read_masks(path: Path) -> dict[str, Array]:
    """Vertex ids by the names of the file.

    Raises:
        UserError: as `regions`.
    """
    content = load_pickle(path)
    wanted = {part for parts in MASKS.values() for part in parts}
    if not isinstance(content, dict) or not wanted & {str(key) for key in content}:
        raise UserError(f"{path} is not {MASKS_FILE}: it has none of {', '.join(sorted(wanted))}.")
    masks = {}
    for key, value in content.items():
        ids = numbers(path, str(key), value)
        if ids.ndim != 1 or (ids.size and (ids.min() < 0 or ids.max() >= NUM_VERTICES or (ids % 1).any())):
            raise UserError(f"{path}: {key} holds vertices outside 0..{NUM_VERTICES - 1}; it is of another mesh.")
        masks[str(key)] = ids.astype(np.int64)
    return masks
