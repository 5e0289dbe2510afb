"""What is seen: heads side by side, each as splats and, if wanted, its mesh, landmarks and regions."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from headstudio.head.landmarks import posed_landmarks
from headstudio.types import Landmarks, Pose, PosedHead
from headstudio.view.splats import UNIT, packed

if TYPE_CHECKING:
    from viser import ViserServer

    from headstudio.view.subject import Subject

APART = 1.7  # world units between two heads
TITLE_AT = (0.0, -0.95 / UNIT, 0.0)  # in the scene's own unit, as all that viser is given


@dataclass(frozen=True)
class Layers:
    """What is drawn of a head."""

    splats: bool = True
    mesh: bool = False
    landmarks: bool = False
    regions: bool = False
    size: float = 1.0  # factor on the Gaussians' standard deviations
    shape: tuple[float, ...] = ()  # added to the head's first shape coefficients


class Stage:
    """Some heads in a row, in the scene of a server."""

    def __init__(self, server: ViserServer) -> None:
        self._server = server
        self._places: list[_Place] = []
        server.scene.set_up_direction("+y")

    def put(self, subjects: list[Subject]) -> None:
        """Show these heads, from left to right, in place of the others."""
        for place in self._places:
            place.remove()
        middle = (len(subjects) - 1) / 2
        self._places = [_Place(self._server, n, s, APART / UNIT * (n - middle)) for n, s in enumerate(subjects)]
        self._server.initial_camera.look_at = (0.0, 0.05 / UNIT, 0.0)
        self._server.initial_camera.position = (0.0, 0.15 / UNIT, (2.6 + 1.1 * (len(subjects) - 1)) / UNIT)
        self._server.initial_camera.fov = 0.85

    @property
    def subjects(self) -> list[Subject]:
        return [place.subject for place in self._places]

    def show(self, poses: list[Pose], layers: Layers) -> None:
        """Each head in its pose."""
        with self._server.atomic():
            for place, pose in zip(self._places, poses, strict=True):
                place.show(pose, layers)


class _Place:
    """One head's nodes in the scene; a layer is made when it is first wanted."""

    def __init__(self, server: ViserServer, number: int, subject: Subject, x: float) -> None:
        self._scene, self._name, self.subject = server.scene, f"/head_{number}", subject
        self._root = self._scene.add_frame(self._name, show_axes=False, position=(x, 0.0, 0.0))
        self._title = self._scene.add_label(
            f"{self._name}/title", subject.title, position=TITLE_AT, anchor="top-center"
        )
        self._nodes: dict[str, Any] = {}

    def remove(self) -> None:
        self._root.remove()

    @torch.no_grad()
    def show(self, pose: Pose, layers: Layers) -> None:
        if self._title.text != self.subject.title:
            self._title.text = self.subject.title
        if self.subject.avatar is None:
            return
        posed, _, scene = self.subject.shaped(layers.shape).pose(pose)
        if layers.splats:
            self._set_splats(packed(scene, layers.size))
        if layers.mesh:
            vertices = posed.vertices[0].numpy() / UNIT
            self._set("mesh", "vertices", vertices, lambda name: self._mesh(name, vertices))
        if layers.landmarks:
            points = segments(posed_landmarks(self.subject.head, posed)) / UNIT
            self._set("landmarks", "points", points, lambda name: self._lines(name, points))
        if layers.regions:
            middles = self._middles(posed)
            self._set("regions", "points", middles, lambda name: self._points(name, middles))
        for name, node in self._nodes.items():
            if node.visible != getattr(layers, name):
                node.visible = getattr(layers, name)

    def _set(self, layer: str, field: str, value: Any, make: Any) -> None:
        if layer in self._nodes:
            setattr(self._nodes[layer], field, value)
        else:
            self._nodes[layer] = make(f"{self._name}/{layer}")

    def _set_splats(self, buffer: Any) -> None:
        known = self._nodes.get("splats")
        if known is not None and len(known.buffer) == len(buffer):
            known.buffer = buffer
            return
        if known is not None:  # while training, their number changes
            known.remove()
        some = np.zeros((len(buffer), 3), np.float32)
        wide = np.tile(np.eye(3, dtype=np.float32), (len(buffer), 1, 1))
        node = self._scene.add_gaussian_splats(f"{self._name}/splats", some, wide, some, some[:, :1])
        node.buffer = buffer
        self._nodes["splats"] = node

    def _mesh(self, name: str, vertices: Any) -> Any:
        faces = self.subject.head.faces.numpy()
        return self._scene.add_mesh_simple(name, vertices, faces, color=(70, 130, 180), wireframe=True)

    def _lines(self, name: str, points: Any) -> Any:
        return self._scene.add_line_segments(name, points, (255, 90, 0), thickness=2.0, thickness_units="screen")

    def _points(self, name: str, points: Any) -> Any:
        count = len(self.subject.head.region_names)
        palette = np.array([colorsys.hsv_to_rgb(n / count, 0.75, 0.95) for n in range(count)])
        colors = palette[self.subject.head.face_region.numpy()]
        return self._scene.add_point_cloud(name, points, colors, point_size=0.008 / UNIT, point_shape="circle")

    def _middles(self, posed: PosedHead) -> Any:
        """(F, 3) the middles of the triangles, a little outside, where splats do not hide them."""
        middles = posed.vertices[0][self.subject.head.faces].mean(1)
        return (1.01 / UNIT * middles).numpy()


def segments(landmarks: Landmarks) -> Any:
    """(K, 2, 3) the lines between neighbouring landmarks."""
    pairs: list[tuple[int, int]] = []
    for _, first, end, closed in landmarks.polylines:
        line = list(range(first, end)) + ([first] if closed else [])
        pairs += pairwise(line)
    return landmarks.points[0].numpy()[np.array(pairs)]
