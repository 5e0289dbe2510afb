"""Where the first Gaussians are and how big they are: the option group `init`.

Every option is a function of the head at rest and a generator that returns `Seeds`; `RiggedGaussians` turns
them into its parameters by the inverse of Eq. 6 and 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstudio.avatar.frames import Frames
from headstudio.errors import UserError


@dataclass(frozen=True)
class Seeds:
    """N starting Gaussians in the world of the resting head; isotropic, one standard deviation each."""

    points: Float[Tensor, "N 3"]
    triangle: Int[Tensor, " N"]
    scales: Float[Tensor, " N"]  # world units, > 0


class Initialisation(Protocol):
    """What an option of the group `init` is."""

    def __call__(
        self, vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], generator: torch.Generator
    ) -> Seeds: ...


class SuperResolution:
    """`per_triangle` points on every triangle, uniform in its area (the paper's uniform super-resolution).

    Args:
        per_triangle: the paper's K.
        neighbours, distance_power: see `neighbour_scales`.

    Raises:
        UserError: when a count is below 1.
    """

    def __init__(self, *, per_triangle: int, neighbours: int, distance_power: int) -> None:
        _at_least("init.per_triangle", per_triangle, 1)
        self.per_triangle = per_triangle
        self.scales = NeighbourScales(neighbours=neighbours, distance_power=distance_power)

    def __call__(self, vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], generator: torch.Generator) -> Seeds:
        triangle = torch.arange(len(faces)).repeat_interleave(self.per_triangle)
        return self.scales.seeds(sample_in_triangles(vertices, faces, triangle, generator), triangle)


class Area:
    """`count` points spread by area over the whole head, as the official code does (its count is 100,000).

    Args:
        count: how many.
        every_triangle: give every triangle one point before the rest is dealt out by area, so that small lips and
            lids are not left bare (a count below the number of triangles leaves the smallest without). The official
            code does not: a triangle may start without a Gaussian, and then never has one.
        neighbours, distance_power: see `neighbour_scales`.

    Raises:
        UserError: when a count is below 1.

    Source: gaussian_flame_model.py:270-273 (`trimesh.sample.sample_surface`).
    """

    def __init__(self, *, count: int, every_triangle: bool, neighbours: int, distance_power: int) -> None:
        _at_least("init.count", count, 1)
        self.count, self.every_triangle = count, every_triangle
        self.scales = NeighbourScales(neighbours=neighbours, distance_power=distance_power)

    def __call__(self, vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], generator: torch.Generator) -> Seeds:
        corners = vertices[faces].double()
        area = torch.linalg.vector_norm(
            torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), dim=-1
        ).cpu()
        biggest = torch.argsort(area, descending=True, stable=True)
        first = torch.sort(biggest[: self.count if self.every_triangle else 0]).values
        # inverse of the cumulated area; torch.multinomial would do, but only up to 2^24 triangles
        draws = torch.rand(self.count - len(first), generator=generator, dtype=torch.float64)
        rest = torch.searchsorted(area.cumsum(0) / area.sum(), draws).clamp_max(len(faces) - 1)
        triangle = torch.sort(torch.cat((first, rest)), stable=True).values
        return self.scales.seeds(sample_in_triangles(vertices, faces, triangle, generator), triangle)


class Sparse:
    """One point in the middle of every triangle: no super-resolution, for the paper's ablation (Fig. 7).

    Raises:
        UserError: when a count is below 1.
    """

    def __init__(self, *, neighbours: int, distance_power: int) -> None:
        self.scales = NeighbourScales(neighbours=neighbours, distance_power=distance_power)

    def __call__(self, vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], generator: torch.Generator) -> Seeds:
        return self.scales.seeds(vertices[faces].mean(1), torch.arange(len(faces)))


class NeighbourScales:
    """Scales from the distances to the nearest points: (mean of distance^`distance_power`)^(1/2).

    The paper's words, "the square root of the mean distance of its K-nearest neighbor points", are
    `distance_power` 1, whose unit is the root of a length: at a spacing of 0.005 the Gaussians would be 0.07
    wide. The official code takes the root of the mean squared distance (`distCUDA2`), `distance_power` 2, which
    is a length and what our settings use.

    Args:
        neighbours: how many nearest points; the paper's K (10) or the official code's 3.
        distance_power: 1 or 2.
    """

    def __init__(self, *, neighbours: int, distance_power: int) -> None:
        _at_least("init.neighbours", neighbours, 1)
        if distance_power not in (1, 2):
            raise UserError(f"init.distance_power={distance_power} is not possible: it is 1 (paper) or 2 (official).")
        self.neighbours, self.distance_power = neighbours, distance_power

    def seeds(self, points: Float[Tensor, "N 3"], triangle: Int[Tensor, " N"]) -> Seeds:
        scales = neighbour_scales(points, neighbours=self.neighbours, distance_power=self.distance_power)
        return Seeds(points=points, triangle=triangle.to(points.device), scales=scales)


def neighbour_scales(
    points: Float[Tensor, "N 3"], *, neighbours: int, distance_power: int, smallest: float = 1e-4
) -> Float[Tensor, " N"]:
    """See `NeighbourScales`; never below `smallest` (coincident points), and that for a lone point."""
    from scipy.spatial import cKDTree

    wanted = min(neighbours, len(points) - 1)
    if wanted < 1:
        return points.new_full((len(points),), smallest)
    cloud = points.detach().cpu().double().numpy()
    distances, _ = cKDTree(cloud).query(cloud, k=wanted + 1)
    mean = (distances[:, 1:] ** distance_power).mean(1)  # column 0 is the point itself
    return torch.from_numpy(mean**0.5).to(points).clamp_min(smallest)


def sample_in_triangles(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], triangle: Int[Tensor, " N"], generator: torch.Generator
) -> Float[Tensor, "N 3"]:
    """One point in each of the N named triangles, uniform in area.

    Source: R. Osada et al., Shape distributions, 2002, section 4.2 (the square root makes it uniform).
    """
    draws = torch.rand(len(triangle), 2, generator=generator, dtype=torch.float64).to(vertices)
    outer = draws[:, :1].sqrt()
    weights = torch.cat((1 - outer, outer * (1 - draws[:, 1:]), outer * draws[:, 1:]), dim=-1)
    return (weights[..., None] * vertices[faces[triangle.to(faces.device)]]).sum(1)


def to_local(seeds: Seeds, frames: Frames) -> tuple[Float[Tensor, "N 3"], Float[Tensor, " N"]]:
    """Local means and scales of the seeds, by the inverse of Eq. 6 and 7 at the first pose of `frames`."""
    root = frames.area[0, seeds.triangle].sqrt()
    rotation, origin = frames.rotation[0, seeds.triangle], frames.origin[0, seeds.triangle]
    turned_back = (rotation.mT @ (seeds.points - origin)[..., None])[..., 0]
    return turned_back / root[:, None], seeds.scales / root


def _at_least(key: str, value: int, lowest: int) -> None:
    if value < lowest:
        raise UserError(f"{key}={value} is not possible: it must be at least {lowest}.")
