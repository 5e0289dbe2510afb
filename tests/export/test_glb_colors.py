"""Oracles: avatars whose colours are known from outside, and a loop that blends one ray."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstudio.avatar.rigged import RiggedGaussians
from headstudio.export.glb_colors import ENOUGH, baked_colors, blending, neighbours
from headstudio.head.model import HeadModel

RED, GREEN, BLUE = torch.eye(3)


def layers(head: HeadModel, *shells: tuple[float, torch.Tensor, float]) -> RiggedGaussians:
    """On each triangle one Gaussian per shell: its height over the triangle, colour and opacity logit."""
    count = len(head.faces)
    state = {
        "means": torch.cat([torch.tensor([[0.0, height, 0.0]]).repeat(count, 1) for height, _, _ in shells]),
        "log_scales": torch.full((count * len(shells), 3), -0.5),
        "quats": torch.tensor([[1.0, 0, 0, 0]]).repeat(count * len(shells), 1),
        "color_logits": torch.cat([20.0 * (color - 0.5).repeat(count, 1) for _, color, _ in shells]),
        "opacity_logits": torch.cat([torch.full((count,), logit) for _, _, logit in shells]),
        "shape": torch.zeros(head.num_shape),
        "triangle": torch.arange(count).repeat(len(shells)),
    }
    return RiggedGaussians.from_state(head, state)


def test_the_outer_layer_is_seen(tiny_head: HeadModel) -> None:
    colors = baked_colors(layers(tiny_head, (0.0, BLUE, 6.0), (2.0, RED, 6.0)))
    assert colors.shape == (42, 3)
    assert bool((colors[:, 0] > 0.75).all())
    assert bool((colors[:, 2] < 0.25).all())


def test_the_inner_layer_is_seen_through_nothing(tiny_head: HeadModel) -> None:
    colors = baked_colors(layers(tiny_head, (0.0, BLUE, 6.0), (2.0, RED, -12.0)))
    assert bool((colors[:, 2] > 0.99).all())


def test_sides_keep_their_colours(tiny_head: HeadModel) -> None:
    """Red on the subject's left, green on the right: no vertex away from the middle takes the other side's."""
    avatar = layers(tiny_head, (0.0, RED, 4.0))
    left = tiny_head.v_template[tiny_head.faces].mean(1)[:, 0] > 0
    with torch.no_grad():
        avatar.color_logits[~left] = 20.0 * (GREEN - 0.5)
    colors = baked_colors(avatar)
    for side, channel in ((tiny_head.v_template[:, 0] > 0.3, 0), (tiny_head.v_template[:, 0] < -0.3, 1)):
        assert bool((colors[side, channel] > 0.95).all())


def test_bare_vertices_ask_their_neighbours(tiny_head: HeadModel) -> None:
    avatar = layers(tiny_head, (0.0, RED, 4.0))
    with torch.no_grad():
        avatar.opacity_logits[tiny_head.v_template[tiny_head.faces].mean(1)[:, 1] > 0.0] = -20.0
    assert torch.allclose(baked_colors(avatar), RED.expand(42, 3), atol=1e-3)
    with torch.no_grad():
        avatar.opacity_logits[:] = -20.0
    assert torch.equal(baked_colors(avatar), torch.full((42, 3), 0.5))
    assert 0 < ENOUGH < 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-50, 50), st.floats(0.0, 0.99)), min_size=1, max_size=25))
def test_blending_is_front_to_back(hits: list[tuple[int, int, float]]) -> None:
    ray, reach, alpha = (torch.tensor(column) for column in zip(*hits, strict=True))
    found = blending(ray, reach.float() + 1e-3 * torch.arange(len(hits)), alpha.float())
    for number in range(4):
        through = 1.0
        mine = [index for index in range(len(hits)) if hits[index][0] == number]
        for index in sorted(mine, key=lambda index: -(hits[index][1] + 1e-3 * index)):
            assert np.isclose(float(found[index]), through * hits[index][2], atol=1e-5)
            through *= 1.0 - hits[index][2]


def test_neighbours_share_an_edge(tiny_head: HeadModel) -> None:
    near = neighbours(tiny_head.faces, 42).toarray()
    assert np.array_equal(near, near.T)
    assert not near.diagonal().any()
    assert set(near.sum(1)) == {5.0, 6.0}  # an icosphere
