"""A film of known motion, tracked: what was shown comes back, whatever the film looks like."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from headstudio.errors import UserError
from headstudio.motion.arkit import INDEX, pose_of, weights_of
from headstudio.motion.recording import Recording
from headstudio.tracking.model import face_model
from headstudio.tracking.recording import recording_of_video

pytestmark = pytest.mark.slow
Pictures = NDArray[Any]
FPS, SIZE = 12.0, 256
FRAMES = 46
OPEN, SHUT, TURNED, ASIDE = 8, 18, 27, 38  # the frames in whose middle each happens
YAW_DEG = 20.0


@pytest.fixture(scope="module")
def film() -> Pictures:
    """A head that opens its mouth, blinks, turns to its left and looks to its left: (T, H, W, 3)."""
    try:
        face_model()
    except UserError as lacking:
        pytest.skip(str(lacking))
    from headstudio.camera import cameras_from_orbit
    from headstudio.head.anny import load_anny
    from headstudio.synthetic.vocabulary import Attributes
    from headstudio.synthetic.world import World
    from headstudio.tracking.rendered import Subject

    frames = torch.arange(FRAMES)

    def swell(middle: int, half: int) -> torch.Tensor:
        return (1 - (frames - middle).abs() / half).clamp(min=0)[:, None]

    weights = swell(OPEN, 4) * weights_of({"jawOpen": 0.9}) + swell(SHUT, 2) * weights_of({"eyeBlink": 1.0})
    neck = swell(TURNED, 5) * torch.tensor([YAW_DEG, 0.0, 0.0])
    gaze = swell(ASIDE, 4) * torch.tensor([25.0, 0.0])
    world = World(load_anny(num_shape=12), supersample=1)
    subject = Subject(world, np.random.default_rng(0), Attributes(skin="tan", gender="woman"))
    subject.shape = torch.zeros(12)
    cameras = cameras_from_orbit([0.0] * FRAMES, 0.0, 2.2, 40.0, SIZE, SIZE)
    return subject.pictures(pose_of(world.head, weights, gaze, neck), cameras)


def written(pictures: Pictures, path: Path, fps: float = FPS) -> Path:
    from headstudio.export.video import write_mp4

    write_mp4((torch.from_numpy(picture.copy()).permute(2, 0, 1) / 255 for picture in pictures), path, fps)
    return path


@pytest.fixture(scope="module")
def tracked(film: Pictures, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return recording_of_video(written(film, tmp_path_factory.mktemp("film") / "a.mp4"))


def of(recording: Recording, *names: str) -> NDArray[Any]:
    assert recording.arkit is not None
    mean: NDArray[Any] = recording.arkit[:, [INDEX[name] for name in names]].mean(1)
    return mean


def yaw_deg(recording: Recording) -> NDArray[Any]:
    assert recording.neck is not None
    return np.degrees(recording.neck[:, 1])


def test_what_was_shown_comes_back(tracked: Recording) -> None:
    assert (len(tracked), tracked.fps) == (FRAMES, FPS)
    jaw, lids = of(tracked, "jawOpen"), of(tracked, "eyeBlinkLeft", "eyeBlinkRight")
    assert jaw.argmax() in range(OPEN - 1, OPEN + 2)
    assert jaw.max() > 0.4
    assert jaw[SHUT - 4 :].max() < 0.1  # closed lips stay closed, whatever else moves
    assert lids.argmax() in range(SHUT - 1, SHUT + 2)
    assert lids.max() > 2.5 * np.delete(lids, range(SHUT - 2, SHUT + 3)).max()
    assert np.degrees(np.linalg.norm(tracked.neck[: TURNED - 6], axis=1)).max() < 5.0  # type: ignore[index]


def test_left_is_left(tracked: Recording) -> None:
    """A positive yaw turns the face to the subject's left; the subject's left eye then looks out, its right eye in."""
    assert yaw_deg(tracked).max() == pytest.approx(YAW_DEG, abs=5.0)
    assert yaw_deg(tracked).argmax() in range(TURNED - 1, TURNED + 2)
    left, right = of(tracked, "eyeLookOutLeft", "eyeLookInRight"), of(tracked, "eyeLookInLeft", "eyeLookOutRight")
    assert left.argmax() in range(ASIDE - 2, ASIDE + 3)
    assert left.max() == pytest.approx(25.0 / 35.0, abs=0.3)
    assert right[ASIDE - 2 : ASIDE + 3].max() < 0.1


def test_it_is_the_same_every_time(film: Pictures, tracked: Recording, tmp_path: Path) -> None:
    again = recording_of_video(written(film, tmp_path / "a.mp4"))
    for name, value in tracked.tracks.items():
        assert np.array_equal(value, again.tracks[name])


def test_a_mirrored_film_is_turned_back(film: Pictures, tracked: Recording, tmp_path: Path) -> None:
    path = written(film[:, :, ::-1], tmp_path / "selfie.mp4")
    assert yaw_deg(recording_of_video(path)).min() == pytest.approx(-yaw_deg(tracked).max(), abs=3.0)
    back = recording_of_video(path, mirror=True)
    assert np.abs(yaw_deg(back) - yaw_deg(tracked)).max() < 1.5
    assert np.abs(of(back, "jawOpen") - of(tracked, "jawOpen")).max() < 0.1


def test_of_two_faces_the_larger_is_followed(
    film: Pictures, tracked: Recording, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = np.full_like(film, 128)
    small[:, 50:178, 64:192] = film[:1, ::2, ::2]  # stands still
    with caplog.at_level(logging.WARNING):
        found = recording_of_video(written(np.concatenate([small, film], 2), tmp_path / "two.mp4"))
    assert "more than one face" in caplog.text
    assert np.corrcoef(of(found, "jawOpen"), of(tracked, "jawOpen"))[0, 1] > 0.9
    assert yaw_deg(found).max() == pytest.approx(YAW_DEG, abs=8.0)


def test_a_small_face_in_a_wide_film_is_found(film: Pictures, tracked: Recording, tmp_path: Path) -> None:
    wide = np.full((FRAMES, 720, 1280, 3), 90, np.uint8)
    wide[:, 60 : 60 + SIZE // 2, 900 : 900 + SIZE // 2] = film[:, ::2, ::2]
    found = recording_of_video(written(wide, tmp_path / "wide.mp4"))
    assert np.corrcoef(of(found, "jawOpen"), of(tracked, "jawOpen"))[0, 1] > 0.8
    assert yaw_deg(found).argmax() in range(TURNED - 2, TURNED + 3)


def test_a_face_that_leaves_rests_meanwhile(film: Pictures, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    away = np.full((36, SIZE, SIZE, 3), 128, np.uint8)
    pictures = np.concatenate([film[: OPEN + 1], away, film[OPEN + 1 :]])  # it leaves with an open mouth
    with caplog.at_level(logging.WARNING):
        found = recording_of_video(written(pictures, tmp_path / "away.mp4"))
    assert "out of sight for 3.0 s (first at 00:01)" in caplog.text
    assert len(found) == FRAMES + 36
    jaw = of(found, "jawOpen")
    assert jaw[OPEN] > 0.3
    assert jaw[OPEN + 14 : OPEN + 24].max() < 0.02
    assert np.abs(np.diff(jaw[OPEN : OPEN + 37])).max() < 0.35


@pytest.mark.parametrize(("pictures", "told"), [(24, "shows no face"), (1, r"single picture|shows no face")])
def test_a_film_without_a_face_is_one_sentence(film: Pictures, tmp_path: Path, pictures: int, told: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (pictures, 64, 96, 3), np.uint8)
    with pytest.raises(UserError, match=told):
        recording_of_video(written(noise, tmp_path / "noise.mp4"))


def test_a_picture_is_no_film(film: Pictures, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(film[0]).save(tmp_path / "me.png")
    with pytest.raises(UserError, match="single picture"):
        recording_of_video(tmp_path / "me.png")


def test_other_rates_and_parts(film: Pictures, tracked: Recording, tmp_path: Path) -> None:
    path = written(film, tmp_path / "a.mp4")
    part = recording_of_video(path, fps=6.0, seconds=2.0)
    assert (len(part), part.fps) == (12, 6.0)
    assert np.corrcoef(of(part, "jawOpen"), of(tracked, "jawOpen")[:24:2])[0, 1] > 0.9


def test_without_calibration_the_rest_is_an_average_faces(film: Pictures, tmp_path: Path) -> None:
    """A face that smiles throughout: calibrated it rests, else it smiles; a face that looks aside throughout too."""
    turned = written(np.repeat(film[TURNED : TURNED + 1], 12, 0), tmp_path / "turned.mp4")
    assert np.abs(yaw_deg(recording_of_video(turned))).max() < 1.0
    assert yaw_deg(recording_of_video(turned, calibrate=False)).mean() == pytest.approx(YAW_DEG, abs=8.0)
    opened = written(np.repeat(film[OPEN : OPEN + 1], 12, 0), tmp_path / "open.mp4")
    assert of(recording_of_video(opened), "jawOpen").max() < 0.1
    assert of(recording_of_video(opened, calibrate=False), "jawOpen").mean() > 0.3


def test_the_command_drives_a_head_and_keeps_the_sound(film: Pictures, tmp_path: Path) -> None:
    import imageio_ffmpeg
    from finished_run import finished

    from headstudio import animate
    from headstudio.motion.files import read_file

    finished(tmp_path / "run")
    silent, path = written(film[:24], tmp_path / "silent.mp4"), tmp_path / "ich selbst.mp4"
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
    sound = ["-f", "lavfi", "-i", "sine=d=2"]
    subprocess.run([*ffmpeg, "-i", silent, *sound, "-c:v", "copy", "-c:a", "aac", path], check=True)

    def call(*words: str | Path) -> int:
        made = [tmp_path / "run", "--size", 64, "--fps", 12, *words]
        return animate.main([str(word) for word in made])

    assert call("--video", path, "--write-motion", tmp_path / "m.npz") == 0
    made = tmp_path / "run" / "films" / "ich selbst.mp4"
    heard: Sequence[str | Path] = [*ffmpeg, "-i", made, "-f", "s16le", "-"]
    assert len(subprocess.run(heard, check=True, capture_output=True).stdout) > 50_000
    (recording,) = read_file(tmp_path / "m.npz", fps=None)
    assert of(recording, "jawOpen").argmax() in range(OPEN - 1, OPEN + 2)
    assert call("--video", silent, "--out", tmp_path / "b.mp4") == 0  # without sound
