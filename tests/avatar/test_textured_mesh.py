"""The learned mesh: displacements go along the normals and with the skin, and everything else is left to the head."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from headstudio.avatar.densify import Densifier, Every, NoDensification
from headstudio.avatar.init import Sparse
from headstudio.avatar.textured_mesh import PARAMETERS, Smoothness, TexturedMesh
from headstudio.errors import UserError
from headstudio.head.model import HeadModel
from headstudio.optim import Adam
from headstudio.reg import NoRegularisation
from headstudio.render.cpu import CpuRenderer
from headstudio.render.mesh import vertex_normals
from headstudio.render.mesh_renderer import MeshRenderer
from headstudio.schedule import Linear
from headstudio.types import Pose

SETTINGS: dict[str, Any] = {
    "init": Sparse(neighbours=3, distance_power=2),
    "initial_color": (0.5, 0.4, 0.3),
    "subdivisions": 3,
    "length_unit": 0.1,
    "lambda_smooth": 2.0,
}


@pytest.fixture
def mesh(tiny_head: HeadModel) -> TexturedMesh:
    return TexturedMesh(tiny_head, torch.Generator(), **SETTINGS)


def test_it_begins_as_the_head_in_one_colour(mesh: TexturedMesh, random_pose: Pose) -> None:
    posed, frames, scene = mesh.pose(random_pose)
    expected = mesh.head(torch.zeros(4), random_pose).vertices
    assert torch.equal(posed.vertices, expected)
    assert torch.equal(scene.vertices, expected)
    assert len(frames.origin) == 3
    assert torch.allclose(scene.texels, torch.tensor([0.5, 0.4, 0.3]))
    assert len(scene.texels) == 42 + 120 * 2 + 80


def test_displacements_turn_with_the_skin(mesh: TexturedMesh, random_pose: Pose) -> None:
    """Vertices move by the normal's displacement as if the resting head had it there before it was skinned."""
    displacement = 0.1 * torch.randn(42, generator=torch.Generator().manual_seed(0))
    mesh.displacement.data = displacement
    still = Pose(torch.zeros(3, 6), random_pose.joints)
    head = mesh.head
    normals = vertex_normals(head.v_template, head.faces)
    offset = mesh.pose(still)[0].vertices - head(torch.zeros(4), still).vertices
    assert torch.allclose(offset.norm(dim=-1), displacement.abs().expand(3, -1), atol=0.03)  # blended: a bit shorter
    expected = (head.vertex_rotations(still) @ (displacement[:, None] * normals)[..., None])[..., 0]
    assert torch.allclose(offset, expected, atol=1e-6)
    rest = mesh.pose(head.neutral_pose())[0].vertices[0]
    assert torch.allclose(rest, head.v_template + displacement[:, None] * normals, atol=1e-6)


def test_normals_of_a_sphere_point_outwards(tiny_head: HeadModel) -> None:
    sphere = torch.nn.functional.normalize(tiny_head.v_template / torch.tensor([0.55, 0.75, 0.6]), dim=-1)
    assert float((vertex_normals(sphere, tiny_head.faces) * sphere).sum(-1).min()) > 0.99


def test_smoothness_is_the_quadratic_form_of_the_graph_laplacian(mesh: TexturedMesh) -> None:
    mesh.displacement.data = torch.randn(42, generator=torch.Generator().manual_seed(0))
    adjacency = torch.zeros(42, 42)
    for a, b, c in mesh.head.faces.tolist():
        for one, other in ((a, b), (b, c), (c, a)):
            adjacency[one, other] = adjacency[other, one] = 1.0
    laplacian = adjacency.sum(0).diag() - adjacency
    d = mesh.displacement.detach() / 0.1
    reg = mesh.regularisation(NoRegularisation())
    assert isinstance(reg, Smoothness)
    terms = reg(mesh, mesh.pose(mesh.head.neutral_pose())[1], 0)
    assert terms.keys() == {"reg_smooth"}
    assert float(terms["reg_smooth"].detach()) == pytest.approx(2.0 * float(d @ laplacian @ d), rel=1e-4)


def test_the_parts_that_fit_it(mesh: TexturedMesh) -> None:
    renderer = mesh.renderer(CpuRenderer())
    assert isinstance(renderer, MeshRenderer)
    assert renderer.device == "cpu"
    never = Every(first=0, last=-1, interval=1)
    densify = Densifier(
        grow=never, prune=never, gradient_threshold=1, split_scale=1, max_scale=1, min_opacity=0, prune_min_opacity=0,
        max_gaussians=1,
    )  # fmt: skip
    assert isinstance(mesh.densification(densify), NoDensification)
    assert mesh.num_gaussians == 0
    names = ("means", "log_scales", "quats", "color_logits", "opacity_logits", "shape")
    rates: dict[str, Any] = {name: 0.01 * n for n, name in enumerate(names, start=1)}
    rates["means"] = Linear(start=0.03, end=0.01, first_step=0, last_step=10)
    adam = mesh.optimisation(Adam(betas=[0.9, 0.99], rates=rates, eps=1e-9))
    optimizer = adam(mesh)
    adam.set_rates(optimizer, 5)
    found = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert found == pytest.approx({"color_logits": 0.04, "displacement": 0.02 * 0.1, "shape": 0.06})
    assert adam.eps == 1e-9


def test_a_missing_rate_is_told(mesh: TexturedMesh) -> None:
    with pytest.raises(UserError, match=r"optim\.rates names \['color_logits'\]"):
        mesh.optimisation(Adam(betas=[0.9, 0.99], rates={"color_logits": 0.1}))(mesh)


def test_its_state_is_three_tensors(mesh: TexturedMesh) -> None:
    state = {name: value.clone().normal_() for name, value in mesh.state_dict().items()}
    assert sorted(state) == sorted(PARAMETERS)
    mesh.load_state_dict(state)
    again = TexturedMesh.from_state(mesh.head, state, subdivisions=3)
    for one in (mesh, again):
        assert all(torch.equal(value, state[name]) for name, value in one.state_dict().items())
    with pytest.raises(UserError, match="this head needs"):
        TexturedMesh.from_state(mesh.head, state, subdivisions=2)


@pytest.mark.parametrize(
    ("key", "value"),
    [("initial_color", (0.5, 0.5, 1.0)), ("subdivisions", 0), ("length_unit", -1.0), ("lambda_smooth", -1.0)],
)
def test_impossible_values_of_a_mesh(tiny_head: HeadModel, key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"representation\.{key}="):
        TexturedMesh(tiny_head, torch.Generator(), **{**SETTINGS, key: value})
