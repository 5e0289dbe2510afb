"""FLAME, the head of the paper (`head=flame`): its own file brought into this package's world.

The similarity is the open head's rule (`head.bake`), which is also the official code's but for the size (1.5 for its
1.556): the template's bounding box is centred at the origin and 1.5 units tall. Axes are FLAME's own. It is fixed at
zero shape, so that a wider head is wider and not merely scaled.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headstudio.errors import UserError
from headstudio.findings import Finding, State
from headstudio.head import flame_arkit, flame_file, flame_landmarks, flame_regions
from headstudio.head.flame_register import OpenHead, Skinned, register
from headstudio.head.model import HeadModel

Array = NDArray[Any]
log = logging.getLogger(__name__)
HEIGHT = 1.5  # world units from the neck's cut to the crown, as the open head's
JOINTS = ("root", "neck", "jaw", "eye_left", "eye_right")


@dataclass(frozen=True)
class Similarity:
    """From FLAME's metres to the world: `(metres - centre) * scale`, no rotation."""

    centre: tuple[float, float, float]  # metres
    scale: float  # world units per metre

    def points(self, metres: Array) -> Array:
        """Points (..., 3) in world units."""
        return (metres - np.array(self.centre)) * self.scale

    def metres(self, points: Array) -> Array:
        """The way back: points (..., 3) in FLAME's frame."""
        return points / self.scale + np.array(self.centre)


def world_from_flame(v_template: Array) -> Similarity:
    """The similarity of a template (V, 3) in metres."""
    low, high = v_template.min(0), v_template.max(0)
    x, y, z = ((low + high) / 2).tolist()
    return Similarity(centre=(x, y, z), scale=HEIGHT / float(high[1] - low[1]))


def load_flame(
    *,
    path: str,
    version: int,
    gender: str,
    num_shape: int,
    num_expression: int,
    landmark_path: str | None,
    mask_path: str | None,
    arkit_path: str | None,
) -> HeadModel:
    """FLAME with its first shape and expression coefficients, landmark lines and regions; float32 on the CPU.

    Args:
        path: the model's file, or a folder that has it under its official name.
        version: 2020 or 2023.
        gender: generic, male or female.
        num_shape, num_expression: how many of the 300 and 100 coefficients to keep, the widest first.
        landmark_path: `mediapipe_landmark_embedding.npz` or `flame_static_embedding.pkl`; None: whichever lies beside
            the model, else the open head's lines are carried over (`flame_landmarks`).
        mask_path: `FLAME_masks.pkl`; None: beside the model, else the open head's regions are carried over.
        arkit_path: what ARKit's weights do (`flame_arkit`); None: beside the model, else of the weights only jaw and
            eyes move FLAME.

    Raises:
        UserError: a file is missing, refused, damaged or of another model, or the setting asks for what it lacks.
    """
    _check_counts(num_shape=num_shape, num_expression=num_expression)
    model_path = flame_file.find_file(Path(path).expanduser(), version=version, gender=gender)
    marks_path = flame_landmarks.find_file(landmark_path, model_path)
    masks_path = flame_regions.find_file(mask_path, model_path)
    table_path = flame_arkit.find_file(arkit_path, model_path)
    flame = flame_file.read_file(model_path, gender=gender)
    similarity = world_from_flame(flame.v_template)
    mesh = Skinned(similarity.points(flame.v_template), flame.faces, flame.weights)
    try:
        carried = register(OpenHead.shipped(), mesh)
    except ValueError as problem:
        raise UserError(f"{model_path}: weights are not FLAME's ({problem}).") from problem
    lines = flame_landmarks.lines(marks_path, mesh, carried)
    region, names = flame_regions.regions(masks_path, mesh, carried)
    log.info("FLAME %s %s is read from %s; %s.", version, gender, model_path, lines.source)
    if flame.note:
        log.warning("%s: %s", model_path, flame.note)
    mapping = None
    if table_path is not None:
        mapping = flame_arkit.read_mapping(table_path, num_expression=num_expression)
        log.info("What ARKit's weights do is read from %s.", table_path)
    shape_end = flame_file.NUM_SHAPE
    expression = flame.shapedirs[..., shape_end : shape_end + num_expression]
    return HeadModel(
        v_template=_tensor(mesh.vertices),
        shapedirs=_tensor(flame.shapedirs[..., :num_shape] * similarity.scale),
        exprdirs=_tensor(expression * similarity.scale),
        posedirs=_tensor(flame.posedirs * similarity.scale),
        weights=_tensor(flame.weights),
        J_regressor=_tensor(flame.J_regressor),
        faces=torch.from_numpy(flame.faces.copy()),
        parents=flame_file.PARENTS,
        joint_names=JOINTS,
        expression_names=[f"flame_{index:03d}" for index in range(num_expression)],
        face_region=torch.from_numpy(region),
        region_names=names,
        landmark_faces=torch.from_numpy(lines.points.faces),
        landmark_bary=_tensor(lines.points.bary),
        landmark_polylines=lines.polylines,
        arkit_mapping=mapping,
    )


def _tensor(values: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def _check_counts(*, num_shape: int, num_expression: int) -> None:
    """Before any file is read."""
    for key, count, most in (
        ("num_shape", num_shape, flame_file.NUM_SHAPE),
        ("num_expression", num_expression, flame_file.NUM_EXPRESSION),
    ):
        if not 0 <= count <= most:
            raise UserError(f"head.{key}={count} is not possible: FLAME has {most} of them.")


def look(
    *,
    path: str,
    version: int,
    gender: str,
    num_shape: int,
    num_expression: int,
    landmark_path: str | None,
    mask_path: str | None,
    arkit_path: str | None,
) -> list[Finding]:
    """Whether `load_flame` of the same arguments would find and accept what it reads; reads the files themselves."""
    what = f"FLAME {version} {gender}"
    place = Path(path).expanduser()
    try:
        _check_counts(num_shape=num_shape, num_expression=num_expression)
        model_path = flame_file.located(place, version=version, gender=gender)
        if model_path is None:
            remedy = flame_file.how_to_get(place, version, gender)
            return [Finding(what=what, state=State.LACKING, detail=f"not at head.path={path}", remedy=remedy)]
        flame_file.read_file(model_path, gender=gender)
    except UserError as problem:
        return [Finding(what=what, state=State.BROKEN, detail=str(problem))]
    return [
        Finding(what=what, state=State.READY, detail=str(model_path), files=(model_path,)),
        _look_at_landmarks(landmark_path, model_path),
        _look_at_masks(mask_path, model_path),
        _look_at_mapping(arkit_path, model_path, num_expression),
    ]


def _look_at_landmarks(landmark_path: str | None, model_path: Path) -> Finding:
    what, best = "FLAME's landmarks", flame_landmarks.MEDIAPIPE_FILE
    remedy = f"for the paper's, put {best} from {flame_file.SITE} (FLAME MediaPipe landmark embedding) beside the model"
    try:
        marks_path = flame_landmarks.find_file(landmark_path, model_path)
        if marks_path is None:
            return Finding(what=what, state=State.NOTE, detail="carried over from the open head", remedy=remedy)
        found = flame_landmarks.read_embedding(marks_path)
    except UserError as problem:
        return Finding(what=what, state=State.BROKEN, detail=str(problem))
    if found.is_mediapipe:
        return Finding(what=what, state=State.READY, detail=str(marks_path), files=(marks_path,))
    detail = f"51 points of {marks_path}"
    return Finding(what=what, state=State.NOTE, detail=detail, remedy=remedy, files=(marks_path,))


def _look_at_masks(mask_path: str | None, model_path: Path) -> Finding:
    what = "FLAME's masks"
    try:
        masks_path = flame_regions.find_file(mask_path, model_path)
        if masks_path is None:
            remedy = f"not needed; {flame_regions.MASKS_FILE} is at {flame_file.SITE} (FLAME vertex masks)"
            return Finding(what=what, state=State.NOTE, detail="carried over from the open head", remedy=remedy)
        flame_regions.read_masks(masks_path)
    except UserError as problem:
        return Finding(what=what, state=State.BROKEN, detail=str(problem))
    return Finding(what=what, state=State.READY, detail=str(masks_path), files=(masks_path,))


def _look_at_mapping(arkit_path: str | None, model_path: Path, num_expression: int) -> Finding:
    what = "What ARKit's weights do"
    try:
        table_path = flame_arkit.find_file(arkit_path, model_path)
        if table_path is None:
            remedy = (
                f"to drive FLAME's whole face by them, put {flame_arkit.OWN_FILE} beside the model (docs/motion.md)"
            )
            return Finding(what=what, state=State.NOTE, detail="they open the jaw and turn the eyes", remedy=remedy)
        flame_arkit.read_mapping(table_path, num_expression=num_expression)
    except UserError as problem:
        return Finding(what=what, state=State.BROKEN, detail=str(problem))
    return Finding(what=what, state=State.READY, detail=str(table_path), files=(table_path,))


load_flame.look = look  # type: ignore[attr-defined]
