"""Oracles: rays against every triangle in float64, areas of rectangles, gradcheck, and the growth of a silhouette."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scenes import facing_camera, ring_cameras
from torch import Tensor

from headstudio.avatar.init import Sparse
from headstudio.avatar.texture import face_neighbours, lattice, lattice_points
from headstudio.avatar.textured_mesh import TexturedMesh
from headstudio.camera import ring
from headstudio.head.model import HeadModel
from headstudio.render.mesh_renderer import MeshRenderer, _see, shaded
from headstudio.types import Cameras, PosedMesh

WHITE = torch.ones(3, dtype=torch.float64)
BLACK = torch.zeros(3, dtype=torch.float64)
Double = torch.float64


def mesh_of(vertices: Tensor, faces: Tensor, subdivisions: int = 1, texels: Tensor | None = None) -> PosedMesh:
    ids, count = lattice(faces, vertices.shape[-2], subdivisions)
    if texels is None:
        texels = torch.ones(count, 3, dtype=vertices.dtype)
    return PosedMesh(vertices, faces, face_neighbours(faces), texels, ids, subdivisions)


def double(cameras: Cameras) -> Cameras:
    return cameras.to(dtype=Double)


def ray_traced(scene: PosedMesh, cameras: Cameras, view: int) -> tuple[Tensor, Tensor]:
    """(H, W, 3) colours and (H, W) hits, each pixel's ray against every triangle (Moeller and Trumbore 1997)."""
    pose = cameras.camera_from_world[view]
    row, column = torch.meshgrid(torch.arange(cameras.height), torch.arange(cameras.width), indexing="ij")
    pixel = torch.stack((column + 0.5, row + 0.5, torch.ones_like(row)), -1).to(Double)
    world_from_camera = torch.linalg.inv(pose)
    direction = pixel @ torch.linalg.inv(cameras.intrinsics[view]).mT @ world_from_camera[:3, :3].mT
    origin = world_from_camera[:3, 3]
    corners = scene.vertices[0][scene.faces]
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    rays = direction[:, :, None]
    across = torch.linalg.cross(rays, two.expand(*rays.shape[:2], -1, -1))
    determinant = (one * across).sum(-1)
    b = ((origin - corners[:, 0]) * across).sum(-1) / determinant
    turned = torch.linalg.cross(origin - corners[:, 0], one)
    c = (rays * turned).sum(-1) / determinant
    distance = (two * turned).sum(-1) / determinant
    inside = (b >= 0) & (c >= 0) & (b + c <= 1) & (distance > 0)
    distance = torch.where(inside, distance, torch.inf)
    nearest, face = distance.min(-1)
    b, c = (value.gather(-1, face[..., None])[..., 0] for value in (b, c))
    colors = torch.zeros(*face.shape, 3, dtype=Double)
    points = lattice_points(scene.subdivisions)
    for y, x in torch.isfinite(nearest).nonzero().tolist():
        # barycentric hat functions: 1 at a lattice point, 0 at and beyond its six neighbours
        here = torch.stack((1 - b[y, x] - c[y, x], b[y, x], c[y, x])) * scene.subdivisions
        away = here - torch.tensor(points, dtype=Double)
        hats = (1 - away.abs().amax(1)).clamp(min=0)
        colors[y, x] = hats @ scene.texels[scene.texel_ids[face[y, x]]]
    return colors, torch.isfinite(nearest)


@pytest.mark.parametrize("subdivisions", [1, 3])
def test_pixels_show_the_texel_under_their_ray(
    tiny_head: HeadModel, generator: torch.Generator, subdivisions: int
) -> None:
    scene = mesh_of(tiny_head.v_template.double()[None], tiny_head.faces, subdivisions)
    scene = PosedMesh(**{**vars(scene), "texels": torch.rand(scene.texels.shape, generator=generator, dtype=Double)})
    cameras = double(ring_cameras(2, 31, 24))
    drawn = shaded(scene, _see(scene, cameras), torch.full((1, 1, 1, 3), 0.25, dtype=Double))
    for view in range(2):
        colors, hit = ray_traced(scene, cameras, view)
        assert 0.1 < float(hit.double().mean()) < 0.9
        assert torch.equal(drawn[view, ..., 3] > 0, hit)
        assert torch.allclose(drawn[view, ..., :3][hit], colors[hit], atol=1e-9)
        assert bool((drawn[view, ..., :3][~hit] == 0.25).all())


def rectangle(left: Tensor | float, right: Tensor | float, top: float, bottom: float, depth: float) -> Tensor:
    """Four corners that a facing camera (focal length 30) projects to these pixels."""
    camera = facing_camera()
    x = [torch.as_tensor(value, dtype=Double) for value in (left, right, right, left)]
    y = [torch.as_tensor(value, dtype=Double) for value in (top, top, bottom, bottom)]
    pixels = torch.stack((torch.stack(x), torch.stack(y)), -1)
    plane = (pixels - camera.intrinsics[0, :2, 2]) / 30.0 * depth
    return torch.cat((plane, torch.full((4, 1), depth, dtype=Double)), -1)


SQUARE = torch.tensor([[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("supersample", [1, 2])
@pytest.mark.parametrize("right", [27.1, 27.4, 27.6, 27.9, 28.1])
def test_an_outline_covers_its_share_of_a_pixel(right: float, supersample: int) -> None:
    edge = torch.tensor(right, dtype=Double, requires_grad=True)
    scene = mesh_of(rectangle(10.2, edge, 5.0, 20.0, 2.0)[None], SQUARE)
    render = MeshRenderer("cpu", supersample=supersample)(scene, double(facing_camera()), BLACK)
    row = render.rgb[0, 0, 12]
    assert float(row.sum().detach()) == pytest.approx(right - 10.2, abs=1e-6)
    assert torch.allclose(render.alpha[0, 0, 12], row, atol=1e-6)
    (gradient,) = torch.autograd.grad(row.sum(), edge)
    assert float(gradient) == pytest.approx(1.0, abs=1e-6)  # the picture grows with the rectangle, pixel by pixel
    assert not render.alpha.requires_grad


def test_the_outline_of_a_nearer_surface_shows_what_is_behind_it() -> None:
    edge = torch.tensor(20.3, dtype=Double, requires_grad=True)
    near, far = rectangle(10.0, edge, 5.0, 20.0, 2.0), rectangle(2.0, 35.0, 1.0, 23.0, 4.0)
    vertices = torch.cat((near, far))[None]
    texels = torch.cat((torch.full((4, 3), 0.9), torch.full((4, 3), 0.2))).double()
    scene = mesh_of(vertices, torch.cat((SQUARE, SQUARE + 4)), texels=texels)
    row = MeshRenderer("cpu")(scene, double(facing_camera()), BLACK).rgb[0, 0, 12]
    assert float(row.sum().detach()) == pytest.approx(10.3 * 0.9 + (33 - 10.3) * 0.2, abs=1e-6)
    (gradient,) = torch.autograd.grad(row.sum(), edge)
    assert float(gradient) == pytest.approx(0.7, abs=1e-6)


def double_head(arrays: dict[str, Any]) -> HeadModel:
    return HeadModel(**{k: v.double() if getattr(v, "dtype", None) == torch.float32 else v for k, v in arrays.items()})


def make_mesh(head: HeadModel, subdivisions: int = 2) -> TexturedMesh:
    return TexturedMesh(
        head,
        torch.Generator(),
        init=Sparse(neighbours=3, distance_power=2),
        initial_color=(0.5, 0.4, 0.3),
        subdivisions=subdivisions,
        length_unit=0.1,
        lambda_smooth=0.0,
    )


def around(size: int, count: int = 2) -> Cameras:
    return double(ring(count, elevation_deg=10.0, distance=2.5, fovy_deg=40.0, width=size, height=size))


def test_gradients_are_those_of_the_picture(tiny_arrays: dict[str, Any], generator: torch.Generator) -> None:
    """Texels, displacements and shape, through the head, the places on the triangles and the outlines.

    Along a few random directions of each.
    """
    head = double_head(tiny_arrays)
    mesh = make_mesh(head)
    drawn = _Drawn(mesh, around(11), head.neutral_pose())
    sizes = {"color_logits": 1.0, "displacement": 0.02, "shape": 0.1}
    directions = [torch.randn(6, *getattr(mesh, name).shape, generator=generator, dtype=Double) for name in sizes]

    def picture(*along: Tensor) -> Tensor:
        values = [size * torch.tensordot(a, d, 1) for size, a, d in zip(sizes.values(), along, directions, strict=True)]
        replaced = {f"mesh.{name}": value for name, value in zip(sizes, values, strict=True)}
        out: Tensor = torch.func.functional_call(drawn, replaced)
        return out

    along = [torch.randn(6, generator=generator, dtype=Double).mul(0.3).requires_grad_() for _ in sizes]
    assert torch.autograd.gradcheck(picture, tuple(along), eps=1e-7, atol=1e-5)
    for gradient in torch.autograd.grad(picture(*along).square().sum(), along):
        assert float(gradient.abs().max()) > 1e-3


class _Drawn(torch.nn.Module):
    """Lets `functional_call` put tensors in the place of a mesh's parameters."""

    def __init__(self, mesh: TexturedMesh, cameras: Cameras, pose: Any) -> None:
        super().__init__()
        self.mesh, self.cameras, self.animation = mesh, cameras, pose

    def forward(self) -> Tensor:
        background = torch.tensor([0.1, 0.5, 0.9], dtype=Double)
        return MeshRenderer("cpu")(self.mesh.pose(self.animation)[2], self.cameras, background).rgb


def test_an_outline_knows_how_it_would_grow(tiny_arrays: dict[str, Any]) -> None:
    """The gradient of a white head's brightness is the change of its area: a difference quotient over large steps."""
    head = double_head(tiny_arrays)
    mesh, cameras = make_mesh(head, 1), around(64)

    def area(displaced: float) -> Tensor:
        mesh.displacement.data.fill_(displaced)
        scene = mesh.pose(head.neutral_pose())[2].painted(torch.ones(42, 3, dtype=Double))
        return MeshRenderer("cpu")(scene, cameras, BLACK).rgb[:, 0].sum()

    (gradient,) = torch.autograd.grad(area(0.0), mesh.displacement)
    step = 0.02
    with torch.no_grad():
        quotient = float(area(step) - area(-step)) / (2 * step)
    assert float(gradient.sum()) == pytest.approx(quotient, rel=0.05)


def test_depth_and_alpha_are_averages_and_nothing_is_to_densify(tiny_head: HeadModel) -> None:
    scene = mesh_of(rectangle(-100, 100, -100, 100, 3.0)[None], SQUARE)
    render = MeshRenderer("cpu")(scene, double(facing_camera()), WHITE)
    assert torch.allclose(render.depth, torch.tensor(3.0, dtype=Double))
    assert bool((render.alpha == 1).all())
    assert render.means2d.shape == (1, 0, 2)
    assert render.radii.shape == (1, 0)


def test_one_pose_serves_all_views_as_one_for_each_does(tiny_head: HeadModel) -> None:
    one = mesh_of(tiny_head.v_template[None], tiny_head.faces)
    three = mesh_of(tiny_head.v_template.expand(3, -1, -1), tiny_head.faces)
    cameras = ring_cameras(3, 20, 20)
    colors = torch.rand(42, 3, generator=torch.Generator().manual_seed(0))
    drawn = [MeshRenderer("cpu")(scene.painted(colors), cameras, torch.rand(3)).alpha for scene in (one, three)]
    assert torch.equal(*drawn)
    assert 0.1 < float(drawn[0].mean()) < 0.9
