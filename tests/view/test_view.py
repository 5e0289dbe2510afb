"""What the viewer draws, plays and reads, without a browser: algebra, our own readers, and viser's own packing."""

from __future__ import annotations

import base64
import io
import json
import socket
import wave
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from finished_run import finished
from omegaconf import OmegaConf
from PIL import Image
from scipy.spatial.transform import Rotation

from headstudio.errors import UserError
from headstudio.head.anny import load_anny
from headstudio.head.model import HeadModel
from headstudio.motion.arkit import INDEX
from headstudio.motion.files import read_file
from headstudio.runstate import save_checkpoint
from headstudio.types import Gaussians, PosedMesh
from headstudio.view import __main__ as command
from headstudio.view import saving
from headstudio.view.app import Viewer
from headstudio.view.face import Face, recording_of
from headstudio.view.motions import FPS, Motion, spoken
from headstudio.view.player import Player
from headstudio.view.splats import UNIT, packed, splats
from headstudio.view.subject import Subject, runs_in, told_apart


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_anny(num_shape=4)


def some_gaussians(count: int = 50) -> Gaussians:
    generator = torch.Generator().manual_seed(1)
    random = lambda *size: torch.rand(*size, generator=generator)  # noqa: E731
    return Gaussians(
        means=random(1, count, 3) - 0.5,
        quats=random(1, count, 4) - 0.5,
        scales=0.002 + 0.05 * random(1, count, 3),
        opacities=random(count),
        colors=random(count, 3),
    )


def test_the_buffer_is_visers_own() -> None:
    """The oracle is what viser itself packs from means, covariances, colours and opacities."""
    viser = pytest.importorskip("viser")
    gaussians = some_gaussians()
    matrices = Rotation.from_quat(gaussians.quats[0].numpy(), scalar_first=True).as_matrix()
    axes = matrices * gaussians.scales[0].numpy()[:, None, :]
    server = viser.ViserServer(host="127.0.0.1", port=free_port(), verbose=False)
    try:
        theirs = server.scene.add_gaussian_splats(
            "/a",
            gaussians.means[0].numpy() / UNIT,
            axes @ axes.swapaxes(1, 2) / UNIT**2,
            gaussians.colors.numpy(),
            gaussians.opacities.numpy()[:, None],
        ).buffer
    finally:
        server.stop()
    ours = packed(gaussians)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    assert np.allclose(ours[:, :3].copy().view(np.float32), theirs[:, :3].copy().view(np.float32), atol=1e-6)
    halves = [np.ascontiguousarray(b[:, 4:7]).view(np.float16).astype(float) for b in (ours, theirs)]
    assert np.allclose(*halves, rtol=2e-3, atol=1e-5)
    bytes_ = [np.ascontiguousarray(b[:, 7:]).view(np.uint8).astype(int) for b in (ours, theirs)]
    assert np.abs(bytes_[0] - bytes_[1]).max() <= 1


def test_small_gaussians_keep_their_size_and_size_scales_them() -> None:
    gaussians = replace(some_gaussians(), scales=torch.full((1, 50, 3), 0.001))
    for size in (1.0, 0.5):
        upper = np.ascontiguousarray(packed(gaussians, size)[:, 4:7]).view(np.float16).astype(float) * UNIT**2
        assert np.sqrt(upper[:, 0]) == pytest.approx(0.001 * size, rel=0.02)


def test_a_mesh_is_shown_by_a_splat_per_triangle() -> None:
    vertices = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 3.0]]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    texels = torch.eye(4)[:, :3]
    none = torch.full((2, 3), -1)
    means, covariances, colors, opacities = splats(PosedMesh(vertices, faces, none, texels, faces, 1))
    assert torch.allclose(means[0], torch.tensor([1 / 3, 1 / 3, 0.0]))
    assert torch.allclose(colors[0], torch.tensor([1 / 3, 1 / 3, 1 / 3]))
    assert torch.linalg.eigvalsh(covariances[0])[0] == pytest.approx(0.0, abs=1e-6)  # flat
    assert covariances[0][2].abs().max() == 0.0
    assert opacities.tolist() == [1.0, 1.0]


def test_sliders_move_what_they_say(head: HeadModel) -> None:
    rest = Face().pose(head)
    assert not rest.expression.any()
    assert not rest.joints.any()
    face = Face(expression={"jawOpen": 0.5, "nonsense": 1.0}, neck_deg=(30.0, 0.0, 0.0), jaw_deg=10.0)
    pose = face.pose(head)
    assert pose.expression[0, head.expression_names.index("jawOpen")] == 0.5
    neck = Rotation.from_rotvec(pose.joints[0, head.joint_names.index("neck")].numpy())
    assert neck.apply([0, 0, 1]) == pytest.approx([np.sin(np.radians(30)), 0, np.cos(np.radians(30))], abs=1e-6)
    jaw = Rotation.from_rotvec(pose.joints[0, head.joint_names.index("jaw")].numpy())
    assert jaw.apply([0, 0, 1])[1] == pytest.approx(-np.sin(np.radians(10)), abs=1e-6)  # the chin goes down


def test_recorded_sliders_are_a_motion_that_plays_as_they_moved(head: HeadModel, tmp_path: Path) -> None:
    faces = [
        Face(expression={"jawOpen": n / 10}, neck_deg=(2.0 * n, 0.0, 0.0), gaze_deg=(float(n), 0.0)) for n in range(10)
    ]
    path = tmp_path / "motion.npz"
    path.write_bytes(saving.motion(faces, 30.0))
    (read,) = read_file(path, fps=None)
    assert np.allclose(read.tracks["arkit"], recording_of(faces, 30.0).tracks["arkit"])
    assert read.tracks["arkit"][:, INDEX["jawOpen"]] == pytest.approx(np.arange(10) / 10)
    played = Motion(read)
    subject: Any = SimpleNamespace(head=head)
    for n in (0, 4, 9):
        theirs, ours = played.at(n / FPS + 1e-4, subject), faces[n].pose(head)
        assert torch.allclose(theirs.expression, ours.expression, atol=1e-5)
        assert torch.allclose(theirs.joints, ours.joints, atol=1e-5)


def test_the_player_plays_pauses_seeks_and_begins_again() -> None:
    now = [0.0]
    player = Player(clock=lambda: now[0])
    player.play()
    assert not player.playing  # there is nothing yet
    player.load(4.0)
    player.play()
    now[0] = 1.5
    assert player.position == 1.5
    player.set_speed(2.0)
    now[0] = 2.0
    assert player.position == 2.5
    player.pause()
    now[0] = 9.0
    assert player.position == 2.5
    player.seek(3.5)
    player.play()
    now[0] = 9.5
    assert player.position == pytest.approx(0.5)  # 3.5 + 2 * 0.5, from the beginning again
    player.seek(99.0)
    player.pause()
    assert player.position <= 4.0


def training(folder: Path) -> Any:
    """A run that has begun: the finished one's setting, without an end."""
    avatar = finished(folder)
    (folder / "DONE").unlink()
    (folder / "avatar.ply").rename(folder / "later.ply")
    with (folder / "config.yaml").open("a", encoding="utf-8") as file:
        file.write("representation: {_target_: headstudio.avatar.rigged.RiggedGaussians, _partial_: true}\n")
        file.write("trainer: {steps: 300}\n")
    return avatar


def test_a_training_run_is_watched_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    avatar = training(folder)
    subject = Subject(folder)
    assert subject.avatar is None
    assert subject.title == "a head (step 0 of 300)"
    assert not subject.refresh()
    (folder / "metrics.jsonl").write_text('{"step": 0}\n{"step": 49}\n{"ste', encoding="utf-8")
    save_checkpoint(folder / "checkpoint", {"signature": "x", "avatar": avatar.state_dict()})
    assert subject.refresh()
    assert torch.equal(subject.avatar.means, avatar.means)
    assert subject.title == "a head (step 50 of 300)"
    assert not subject.refresh()
    (folder / "checkpoint").write_bytes(b"half a checkpoint")
    assert not subject.refresh()  # and what it had stays
    assert torch.equal(subject.avatar.means, avatar.means)
    (folder / "later.ply").rename(folder / "avatar.ply")
    (folder / "DONE").write_text("0", encoding="utf-8")
    assert subject.refresh()
    assert (subject.finished, subject.title) == (True, "a head")


def test_the_shape_changes_from_what_was_learned(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    subject = Subject(tmp_path / "run")
    learned = subject.avatar.shape.detach().clone()
    assert torch.allclose(subject.shaped((1.0, -2.0)).shape[:2], learned[:2] + torch.tensor([1.0, -2.0]))
    assert torch.equal(subject.shaped(()).shape, learned)
    assert torch.equal(subject.shaped((0.0,) * 99).shape, learned)


def test_runs_of_a_sweep_are_found(tmp_path: Path) -> None:
    for name in ("b", "a"):
        finished(tmp_path / "sweep" / name)
    assert [run.name for run in runs_in(tmp_path / "sweep")] == ["a", "b"]
    assert runs_in(tmp_path / "sweep" / "a") == [tmp_path / "sweep" / "a"]
    with pytest.raises(UserError, match="holds no run that has begun"):
        runs_in(tmp_path)
    with pytest.raises(UserError, match="is no directory"):
        runs_in(tmp_path / "nowhere")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_mistakes_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(tmp_path / "run")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert command.main([str(tmp_path / "run"), "--port", port]) == 2
    told = capsys.readouterr().err
    assert f"--port {port} of 127.0.0.1 cannot be had" in told
    assert told.count("\n") == 1
    assert command.main([str(tmp_path / "run"), "--motion", "nowhere.csv"]) == 2
    assert "--motion nowhere.csv is no file" in capsys.readouterr().err
    assert command.main([str(tmp_path / "run"), "--audio", "nowhere.wav"]) == 2
    assert "--audio nowhere.wav is no file" in capsys.readouterr().err
    assert command.main([str(tmp_path / "none")]) == 2
    assert "is no directory" in capsys.readouterr().err


def test_what_is_saved_can_be_read() -> None:
    pixels = np.zeros((4, 6, 4), np.uint8)
    assert Image.open(io.BytesIO(saving.png(pixels))).size == (6, 4)
    camera: Any = SimpleNamespace(position=np.array([0, 0, 2.0 / UNIT]), look_at=np.zeros(3), fov=np.pi / 4)
    places = json.loads(saving.camera_path([saving.keyframe(camera)] * 2))["keyframes"]
    assert [place["seconds"] for place in places] == [0.0, 1.0]
    assert places[0] == {"seconds": 0.0, "position": [0, 0, 2.0], "look_at": [0, 0, 0], "fovy_deg": 45.0}


def test_speech_is_played_with_its_sound(tmp_path: Path) -> None:
    viser = pytest.importorskip("viser")
    finished(tmp_path / "run")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((9000 * np.sign(np.sin(np.arange(32000) / 20))).astype("<i2").tobytes())
    motions = {"a.wav": spoken(tmp_path / "a.wav")}
    assert motions["a.wav"].seconds == pytest.approx(2.0, abs=0.1)
    server = viser.ViserServer(host="127.0.0.1", port=free_port(), verbose=False)
    try:
        viewer = Viewer(server, [tmp_path / "run"], motions)
        assert viewer._sound.content == ""
        viewer.toggle_play()
        sound = base64.b64encode((tmp_path / "a.wav").read_bytes()).decode()
        assert sound in viewer._sound.content
        viewer.tick()
        viewer.toggle_play()
        assert viewer._sound.content == ""
    finally:
        server.stop()


def test_runs_and_motions_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "same", tmp_path / "b" / "same", tmp_path / "b" / "other"]
    assert told_apart(paths) == ["a/same", "b/same", "b/other"]
    assert told_apart(paths[1:]) == ["same", "other"]
    assert told_apart([]) == []


def test_two_runs_of_one_name_stand_side_by_side(tmp_path: Path) -> None:
    viser = pytest.importorskip("viser")
    runs = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    for run in runs:
        finished(run)
    server = viser.ViserServer(host="127.0.0.1", port=free_port(), verbose=False)
    try:
        viewer = Viewer(server, runs, {}, {run: Subject(run) for run in runs})
        assert [subject.paths.root for subject in viewer.stage.subjects] == runs
        assert list(viewer._left.options) == ["a/run", "b/run"]
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid is no address of this machine"),
        (["--port", "99999"], "--port 99999 does not exist: ports go from 0 to 65535"),
        (["--audio", "TEXT"], "--audio TEXT is not a sound that ffmpeg reads"),
        (["--motion", "NOFPS"], "say --motion-fps 30"),
    ],
)
def test_what_the_page_cannot_begin_with(
    tmp_path: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "TEXT").write_text("no sound", encoding="utf-8")
    np.savez(tmp_path / "nofps.npz", jaw=np.zeros((3, 3)))
    finished(tmp_path / "run")
    given = ["nofps.npz" if word == "NOFPS" else word for word in words]
    port = [] if "--port" in words else ["--port", str(free_port())]
    assert command.main([str(tmp_path / "run"), *given, *port]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_head_that_cannot_be_made_is_told_before_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    viser = pytest.importorskip("viser")
    monkeypatch.setattr(viser, "ViserServer", lambda **_: pytest.fail("served"))
    finished(tmp_path / "run")
    setting = OmegaConf.load(tmp_path / "run" / "config.yaml")
    flame: dict[str, Any] = {"_target_": "headstudio.head.flame.load_flame", "path": str(tmp_path / "FLAME")}
    flame |= {"version": 2020, "gender": "generic", "num_shape": 10, "num_expression": 10}
    setting.head = flame | {"landmark_path": None, "mask_path": None, "arkit_path": None}
    OmegaConf.save(setting, tmp_path / "run" / "config.yaml")
    assert command.main([str(tmp_path / "run"), "--port", str(free_port())]) == 2
    error = capsys.readouterr().err
    assert "No FLAME 2020 generic at head.path=" in error
    assert "The run's setting" in error
    assert error.count("\n") == 1
