"""Motions written in the formats of other programs. Oracles: what was written, smplx's names of joints, and the head
that the file moves as the motion did.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from smplx.joint_names import JOINT_NAMES

from headstudio.errors import UserError
from headstudio.head.model import HeadModel
from headstudio.motion.arkit import ARKIT_NAMES, INDEX
from headstudio.motion.files import read_file
from headstudio.motion.recording import ROTATIONS, Recording
from headstudio.motion.transfer import JOINTS, FlameNames, pose_of_recording
from headstudio.motion.writing import WRITERS, format_of, write_motion
from headstudio.types import ArkitMapping

FRAMES = 7
FILES = [("vhap", ".npz"), ("talkshow", ".pkl"), ("talkshow", ".npy")]


def in_flame(width: int = 100, fps: float = 30.0, **changes: Any) -> Recording:
    rng = np.random.default_rng(6)
    fields = {name: 0.3 * rng.normal(size=(FRAMES, 3)) for name in ROTATIONS}
    expression, shape = rng.normal(size=(FRAMES, width)), rng.normal(size=300)
    kept: dict[str, Any] = {"source": "made", "expression": expression, "shape": shape} | fields | changes
    return Recording(fps=fps, **kept)


def in_arkit() -> Recording:
    """A face that speaks, smiles and looks about."""
    rng = np.random.default_rng(7)
    weights = rng.uniform(0.0, 0.6, size=(FRAMES, len(ARKIT_NAMES)))
    neck = 0.2 * rng.normal(size=(FRAMES, 3))
    return Recording(source="made", fps=30.0, arkit=weights, neck=neck)


def table(count: int) -> ArkitMapping:
    generator = torch.Generator().manual_seed(8)
    jaw = torch.zeros(52, 3)
    jaw[INDEX["jawOpen"]] = torch.tensor([0.4, 0.0, 0.0])
    return ArkitMapping(expression=torch.randn(52, count, generator=generator), jaw=jaw)


def there_and_back(folder: Path, recording: Recording, kind: str, suffix: str, **told: Any) -> Recording:
    path = folder / f"größe {kind}{suffix}"
    write_motion(path, recording, kind, told.get("mapping"))
    assert [p.name for p in folder.iterdir()] == [path.name]
    (found,) = read_file(path, fps=None)
    return found


@pytest.mark.parametrize(("kind", "suffix"), FILES)
def test_flames_coefficients_come_back(tmp_path: Path, kind: str, suffix: str) -> None:
    recording = in_flame()
    found = there_and_back(tmp_path, recording, kind, suffix)
    assert found.fps == 30.0
    names = {"expression", *ROTATIONS} - ({"root"} if kind == "talkshow" else set())
    assert set(found.tracks) == names
    for name in names:
        assert np.allclose(found.tracks[name], recording.tracks[name], atol=1e-6), name
    if kind == "vhap":
        assert np.array_equal(found.shape, recording.shape)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "suffix"), FILES)
@pytest.mark.parametrize("width", [3, 130])
def test_files_hold_a_hundred_coefficients(tmp_path: Path, kind: str, suffix: str, width: int) -> None:
    found = there_and_back(tmp_path, in_flame(width, shape=None, neck=None), kind, suffix).tracks["expression"]
    kept = min(width, 100)
    assert found.shape == (FRAMES, 100)
    assert np.array_equal(found[:, :kept], in_flame(width).tracks["expression"][:, :kept])
    assert not found[:, kept:].any()


def test_frame_rates(tmp_path: Path) -> None:
    """VHAP's keeps its own; TalkSHOW's has always 30 a second, as its files do not say it."""
    quick = in_flame(fps=60.0)
    assert there_and_back(tmp_path, quick, "vhap", ".npz").fps == 60.0
    for suffix in (".pkl", ".npy"):
        (tmp_path / suffix[1:]).mkdir()
        found = there_and_back(tmp_path / suffix[1:], quick, "talkshow", suffix)
        assert (found.fps, len(found)) == (30.0, 4)
        assert np.allclose(found.tracks["jaw"], quick.tracks["jaw"][::2], atol=1e-6)


@pytest.mark.parametrize(("kind", "suffix"), FILES)
@pytest.mark.parametrize("mapping", [None, table(100), table(12)], ids=["no table", "a table", "a short table"])
def test_the_file_moves_flame_as_the_motion_does(
    tmp_path: Path, kind: str, suffix: str, mapping: ArkitMapping | None
) -> None:
    recording, flame = in_arkit(), FlameNames(mapping)
    found = there_and_back(tmp_path, recording, kind, suffix, mapping=mapping)
    wanted, drawn = (pose_of_recording(flame, motion, JOINTS) for motion in (recording, found))
    assert torch.allclose(drawn.expression, wanted.expression, atol=1e-6)
    assert torch.allclose(drawn.joints, wanted.joints, atol=1e-6)
    assert bool(wanted.joints[:, 2:].abs().amax(dim=(0, 2)).gt(0.01).all())  # jaw and both eyes do move
    assert bool(wanted.expression.any()) == (mapping is not None)


def test_what_a_table_lacks_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_motion(tmp_path / "a.pkl", in_arkit(), "talkshow", table(5))
    write_motion(tmp_path / "b.pkl", in_flame(), "talkshow", None)
    assert caplog.text == ""
    write_motion(tmp_path / "c.pkl", in_arkit(), "talkshow", None)
    assert "c.pkl holds jaw, neck and eyes" in caplog.text


def test_a_clip_has_the_fields_of_the_show_dataset(tmp_path: Path) -> None:
    write_motion(tmp_path / "a.pkl", in_flame(), "talkshow", None)
    clip = pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert {name: value.shape for name, value in clip.items()} == {
        "betas": (1, 300),
        "expression": (FRAMES, 100),
        "jaw_pose": (FRAMES, 3),
        "leye_pose": (FRAMES, 3),
        "reye_pose": (FRAMES, 3),
        "global_orient": (FRAMES, 3),
        "transl": (FRAMES, 3),
        "body_pose_axis": (FRAMES, 63),
        "left_hand_pose": (FRAMES, 12),
        "right_hand_pose": (FRAMES, 12),
    }
    assert {value.dtype for value in clip.values()} == {np.dtype("float32")}
    body = clip["body_pose_axis"].reshape(FRAMES, 21, 3)
    turned = [JOINT_NAMES[1 + joint] for joint in np.flatnonzero(body.any(axis=(0, 2)))]
    assert turned == ["neck"]


def test_rows_lie_as_talkshows_own(tmp_path: Path) -> None:
    """Its demo.py: jaw, eyes, the whole body's turn, the body, hands, expression."""
    recording = in_flame()
    write_motion(tmp_path / "a.npy", recording, "talkshow", None)
    rows = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert (rows.shape, rows.dtype) == ((FRAMES, 265), np.float32)
    assert np.allclose(rows[:, 0:3], recording.jaw)  # type: ignore[arg-type]
    assert np.allclose(rows[:, 3:9], np.concatenate((recording.eye_left, recording.eye_right), -1))  # type: ignore[arg-type]
    assert np.allclose(rows[:, 9:12], [3.0747, -0.0158, -0.0152])
    neck = 12 + 3 * (JOINT_NAMES.index("neck") - 1)
    assert np.allclose(rows[:, neck : neck + 3], recording.neck)  # type: ignore[arg-type]
    assert not np.delete(rows[:, 12:165], range(neck - 12, neck - 9), axis=1).any()
    assert np.allclose(rows[:, 165:], recording.expression)  # type: ignore[arg-type]


def test_gaussian_avatars_finds_its_keys(tmp_path: Path) -> None:
    """Its `load_ply` takes these six of the float32 arrays of `--motion_path`; VHAP's viewer the other two as well."""
    write_motion(tmp_path / "a.npz", in_arkit(), "vhap", None)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        shapes = {name: file[name].shape for name in file.files if file[name].dtype == np.float32}
    assert shapes == {
        "translation": (FRAMES, 3),
        "rotation": (FRAMES, 3),
        "neck_pose": (FRAMES, 3),
        "jaw_pose": (FRAMES, 3),
        "eyes_pose": (FRAMES, 6),
        "expr": (FRAMES, 100),
        "shape": (300,),
        "static_offset": (1, 5143, 3),
    }


@pytest.mark.parametrize(("kind", "suffix"), [("own", ".npz"), ("livelink", ".csv")])
def test_arkits_weights_come_back(tmp_path: Path, kind: str, suffix: str) -> None:
    recording = in_arkit()
    found = there_and_back(tmp_path, recording, kind, suffix)
    assert np.allclose(found.tracks["arkit"], recording.tracks["arkit"], atol=1e-6)
    assert np.allclose(found.tracks["neck"], recording.tracks["neck"], atol=2e-6)


def test_a_failed_file_does_not_stay(tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    path.write_text("before")
    with pytest.raises(UserError, match=r"made has no ARKit weights, which a \.csv is made of"):
        write_motion(path, in_flame(), "livelink", None)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("take.csv", "before")]


@pytest.mark.parametrize(
    ("name", "given", "kind"),
    [
        ("a.npz", None, "own"),
        ("a.npz", "vhap", "vhap"),
        ("a.csv", None, "livelink"),
        ("a.pkl", None, "talkshow"),
        ("a.npy", "talkshow", "talkshow"),
    ],
)
def test_the_format_of_a_name(name: str, given: str | None, kind: str) -> None:
    assert format_of(Path(name), given) == kind


def test_every_format_that_is_written_is_read(tiny_head: HeadModel, tmp_path: Path) -> None:
    for kind, writers in WRITERS.items():
        for suffix in writers:
            path = tmp_path / f"{kind}{suffix}"
            write_motion(path, in_arkit(), kind, None)
            (found,) = read_file(path, fps=None)
            assert len(pose_of_recording(tiny_head, found, JOINTS)) == FRAMES
