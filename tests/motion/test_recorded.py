"""Oracles: the recording itself on a head with FLAME's names, fitted rotations on the open head, counted draws."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from headstudio.cli import conf_dir
from headstudio.errors import UserError
from headstudio.findings import State
from headstudio.head.anny import load_anny
from headstudio.motion.arkit import ARKIT_NAMES, INDEX, pose_of, weights_of
from headstudio.motion.files import write_npz
from headstudio.motion.recorded import RecordedMotion
from headstudio.motion.recording import Recording
from headstudio.motion.transfer import pose_of_recording

JOINTS = ("root", "neck", "jaw", "eye_left", "eye_right")
FLAME: Any = SimpleNamespace(
    expression_names=tuple(f"flame_{i:03d}" for i in range(5)), joint_names=JOINTS, arkit_mapping=None
)
ARKIT: Any = SimpleNamespace(expression_names=tuple(reversed(ARKIT_NAMES)), joint_names=JOINTS, arkit_mapping=None)
ALL = ("neck", "jaw", "eyes")
SETTINGS: dict[str, Any] = {"fps": None, "joints": ALL, "equal_recordings": False, "strength_power": 0.0}
FRAMES = 30
RNG = np.random.default_rng(1)


def talking(**changes: Any) -> Recording:
    """A second of FLAME: every field differs from frame to frame."""
    fields = {name: 0.2 * RNG.normal(size=(FRAMES, 3)) for name in ("root", "neck", "jaw", "eye_left", "eye_right")}
    fields["expression"] = RNG.normal(size=(FRAMES, 5))
    return Recording(source="talk", fps=30.0, **(fields | changes))


def motion_of(head: Any, folder: Path, *recordings: Recording, **changes: Any) -> RecordedMotion:
    for index, recording in enumerate(recordings):
        write_npz(folder / f"{index}.npz", recording)
    return RecordedMotion(head, paths=str(folder), **(SETTINGS | changes))


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_flame_on_flame_is_the_recording(tmp_path: Path) -> None:
    recording = talking()
    motion = motion_of(FLAME, tmp_path, recording)
    film = motion.sequence(1.0, 30.0, seeded())
    assert len(film) == FRAMES
    assert np.abs(film.expression.numpy() - recording.tracks["expression"]).max() < 1e-5
    for row, name in enumerate(JOINTS[1:], start=1):
        assert np.abs(film.joints[:, row].numpy() - recording.tracks[name]).max() < 1e-5
    assert not film.joints[:, 0].any()  # root only where it is asked for
    with_root = motion_of(FLAME, tmp_path, recording, joints=["root"]).sequence(1.0, 30.0, seeded())
    assert np.abs(with_root.joints[:, 0].numpy() - recording.tracks["root"]).max() < 1e-5
    assert not with_root.joints[:, 1:].any()


def test_samples_are_frames_of_the_recordings(tmp_path: Path) -> None:
    motion = motion_of(FLAME, tmp_path, talking(), talking())
    frames = torch.cat([torch.from_numpy(r.tracks["expression"]) for r in motion.recordings])
    pose = motion.sample(3000, seeded())
    which = (pose.expression[:, None] - frames).abs().sum(-1).argmin(1)
    assert torch.equal(pose.expression, frames[which])
    counts = torch.bincount(which, minlength=2 * FRAMES)
    assert counts.min() > 20  # 50 each on average
    assert counts.max() < 90
    jaws = torch.cat([torch.from_numpy(r.tracks["jaw"]) for r in motion.recordings])
    assert torch.equal(pose.joints[:, 2], jaws[which])


@pytest.mark.parametrize(("equal", "share"), [(False, 0.75), (True, 0.5)])
def test_a_long_recording_counts_more_or_not(tmp_path: Path, equal: bool, share: float) -> None:
    long = talking(expression=np.ones((FRAMES, 5)))
    short = Recording(source="s", fps=30.0, expression=np.full((FRAMES // 3, 5), 2.0))
    pose = motion_of(FLAME, tmp_path, long, short, equal_recordings=equal).sample(4000, seeded())
    assert float((pose.expression[:, 0] == 1.0).float().mean()) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(("power", "ratio"), [(0.0, 1.0), (1.0, 3.0), (2.0, 9.0)])
@pytest.mark.parametrize("field", ["expression", "arkit"])
def test_strong_expressions_are_seen_more_often(tmp_path: Path, field: str, power: float, ratio: float) -> None:
    """Chances are norm ** power: three times as strong is 3 ** power times as often."""
    values = np.zeros((2, 52 if field == "arkit" else 5))
    values[:, INDEX["mouthSmileLeft"] if field == "arkit" else 0] = (0.3, 0.9)
    head = ARKIT if field == "arkit" else FLAME
    motion = motion_of(head, tmp_path, Recording(source="s", fps=30.0, **{field: values}), strength_power=power)
    pose = motion.sample(8000, seeded())
    strong = float((pose.expression.amax(1) > 0.5).sum())
    assert strong / (8000 - strong) == pytest.approx(ratio, rel=0.12)


def test_equal_generators_give_equal_poses_and_the_global_one_is_not_touched(tmp_path: Path) -> None:
    motion = motion_of(FLAME, tmp_path, talking(), talking())
    before = torch.get_rng_state()
    assert torch.equal(motion.sample(5, seeded()).expression, motion.sample(5, seeded()).expression)
    assert torch.equal(motion.sequence(0.5, 9, seeded()).joints, motion.sequence(0.5, 9, seeded()).joints)
    assert not torch.equal(motion.sample(5, seeded()).expression, motion.sample(5, seeded(4)).expression)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_short_recording_plays_there_and_back(tmp_path: Path) -> None:
    jaw = np.zeros((FRAMES, 3))
    jaw[:, 0] = np.linspace(0.0, 0.29, FRAMES)
    motion = motion_of(FLAME, tmp_path, talking(jaw=jaw))
    film = motion.sequence(4.0, 60.0, seeded())
    opening = film.joints[:, 2, 0]
    assert len(film) == 240
    assert opening.diff().abs().max() < 0.0051  # 0.3 rad a second
    assert opening[58].item() == pytest.approx(0.29, abs=1e-5)  # the last frame, 29/30 s
    assert opening[116].item() == pytest.approx(0.0, abs=1e-5)
    assert opening[174].item() == pytest.approx(0.29, abs=1e-5)
    assert len(motion_of(FLAME, tmp_path, talking()).sequence(0.04, 25.0, seeded())) == 1


def test_a_head_with_fewer_or_more_coefficients(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wide = talking(expression=RNG.normal(size=(FRAMES, 100)))
    with caplog.at_level(logging.WARNING, "headstudio"):
        motion = motion_of(FLAME, tmp_path, wide, wide)
    assert [r.message for r in caplog.records] == [
        "Of 100 expression coefficients the head has the first 5; the rest is cut."
    ]
    film = motion.sequence(1.0, 30.0, seeded())
    assert np.abs(film.expression.numpy() - wide.tracks["expression"][:, :5]).max() < 1e-5
    narrow = pose_of_recording(FLAME, talking(expression=np.ones((FRAMES, 2))), ALL)
    assert narrow.expression[0].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_arkit_on_an_arkit_head_goes_by_name(tmp_path: Path) -> None:
    """Twice the jaw is not opened: its joint stays, the weight opens the mouth."""
    weights = torch.stack([weights_of({"jawOpen": 0.6, "mouthSmileLeft": 0.5}), weights_of({"eyeBlink": 1.0})])
    recording = Recording(source="s", fps=30.0, arkit=weights.numpy(), jaw=np.full((2, 3), 0.3))
    pose = pose_of_recording(ARKIT, recording, ALL)
    assert torch.equal(pose.expression, pose_of(ARKIT, weights).expression)
    assert not pose.joints.any()


def test_arkit_on_flame_opens_the_jaw_and_turns_the_eyes(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    face = weights_of({"jawOpen": 0.5, "eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0, "mouthSmile": 0.7})
    recording = Recording(source="s", fps=30.0, arkit=face[None].numpy())
    pose = pose_of_recording(FLAME, recording, ALL)
    assert torch.rad2deg(pose.joints[0, 2]).tolist() == pytest.approx([12.0, 0.0, 0.0], abs=1e-4)
    assert torch.rad2deg(pose.joints[0, 3]).tolist() == pytest.approx([0.0, 35.0, 0.0], abs=1e-4)
    assert torch.equal(pose.joints[0, 3], pose.joints[0, 4])
    assert not pose_of_recording(FLAME, recording, ("neck",)).joints.any()
    with caplog.at_level(logging.WARNING, "headstudio"):
        motion_of(FLAME, tmp_path, recording)
    assert [r.message for r in caplog.records] == [
        "ARKit's expressions do not transfer to this head: only jaw, neck and eyes move. A table of what they do "
        "to FLAME (head.arkit_path, docs/motion.md) moves the rest."
    ]


def test_flame_on_the_open_head_moves_jaw_neck_and_eyes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One warning for all recordings; the lower lip goes down, and the eyeballs look where the recorded eyes do."""
    head = load_anny(num_shape=0)
    turn = np.zeros((2, 3))
    turn[1] = (0.2, 0.3, 0.0)  # 11 degrees down, 17 to the subject's left
    jaw = np.zeros((2, 3))
    jaw[1, 0] = 0.25
    fields = {"neck": np.zeros((2, 3)), "jaw": jaw, "eye_left": turn, "eye_right": turn}
    recording = Recording(source="s", fps=30.0, expression=np.ones((2, 50)), **fields)
    with caplog.at_level(logging.WARNING, "headstudio"):
        motion = motion_of(head, tmp_path, recording, recording)
    assert [r.message for r in caplog.records] == [
        "FLAME's expressions do not transfer to this head: only jaw, neck and eyes move."
    ]
    pose = motion.sequence(2 / 30, 30.0, seeded())
    vertices = head(torch.zeros(0), pose).vertices
    first, end = next((first, end) for name, first, end, _ in head.landmark_polylines if name == "lips_inner")
    corners = vertices[:, head.faces[head.landmark_faces[first:end]]]
    lips = (head.landmark_bary[first:end, :, None] * corners).sum(2)
    middle = lips[0, :, 0].abs().argsort()[:2]
    gap = (lips[:, middle[0]] - lips[:, middle[1]]).norm(dim=-1)
    assert gap[1] > 4 * gap[0]
    ball = head.faces[head.region_faces("sclera") | head.region_faces("iris")].unique()
    ball = ball[vertices[0, ball, 0] > 0]
    before, after = (vertices[i, ball] - vertices[i, ball].mean(0) for i in (0, 1))
    u, _, vt = torch.linalg.svd(after.T @ before)
    x, y, z = ((u @ vt) @ torch.tensor([0.0, 0.0, 1.0])).tolist()
    told = torch.linalg.matrix_exp(torch.tensor([[0.0, 0.0, 0.3], [0.0, 0.0, -0.2], [-0.3, 0.2, 0.0]]))[:, 2]
    assert [x, y, z] == pytest.approx(told.tolist(), abs=0.03)
    assert y < -0.15
    assert pose.expression[1, head.expression_names.index("eyeLookDownLeft")] > 0.3  # the lids follow


def test_official_and_our_joints(tmp_path: Path) -> None:
    pose = motion_of(FLAME, tmp_path, talking(), joints=["jaw"]).sample(50, seeded())
    assert pose.joints[:, 2].any()
    assert not pose.joints[:, [0, 1, 3, 4]].any()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"joints": ["jaws"]}, r"motion.joints=\['jaws'\] must be a list of some of root, neck, jaw, eyes"),
        ({"joints": "jaw"}, r"motion.joints=jaw must be a list"),
        ({"fps": 0}, r"motion.fps=0 must be a number above 0"),
        ({"fps": math.inf}, r"motion.fps=inf"),
        ({"fps": "fast"}, r"motion.fps=fast"),
        ({"strength_power": -1.0}, r"motion.strength_power=-1.0 must lie between 0 and 8"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        motion_of(FLAME, tmp_path, talking(), **changes)


def test_a_recording_that_cannot_move_the_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Nothing in .*0.npz moves this head with motion.joints=.*head=flame"):
        motion_of(ARKIT, tmp_path, Recording(source="s", fps=30.0, expression=np.ones((3, 50))))


def test_what_is_there_is_told_without_reading_it(tmp_path: Path) -> None:
    (tmp_path / "talk.npz").write_text("not read")
    ready, lacking = RecordedMotion.look(paths=[str(tmp_path), str(tmp_path / "x.pkl")], **SETTINGS)
    assert (ready.state, ready.detail) == (State.READY, f"{tmp_path}: 1 files")
    assert lacking.state == State.LACKING
    assert "x.pkl does not exist" in lacking.detail
    assert "talkshow.is.tue.mpg.de" in lacking.remedy
    (empty,) = RecordedMotion.look(paths=[])
    assert (empty.state, empty.detail) == (State.LACKING, "motion.paths is empty")


@pytest.mark.parametrize("option", ["talkshow", "official", "recorded"])
def test_the_options_play_a_file(tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = talking()
    write_npz(tmp_path / "talk.npz", recording)
    monkeypatch.setenv("HEADSTUDIO_MOTION", str(tmp_path))
    more = [f"motion.paths=[{tmp_path / 'talk.npz'}]"] if option == "recorded" else []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=[f"motion={option}", *more])
    motion = instantiate(config.motion, _convert_="all")(FLAME)
    pose = motion.sample(4, seeded())
    assert pose.expression.any()
    assert pose.joints[:, 2].any()
    assert bool(pose.joints[:, 1].any()) == (option != "official")
    assert not pose.joints[:, 0].any()
