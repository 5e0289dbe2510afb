"""Oracles: bit equality after a round trip; an independent reading of the 3DGS properties; broken files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plyfile import PlyData

from headstudio.avatar.rigged import PER_GAUSSIAN, RiggedGaussians
from headstudio.errors import UserError
from headstudio.export.ply import load_avatar, read_header, save_avatar
from headstudio.head.model import HeadModel
from headstudio.types import Pose


def random_avatar(head: HeadModel, count: int = 200, seed: int = 0, spread: float = 1.0) -> RiggedGaussians:
    generator = torch.Generator().manual_seed(seed)
    widths: dict[str, tuple[int, ...]] = {
        "means": (3,),
        "log_scales": (3,),
        "quats": (4,),
        "color_logits": (3,),
        "opacity_logits": (),
    }
    state = {key: spread * torch.randn(count, *width, generator=generator) for key, width in widths.items()}
    state["shape"] = torch.randn(head.num_shape, generator=generator) / 3
    state["triangle"] = torch.randint(len(head.faces), (count,), generator=generator)
    return RiggedGaussians.from_state(head, state)


def assert_same(one: RiggedGaussians, other: RiggedGaussians) -> None:
    for name in (*PER_GAUSSIAN, "shape", "triangle"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype, name
        assert torch.equal(a, b), name


@given(st.integers(1, 300), st.integers(0, 2**31), st.sampled_from([1e-6, 1.0, 30.0]))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_round_trip_keeps_every_bit(
    tiny_head: HeadModel, tmp_path: Path, count: int, seed: int, spread: float
) -> None:
    avatar = random_avatar(tiny_head, count, seed, spread)
    save_avatar(avatar, tmp_path / "avatar.ply", head_name="tiny")
    assert_same(avatar, load_avatar(tmp_path / "avatar.ply", tiny_head))


def test_it_poses_the_same_afterwards(tiny_head: HeadModel, random_pose: Pose, tmp_path: Path) -> None:
    avatar = random_avatar(tiny_head)
    save_avatar(avatar, tmp_path / "avatar.ply", head_name="tiny")
    again = load_avatar(tmp_path / "avatar.ply", tiny_head)
    for one, other in zip(avatar.pose(random_pose)[2:], again.pose(random_pose)[2:], strict=True):
        assert torch.equal(one.means, other.means)
        assert torch.equal(one.scales, other.scales)


def test_a_viewer_finds_the_world_at_rest(tiny_head: HeadModel, tmp_path: Path) -> None:
    avatar = random_avatar(tiny_head)
    save_avatar(avatar, tmp_path / "avatar.ply", head_name="tiny")
    ply = PlyData.read(str(tmp_path / "avatar.ply"))
    assert (ply.byte_order, ply.text, [e.name for e in ply.elements]) == ("<", False, ["vertex"])
    v = ply["vertex"]
    _, _, world = avatar.pose(tiny_head.neutral_pose())
    means = np.stack([v["x"], v["y"], v["z"]], -1)
    assert np.allclose(means, world.means[0].detach().numpy(), atol=1e-6)
    colors = 0.5 + 0.28209479177387814 * np.stack([v["f_dc_0"], v["f_dc_1"], v["f_dc_2"]], -1)
    assert np.allclose(colors, world.colors.detach().numpy(), atol=1e-6)
    assert np.allclose(1 / (1 + np.exp(-v["opacity"])), world.opacities.detach().numpy(), atol=1e-6)
    scales = np.exp(np.stack([v["scale_0"], v["scale_1"], v["scale_2"]], -1))
    assert np.allclose(scales, world.scales[0].detach().numpy(), rtol=1e-5)
    quats = np.stack([v[f"rot_{i}"] for i in range(4)], -1)
    assert np.allclose(np.linalg.norm(quats, axis=-1), 1, atol=1e-5)
    assert [p.name for p in v.properties][:17] == (
        [
            "x",
            "y",
            "z",
            "nx",
            "ny",
            "nz",
            "f_dc_0",
            "f_dc_1",
            "f_dc_2",
            "opacity",
            "scale_0",
            "scale_1",
            "scale_2",
            "rot_0",
            "rot_1",
            "rot_2",
            "rot_3",
        ]
    )


def test_the_header_names_the_head(tiny_head: HeadModel, tmp_path: Path) -> None:
    avatar = random_avatar(tiny_head, 7)
    save_avatar(avatar, tmp_path / "avatar.ply", head_name="anny")
    header = read_header(tmp_path / "avatar.ply")
    assert (header.head_name, header.num_gaussians, header.num_triangles) == ("anny", 7, 80)
    assert torch.equal(torch.tensor(header.shape), avatar.shape.detach())


def test_a_head_without_shape(tiny_arrays: dict[str, Any], tmp_path: Path) -> None:
    head = HeadModel(**(tiny_arrays | {"shapedirs": torch.zeros(42, 3, 0)}))
    avatar = random_avatar(head, 5)
    save_avatar(avatar, tmp_path / "a.ply", head_name="tiny")
    assert_same(avatar, load_avatar(tmp_path / "a.ply", head))


def test_another_head_is_refused(tiny_arrays: dict[str, Any], tiny_head: HeadModel, tmp_path: Path) -> None:
    save_avatar(random_avatar(tiny_head), tmp_path / "a.ply", head_name="tiny")
    other = HeadModel(**(tiny_arrays | {"faces": tiny_arrays["faces"].flip(0)}))
    with pytest.raises(UserError, match="made on the head tiny with 80 triangles"):
        load_avatar(tmp_path / "a.ply", other)
    fewer = HeadModel(**(tiny_arrays | {"shapedirs": tiny_arrays["shapedirs"][..., :2]}))
    with pytest.raises(UserError, match="4 shape values"):
        load_avatar(tmp_path / "a.ply", fewer)


@pytest.mark.parametrize("kept", [0, 10, 400, -1, -100])
def test_truncated_files_are_refused(tiny_head: HeadModel, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.ply"
    save_avatar(random_avatar(tiny_head), path, head_name="tiny")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"a\.ply"):
        load_avatar(path, tiny_head)


def test_other_plys_and_missing_files_are_refused(tiny_head: HeadModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no avatar file"):
        load_avatar(tmp_path / "none.ply", tiny_head)
    plain = tmp_path / "plain.ply"
    plain.write_text("ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n0\n")
    with pytest.raises(UserError, match="no avatar of headstudio"):
        load_avatar(plain, tiny_head)


def test_a_failed_write_keeps_the_old_file(
    tiny_head: HeadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ply"
    save_avatar(random_avatar(tiny_head), path, head_name="tiny")
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="disk is full"):
        save_avatar(random_avatar(tiny_head, seed=5), path, head_name="tiny")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.ply"]
