"""Texels on triangles: where they lie, who shares them, and what lies between them."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from headstudio.avatar.texture import face_neighbours, interpolation, lattice, lattice_points, mesh_edges
from headstudio.head.model import HeadModel

FAN = torch.tensor([[0, 1, 2], [0, 2, 3], [2, 1, 4], [1, 0, 5], [0, 1, 6]])  # three triangles on the edge 0-1


def reference_interpolation(weights: Tensor, values: Tensor, subdivisions: int) -> Tensor:
    """The value at one place, by trying every small triangle: `values` are those of the lattice points in order."""
    number = {point[1:]: n for n, point in enumerate(lattice_points(subdivisions))}
    place = weights[1:] * subdivisions
    small = []
    for i, j in number:
        small += [[(i, j), (i + 1, j), (i, j + 1)], [(i + 1, j + 1), (i, j + 1), (i + 1, j)]]
    best: tuple[float, Tensor] | None = None
    for corners in small:
        if all(corner in number for corner in corners):
            system = torch.tensor([[float(a), float(b), 1.0] for a, b in corners], dtype=torch.float64).T
            shares = torch.linalg.solve(system, torch.cat((place, torch.ones(1, dtype=torch.float64))))
            value = shares @ values[[number[corner] for corner in corners]]
            if best is None or float(shares.min()) > best[0]:
                best = float(shares.min()), value
    assert best is not None
    assert best[0] > -1e-9
    return best[1]


@pytest.mark.parametrize("subdivisions", [1, 2, 3, 5])
def test_neighbours_share_the_texels_of_their_edge_and_nothing_else(tiny_head: HeadModel, subdivisions: int) -> None:
    """A texel is a point of the surface: the same from every triangle that has it, and no two are at one place."""
    vertices, faces = tiny_head.v_template.double(), tiny_head.faces
    ids, count = lattice(faces, len(vertices), subdivisions)
    weights = torch.tensor(lattice_points(subdivisions), dtype=torch.float64) / subdivisions
    places = (weights[None, :, :, None] * vertices[faces][:, None]).sum(2)
    first = torch.full((count, 3), torch.nan, dtype=torch.float64)
    first[ids.flatten()] = places.flatten(0, 1)
    assert not bool(first.isnan().any())  # every texel is used
    assert torch.allclose(first[ids], places, atol=1e-12)
    apart = torch.cdist(first, first) + torch.eye(count, dtype=torch.float64)
    assert float(apart.min()) > 1e-4
    edges = 80 * 3 // 2
    assert count == 42 + edges * (subdivisions - 1) + 80 * (subdivisions - 1) * (subdivisions - 2) // 2


def test_one_subdivision_is_a_colour_per_vertex(tiny_head: HeadModel) -> None:
    ids, count = lattice(tiny_head.faces, 42, 1)
    assert torch.equal(ids, tiny_head.faces)
    assert count == 42


@pytest.mark.parametrize("subdivisions", [1, 2, 3, 4])
def test_interpolation_is_that_of_the_small_triangles(subdivisions: int, generator: torch.Generator) -> None:
    weights = torch.distributions.Dirichlet(torch.ones(3, dtype=torch.float64))
    torch.manual_seed(0)
    places = torch.cat((weights.sample((60,)), torch.eye(3, dtype=torch.float64)))
    values = torch.randn(len(lattice_points(subdivisions)), generator=generator, dtype=torch.float64)
    corners, shares = interpolation(places, subdivisions)
    assert torch.allclose(shares.sum(-1), torch.ones(63, dtype=torch.float64))
    expected = torch.stack([reference_interpolation(place, values, subdivisions) for place in places])
    assert torch.allclose((shares * values[corners]).sum(-1), expected, atol=1e-12)


def test_places_just_outside_stay_in_the_table() -> None:
    outside = torch.tensor([[-1e-6, 0.5, 0.500001], [1.000001, -1e-6, 0.0], [0.0, 1.000001, -1e-6]])
    for subdivisions in (1, 2, 7):
        corners, shares = interpolation(outside, subdivisions)
        assert int(corners.min()) >= 0
        assert int(corners.max()) < len(lattice_points(subdivisions))
        assert float(shares.min()) > -1e-4


def test_neighbours_are_those_that_share_two_corners(tiny_head: HeadModel) -> None:
    for faces in (tiny_head.faces, FAN):
        found = face_neighbours(faces)
        for face, corners in enumerate(faces.tolist()):
            for corner in range(3):
                edge = set(corners) - {corners[corner]}
                others = [n for n, other in enumerate(faces.tolist()) if n != face and edge <= set(other)]
                assert int(found[face, corner]) == (others[0] if len(others) == 1 else -1)


def test_edges_are_listed_once(tiny_head: HeadModel) -> None:
    edges, edge_of = mesh_edges(tiny_head.faces)
    expected = {tuple(sorted(pair)) for face in tiny_head.faces.tolist() for pair in combinations(face, 2)}
    assert {tuple(edge) for edge in edges.tolist()} == expected
    assert len(edges) == len(expected)
    for face, mine in zip(tiny_head.faces.tolist(), edge_of.tolist(), strict=True):
        for corner in range(3):
            assert set(edges[mine[corner]].tolist()) == set(face) - {face[corner]}
