"""Oracles: gsply, which reads PLY and SPZ; Niantic's own reader; a reading of .splat byte by byte; pictures."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gsply
import numpy as np
import pytest
import torch
from export_node import run_script
from hypothesis import given
from hypothesis import strategies as st
from plyfile import PlyData
from scipy.spatial.transform import Rotation

from headstudio.avatar.rigged import RiggedGaussians
from headstudio.avatar.static import StaticGaussians
from headstudio.avatar.textured_mesh import TexturedMesh
from headstudio.camera import ring
from headstudio.errors import UserError
from headstudio.export.axes import AXES, Axes
from headstudio.export.splat_files import fractional_bits, spz_bytes, write_ply, write_splat, write_spz
from headstudio.export.splats import PROPERTIES, Splats, splats_of
from headstudio.opened import OpenedRun
from headstudio.render.cpu import CpuRenderer
from headstudio.types import Gaussians, Pose

Opener = Callable[[Any], OpenedRun]
EVERY_AXES = pytest.mark.parametrize("axes", AXES.values(), ids=list(AXES))


def covariances(quats: np.ndarray, log_scales: np.ndarray) -> np.ndarray:
    """(N, 3, 3) of quaternions (wxyz): what a Gaussian looks like, whichever way its axes are named."""
    axes = Rotation.from_quat(quats[:, [1, 2, 3, 0]]).as_matrix() * np.exp(log_scales)[:, None]
    return np.asarray(axes @ axes.transpose(0, 2, 1))


def one(pose: Pose, index: int) -> Pose:
    return Pose(expression=pose.expression[index : index + 1], joints=pose.joints[index : index + 1])


@given(st.sampled_from(list(AXES.values())), st.integers(0, 2**31))
def test_axes_are_turns(axes: Axes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    quats = Rotation.random(20, rng=rng).as_quat()[:, [3, 0, 1, 2]]
    turned = Rotation.from_quat(axes.quaternions(quats)[:, [1, 2, 3, 0]]).as_matrix()
    matrix = np.diag(axes.signs)
    assert np.linalg.det(matrix) == 1
    assert np.allclose(turned, matrix @ Rotation.from_quat(quats[:, [1, 2, 3, 0]]).as_matrix(), atol=1e-12)
    points = rng.normal(size=(20, 3))
    assert np.array_equal(axes.points(axes.points(points)), points)
    assert np.array_equal(axes.points(points), points @ matrix.T)


@EVERY_AXES
def test_another_reader_finds_the_same_picture(
    axes: Axes, rigged: RiggedGaussians, random_pose: Pose, opened_with: Opener, tmp_path: Path
) -> None:
    """A PLY of a pose, read by gsply, turned back and rendered, is the avatar at that pose within 1e-5 of [0, 1]."""
    pose = one(random_pose, 1)
    path = tmp_path / "ein Köpf.ply"
    assert "200 Gaussians" in write_ply(opened_with(rigged), path, pose=pose, axes=axes)
    read = gsply.plyread(str(path))
    again = Gaussians(
        means=torch.from_numpy(axes.points(read.means))[None],
        quats=torch.from_numpy(axes.quaternions(read.quats))[None],
        scales=torch.from_numpy(np.exp(read.scales))[None],
        opacities=torch.from_numpy(1 / (1 + np.exp(-read.opacities))).flatten(),
        colors=torch.from_numpy(0.5 + 0.28209479177387814 * read.sh0.reshape(-1, 3)),
    )
    cameras = ring(3, elevation_deg=10.0, distance=3.0, fovy_deg=45.0, width=48, height=48)
    renderer, white = CpuRenderer(threads=1), torch.ones(3)
    with torch.no_grad():
        wanted = renderer(rigged.pose(pose)[2], cameras, white).rgb
        assert float((wanted - 1.0).abs().max()) > 0.3  # something is there
        assert torch.allclose(renderer(again, cameras, white).rgb, wanted, atol=1e-5)


def test_a_ply_is_what_viewers_expect(rigged: RiggedGaussians, opened_with: Opener, tmp_path: Path) -> None:
    write_ply(opened_with(rigged), tmp_path / "a.ply", pose=rigged.head.neutral_pose(), axes=AXES["supersplat"])
    ply = PlyData.read(str(tmp_path / "a.ply"))
    assert (ply.byte_order, ply.text, [element.name for element in ply.elements]) == ("<", False, ["vertex"])
    assert tuple(prop.name for prop in ply["vertex"].properties) == PROPERTIES
    assert {prop.val_dtype for prop in ply["vertex"].properties} == {"f4"}
    means = rigged.pose(rigged.head.neutral_pose())[2].means[0].detach().numpy()
    assert np.allclose(ply["vertex"]["y"], -means[:, 1], atol=1e-6)  # y down
    assert np.allclose(ply["vertex"]["z"], means[:, 2], atol=1e-6)  # the face looks along +z


def test_opacities_of_one_stay_finite(rigged: RiggedGaussians, opened_with: Opener, tmp_path: Path) -> None:
    with torch.no_grad():
        rigged.opacity_logits[:2] = torch.tensor([80.0, -80.0])
    for write, suffix in ((write_ply, "ply"), (write_splat, "splat"), (write_spz, "spz")):
        write(opened_with(rigged), tmp_path / f"a.{suffix}", pose=rigged.head.neutral_pose(), axes=AXES["world"])
    assert np.isfinite(gsply.plyread(str(tmp_path / "a.ply")).opacities).all()


@EVERY_AXES
def test_splat_byte_by_byte(axes: Axes, rigged: RiggedGaussians, opened_with: Opener, tmp_path: Path) -> None:
    """Positions and scales to float32, colours and opacities to half a 255th, turns to a degree; large ones first."""
    pose = rigged.head.neutral_pose()
    write_splat(opened_with(rigged), tmp_path / "a.splat", pose=pose, axes=axes)
    content = (tmp_path / "a.splat").read_bytes()
    assert len(content) == 32 * 200
    wanted = splats_of(rigged, pose, axes)
    opacity = 1 / (1 + np.exp(-wanted.opacities.astype(np.float64)))
    importance = []
    for offset in range(0, len(content), 32):
        x, y, z, *scale = struct.unpack_from("<6f", content, offset)
        red, green, blue, alpha, *turn = content[offset + 24 : offset + 32]
        (index,) = np.flatnonzero((wanted.means == np.array([x, y, z], np.float32)).all(-1))
        assert np.allclose(scale, np.exp(wanted.log_scales[index]), rtol=1e-6)
        assert np.allclose(np.array([red, green, blue]) / 255, wanted.colors[index], atol=0.5 / 255 + 1e-6)
        assert abs(alpha / 255 - opacity[index]) <= 0.5 / 255 + 1e-6
        quat = (np.array(turn) - 128.0) / 128.0
        cosine = abs(quat @ wanted.quats[index]) / np.linalg.norm(quat)
        assert 2 * np.degrees(np.arccos(min(cosine, 1.0))) < 1.0
        importance.append(opacity[index] * np.prod(scale))
    assert importance == sorted(importance, reverse=True)


def check_spz(read: Splats, wanted: Splats) -> None:
    """The tolerances that docs/export.md states."""
    assert np.allclose(read.means, wanted.means, atol=0.5 / 2**16 + 1e-7)
    assert np.allclose(read.log_scales, wanted.log_scales, atol=1 / 32 + 1e-5)
    assert np.allclose(read.colors, wanted.colors, atol=0.004)
    opacities = [1 / (1 + np.exp(-each.opacities.astype(np.float64))) for each in (read, wanted)]
    assert np.allclose(*opacities, atol=0.5 / 255 + 1e-6)
    # a third of a degree of rotation, seen through equal scales
    own = covariances(wanted.quats, wanted.log_scales)
    far = np.linalg.norm(covariances(read.quats, wanted.log_scales) - own, axis=(1, 2))
    assert (far <= 0.012 * np.linalg.norm(own, axis=(1, 2))).all()


def test_spz_by_another_reader(rigged: RiggedGaussians, opened_with: Opener, tmp_path: Path) -> None:
    axes, pose = AXES["opencv"], rigged.head.neutral_pose()
    write_spz(opened_with(rigged), tmp_path / "ein Köpf.spz", pose=pose, axes=axes)
    read = gsply.spz.read_spz(tmp_path / "ein Köpf.spz")
    # right-down-forward is stored as right-up-back, which is our world
    world = splats_of(rigged, pose, AXES["world"])
    colors = 0.5 + 0.28209479177387814 * read.sh0.reshape(-1, 3)
    check_spz(Splats(read.means, read.quats, read.scales, read.opacities.reshape(-1), colors), world)


@pytest.mark.slow
def test_spz_by_its_makers_reader(rigged: RiggedGaussians, tmp_path: Path, node_folder: Path) -> None:
    """Niantic's own code, as @adobe/spz has it, gives the PLY's numbers."""
    ply = splats_of(rigged, rigged.head.neutral_pose(), AXES["supersplat"])
    path = tmp_path / "a.spz"
    path.write_bytes(spz_bytes(ply))
    found = run_script(
        node_folder,
        """
        import { readFileSync } from "node:fs";
        import createSpz from "@adobe/spz";
        const spz = await createSpz();
        const bytes = new Uint8Array(readFileSync(process.argv[2]));
        const cloud = await spz.loadSpzFromBuffer(bytes, { to: spz.CoordinateSystem.RDF });
        const keys = ["positions", "rotations", "scales", "alphas", "colors"];
        console.log(JSON.stringify(Object.fromEntries(keys.map((key) => [key, Array.from(cloud[key])]))));
        """,
        str(path),
    )
    flat = {name: np.array(values, np.float32) for name, values in found.items()}
    quats = flat["rotations"].reshape(-1, 4)[:, [3, 0, 1, 2]]
    colors = 0.5 + 0.28209479177387814 * flat["colors"].reshape(-1, 3)
    read = Splats(flat["positions"].reshape(-1, 3), quats, flat["scales"].reshape(-1, 3), flat["alphas"], colors)
    check_spz(read, ply)


@given(st.floats(1e-6, 1e5))
def test_positions_fit_in_24_bits(largest: float) -> None:
    bits = fractional_bits(np.array([[0.0, -largest, 0.0]]))
    assert 1 <= bits <= 16
    assert round(largest * 2**bits) < 2**23
    assert bits == 16 or round(largest * 2 ** (bits + 1)) >= 2**23 - 1


def test_packed_forms_are_smaller(opened_with: Opener, rigged: RiggedGaussians, tmp_path: Path) -> None:
    pose, opened = rigged.head.neutral_pose(), opened_with(rigged)
    for write, suffix in ((write_ply, "ply"), (write_splat, "splat"), (write_spz, "spz")):
        write(opened, tmp_path / f"a.{suffix}", pose=pose, axes=AXES["supersplat"])
    ply, splat, spz = (len((tmp_path / f"a.{suffix}").read_bytes()) for suffix in ("ply", "splat", "spz"))
    assert splat < 0.5 * ply
    assert spz < 0.7 * splat


def test_unrigged_gaussians_have_no_pose(
    static_avatar: StaticGaussians, random_pose: Pose, opened_with: Opener, tmp_path: Path
) -> None:
    opened, rest = opened_with(static_avatar), static_avatar.head.neutral_pose()
    write_ply(opened, tmp_path / "a.ply", pose=rest, axes=AXES["world"])
    read = gsply.plyread(str(tmp_path / "a.ply"))
    assert np.allclose(read.means, static_avatar.means.detach().numpy())
    with pytest.raises(UserError, match=r"^--pose: this run's representation=static_gaussians has no rig"):
        write_ply(opened, tmp_path / "b.ply", pose=one(random_pose, 0), axes=AXES["world"])
    assert not (tmp_path / "b.ply").exists()


def test_a_mesh_has_no_gaussians(painted_mesh: TexturedMesh, opened_with: Opener, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="representation=textured_mesh has no Gaussians; take --format glb"):
        write_ply(
            opened_with(painted_mesh), tmp_path / "a.ply", pose=painted_mesh.head.neutral_pose(), axes=AXES["world"]
        )


def test_splats_are_float32(rigged: RiggedGaussians) -> None:
    splats = splats_of(rigged.double(), rigged.head.neutral_pose(), AXES["supersplat"])
    assert {value.dtype for value in replace(splats).__dict__.values()} == {np.dtype("float32")}
    assert json.dumps(len(splats)) == "200"
