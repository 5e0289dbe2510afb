"""Facial landmarks of a posed head: points that ride on its triangles, joined to named lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstudio.types import Landmarks, PosedHead

if TYPE_CHECKING:
    from headstudio.head.model import HeadModel


def posed_landmarks(head: HeadModel, posed: PosedHead) -> Landmarks:
    """The head's landmarks at P poses, in world units, differentiable in the vertices."""
    corners = posed.vertices[:, head.faces[head.landmark_faces]]
    points = (head.landmark_bary[None, :, :, None] * corners).sum(2)
    return Landmarks(points=points, polylines=head.landmark_polylines)
