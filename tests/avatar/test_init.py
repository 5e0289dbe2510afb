from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headstudio.avatar.frames import triangle_frames
from headstudio.avatar.init import (
    Area,
    Initialisation,
    Seeds,
    Sparse,
    SuperResolution,
    neighbour_scales,
    sample_in_triangles,
    to_local,
)
from headstudio.errors import UserError
from headstudio.head.model import HeadModel

OPTIONS: list[Initialisation] = [
    SuperResolution(per_triangle=4, neighbours=3, distance_power=2),
    Area(count=300, every_triangle=True, neighbours=3, distance_power=2),
    Sparse(neighbours=3, distance_power=2),
]


def seeded(option: Initialisation, head: HeadModel, seed: int = 0) -> Seeds:
    return option(head.v_template, head.faces, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("option", OPTIONS)
def test_points_lie_in_their_triangles_and_every_triangle_has_one(option: Initialisation, tiny_head: HeadModel) -> None:
    seeds = seeded(option, tiny_head)
    assert len(seeds.triangle.unique()) == len(tiny_head.faces)
    corners = tiny_head.v_template[tiny_head.faces[seeds.triangle]].double()
    # barycentric weights by least squares: all between 0 and 1, summing to 1, and exact
    system = torch.cat((corners.mT, torch.ones(len(corners), 1, 3, dtype=torch.float64)), dim=1)
    target = torch.cat((seeds.points.double(), torch.ones(len(corners), 1, dtype=torch.float64)), dim=1)
    weights = torch.linalg.lstsq(system, target[..., None]).solution[..., 0]
    assert bool((weights > -1e-5).all())
    assert torch.allclose((system @ weights[..., None])[..., 0], target, atol=1e-5)


@pytest.mark.parametrize("option", OPTIONS)
def test_the_seed_decides(option: Initialisation, tiny_head: HeadModel) -> None:
    first, again, other = (seeded(option, tiny_head, seed) for seed in (0, 0, 1))
    assert torch.equal(first.points, again.points)
    assert torch.equal(first.triangle, again.triangle)
    if not isinstance(option, Sparse):
        assert not torch.equal(first.points, other.points)


def test_counts(tiny_head: HeadModel) -> None:
    assert [len(seeded(option, tiny_head).points) for option in OPTIONS] == [320, 300, 80]
    few = seeded(Area(count=30, every_triangle=True, neighbours=3, distance_power=2), tiny_head)
    assert len(few.triangle.unique()) == len(few.points) == 30


def test_super_resolution_is_uniform_per_triangle_and_area_by_area() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [30, 0, 0], [0, 30, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 3, 4]])
    generator = torch.Generator().manual_seed(0)
    by_triangle = SuperResolution(per_triangle=50, neighbours=3, distance_power=2)(vertices, faces, generator)
    assert by_triangle.triangle.bincount().tolist() == [50, 50]
    by_area = Area(count=18_022, every_triangle=True, neighbours=3, distance_power=2)(vertices, faces, generator)
    assert by_area.triangle.bincount()[0].item() == pytest.approx(1 + 18_020 / 901, abs=25)


def test_the_official_start_leaves_small_triangles_bare() -> None:
    """Points per triangle are multinomial in the area: expected N * share, and none where the share is tiny."""
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [0, 2, 0], [1e-4, 0, 0], [0, 1e-4, 0]])
    faces = torch.tensor([[0, 5, 6], [0, 1, 2], [0, 3, 4]])
    seeds = Area(count=10_000, every_triangle=False, neighbours=3, distance_power=2)(
        vertices, faces, torch.Generator().manual_seed(0)
    )
    counts = seeds.triangle.bincount(minlength=3).tolist()
    assert counts[0] == 0
    assert counts[1] == pytest.approx(2000, abs=4 * (10_000 * 0.2 * 0.8) ** 0.5)
    assert sum(counts) == 10_000


def test_sampling_is_uniform_in_the_triangle() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    points = sample_in_triangles(
        vertices, torch.tensor([[0, 1, 2]]), torch.zeros(20_000, dtype=torch.int64), torch.Generator().manual_seed(0)
    )
    # the mean is the centroid, and each corner's quarter of the area holds a quarter of the points
    assert torch.allclose(points.mean(0), torch.tensor([1 / 3, 1 / 3, 0]), atol=0.01)
    for inside in (points[:, :2].sum(1) < 0.5, points[:, 0] > 0.5, points[:, 1] > 0.5):
        assert float(inside.float().mean()) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("power", [1, 2])
def test_neighbour_scales_against_all_distances(power: int) -> None:
    points = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    nearest = torch.cdist(points.double(), points.double()).sort(dim=1).values[:, 1:6]
    expected = (nearest**power).mean(1).sqrt().float()
    assert torch.allclose(neighbour_scales(points, neighbours=5, distance_power=power), expected, atol=1e-5)


def test_neighbour_scales_of_coincident_and_few_points() -> None:
    assert bool((neighbour_scales(torch.zeros(5, 3), neighbours=3, distance_power=2) == 1e-4).all())
    assert len(neighbour_scales(torch.zeros(1, 3), neighbours=3, distance_power=2)) == 1
    pair = neighbour_scales(torch.tensor([[0.0, 0, 0], [0, 2, 0]]), neighbours=10, distance_power=2)
    assert torch.allclose(pair, torch.tensor([2.0, 2.0]))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.01, 10))
def test_the_inverse_of_equations_6_and_7(seed: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    vertices = size * torch.randn(6, 3, generator=generator, dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [3, 4, 5], [5, 1, 0]])
    seeds = SuperResolution(per_triangle=3, neighbours=2, distance_power=2)(vertices, faces, generator)
    frames = triangle_frames(vertices[None], faces)
    means, scales = to_local(seeds, frames)
    for index, triangle in enumerate(seeds.triangle.tolist()):
        root = frames.area[0, triangle].sqrt()
        world = root * frames.rotation[0, triangle] @ means[index] + frames.origin[0, triangle]
        assert torch.allclose(world, seeds.points[index], atol=1e-9)
        assert torch.allclose(root * scales[index], seeds.scales[index])


def test_impossible_settings_are_named() -> None:
    with pytest.raises(UserError, match=r"init\.per_triangle=0"):
        SuperResolution(per_triangle=0, neighbours=3, distance_power=2)
    with pytest.raises(UserError, match=r"init\.count=0"):
        Area(count=0, every_triangle=False, neighbours=3, distance_power=2)
    with pytest.raises(UserError, match=r"init\.neighbours=0"):
        Sparse(neighbours=0, distance_power=2)
    with pytest.raises(UserError, match=r"init\.distance_power=3"):
        Sparse(neighbours=3, distance_power=3)
