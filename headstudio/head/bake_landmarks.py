"""MediaPipe-style landmark lines of the open head, as points fixed to triangles.

Lips and eyelids follow the boundaries of the regions they border; face oval and brows are drawn in the front
view and cast onto the surface. A point is a triangle and three barycentric weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstudio.head import bake_regions

Array = NDArray[Any]


def landmarks(vertices: Array, faces: Array, face_region: Array) -> dict[str, Array]:
    """Keys `landmark_*` and `polyline_*` of the head file."""
    lines: list[tuple[str, Array, bool]] = [("face_oval", face_oval(vertices), True)]
    lines += lip_lines(vertices, faces, face_region)
    for side, name in ((-1, "right"), (1, "left")):
        lines.append((f"{name}_eye", eyelid_line(vertices, faces, face_region, side), True))
        lines += brow_lines(side, name)
        lines.append((f"{name}_pupil", pupil(vertices, faces, face_region, side), False))
    face_ids: list[int] = []
    weights: list[Array] = []
    names: list[str] = []
    first, last, closed = [], [], []
    for name, points, is_closed in lines:
        cast = points.shape[1] == 2
        ids, bary = cast_from_front(points, vertices, faces, face_region) if cast else nearest(points, vertices, faces)
        first.append(len(face_ids))
        face_ids += list(ids)
        weights += list(bary)
        names.append(name)
        last.append(len(face_ids))
        closed.append(is_closed)
    return {
        "landmark_faces": np.array(face_ids, np.int32),
        "landmark_bary": np.array(weights, np.float32),
        "polyline_names": np.array(names),
        "polyline_first": np.array(first, np.int32),
        "polyline_last": np.array(last, np.int32),
        "polyline_closed": np.array(closed),
    }


def face_oval(vertices: Array, count: int = 36) -> Array:
    """The face's outline in the front view (count, 2): hairline, temples, jaw and chin."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False) + np.pi / 2
    top, bottom = 0.36, -0.605
    middle = -0.02
    x = 0.395 * np.cos(angle)
    y = np.where(np.sin(angle) > 0, middle + (top - middle) * np.sin(angle), middle - (bottom - middle) * np.sin(angle))
    narrowing = np.interp(y, [bottom, -0.45, middle], [0.74, 0.80, 1.0])  # the jaw is narrower than an ellipse
    return np.stack([x * narrowing, y], -1)


def brow_lines(side: int, name: str, count: int = 5) -> list[tuple[str, Array, bool]]:
    """Upper and lower brow lines, open, from the nose outwards, in the front view."""
    curve = bake_regions.brow_curve(count)[0 if side < 0 else 1]
    half_width = np.linspace(0.022, 0.008, count)
    offset = np.stack([np.zeros(count), half_width], -1)
    return [(f"{name}_brow_upper", curve + offset, False), (f"{name}_brow_lower", curve - offset, False)]


def pupil(vertices: Array, faces: Array, face_region: Array, side: int) -> Array:
    """The foremost point (1, 3) of an eyeball."""
    iris = np.unique(faces[face_region == bake_regions.REGIONS.index("iris")])
    mine = iris[np.sign(vertices[iris, 0]) == side]
    return vertices[mine[vertices[mine, 2].argmax()]][None]


def lip_lines(vertices: Array, faces: Array, face_region: Array) -> list[tuple[str, Array, bool]]:
    """The lips' outer outline and the line along which they part, both closed (n, 3)."""
    outer, inner = lip_rims(vertices, faces[face_region == bake_regions.REGIONS.index("lips")])
    return [("lips_outer", resample(vertices[outer], 24), True), ("lips_inner", resample(vertices[inner], 24), True)]


def lip_rims(vertices: Array, lips: Array) -> tuple[Array, Array]:
    """Ordered vertex ids of the lips' outer and inner edge; `lips` are their triangles."""
    loops = boundary_loops(lips)
    loops.sort(key=lambda loop: float(np.ptp(vertices[loop, 0]) + np.ptp(vertices[loop, 1])))
    return loops[-1], loops[-2]


def eyelid_line(vertices: Array, faces: Array, face_region: Array, side: int, count: int = 16) -> Array:
    """The lids' edge (count, 3): the outline of the socket's triangles towards the face."""
    socket = face_region == bake_regions.REGIONS.index("socket")
    mine = socket & (np.sign(vertices[faces].mean(1)[:, 0]) == side)
    loops = boundary_loops(faces[mine])
    foremost = max((vertices[loop] for loop in loops), key=lambda p: p[:, 2].mean())
    return resample(foremost, count)


def boundary_loops(faces: Array) -> list[Array]:
    """Ordered vertex ids of every boundary of a set of consistently wound triangles."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    directed = {tuple(edge) for edge in edges.tolist()}
    follow = {a: b for a, b in directed if (b, a) not in directed}
    loops = []
    while follow:
        start, at = next(iter(follow.items()))
        loop = [start]
        del follow[start]
        while at != start and at in follow:
            loop.append(at)
            at = follow.pop(at)
        loops.append(np.array(loop))
    return loops


def resample(points: Array, count: int) -> Array:
    """`count` points at equal arc length along a closed line (n, 3)."""
    ring = np.concatenate([points, points[:1]])
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(ring, axis=0), axis=1))])
    at = np.linspace(0, arc[-1], count, endpoint=False)
    return np.stack([np.interp(at, arc, ring[:, c]) for c in range(3)], -1)


def nearest(points: Array, vertices: Array, faces: Array) -> tuple[Array, Array]:
    """Triangle and barycentric weights of the surface point nearest to each of `points` (n, 3)."""
    ids, weights = [], []
    centres = vertices[faces].mean(1)
    for point in points:
        best: tuple[float, int, Array] = (np.inf, 0, np.zeros(3))
        for face in np.argsort(np.linalg.norm(centres - point, axis=1), kind="stable")[:40]:
            corners = vertices[faces[face]]
            bary = clamped_barycentric(point, corners)
            distance = float(np.linalg.norm(bary @ corners - point))
            if distance < best[0] - 1e-12:
                best = (distance, int(face), bary)
        ids.append(best[1])
        weights.append(best[2])
    return np.array(ids), np.array(weights)


def clamped_barycentric(point: Array, corners: Array) -> Array:
    """Barycentric weights of a point's projection to a triangle, clamped to the triangle, summing to one."""
    edges = np.stack([corners[1] - corners[0], corners[2] - corners[0]], -1)
    v, w = np.linalg.lstsq(edges, point - corners[0], rcond=None)[0]
    bary = np.clip([1 - v - w, v, w], 0, 1)
    return bary / bary.sum()


def cast_from_front(points: Array, vertices: Array, faces: Array, face_region: Array) -> tuple[Array, Array]:
    """Triangle and weights where rays from the viewer, parallel to z, first meet the skin at `points` (n, 2).

    A ray that misses is moved towards the face's middle until it hits.
    """
    corners = vertices[faces]
    ids, weights = [], []
    for point in points:
        for shrink in np.linspace(1, 0.5, 51):
            hit = first_hit(point * shrink, corners)
            if hit is not None:
                break
        assert hit is not None
        ids.append(hit[0])
        weights.append(hit[1])
    return np.array(ids), np.array(weights)


def first_hit(point: Array, corners: Array) -> tuple[int, Array] | None:
    """The foremost triangle over a point of the front view, with its weights; None if there is none."""
    a, b, c = (corners[:, i, :2] for i in range(3))

    def cross(p: Array, q: Array) -> Array:
        return p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]

    area = cross(b - a, c - a)
    safe = np.where(area == 0, 1, area)
    bary = np.stack([cross(b - point, c - point), cross(c - point, a - point), cross(a - point, b - point)], -1)
    bary = bary / safe[:, None]
    inside = (bary >= 0).all(1) & (area != 0)
    if not inside.any():
        return None
    depth = np.where(inside, (bary * corners[:, :, 2]).sum(1), -np.inf)
    face = int(depth.argmax())
    return face, bary[face]
