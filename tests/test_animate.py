"""Driving a finished head: the film has the motion's frames and the sound's instants, and mistakes are one sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from finished_run import finished
from numpy.typing import NDArray
from PIL import Image

from headstudio import animate
from headstudio.drivers import name_of
from headstudio.motion.arkit import ARKIT_NAMES, INDEX
from headstudio.motion.files import read_file, write_npz
from headstudio.motion.recording import Recording
from headstudio.speech import motion as motion_of_speech

SIZE = 64


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "ein Lauf mit Größe"
    finished(folder)
    return folder


def opening(path: Path, frames: int = 31, fps: float = 30.0) -> Path:
    """A jaw that opens once, in the middle."""
    arkit = np.zeros((frames, len(ARKIT_NAMES)), np.float32)
    arkit[:, INDEX["jawOpen"]] = np.sin(np.linspace(0, np.pi, frames)) ** 4
    write_npz(path, Recording(source="made", fps=fps, arkit=arkit))
    return path


def click(path: Path, at_s: float, seconds: float, rate: int = 16000) -> Path:
    """Silence but for a tone that begins at an instant."""
    times = np.arange(round(seconds * rate)) / rate
    sound = 0.5 * np.sin(2 * np.pi * 440 * times) * (times >= at_s)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((32767 * sound).astype("<i2").tobytes())
    return path


def ffmpeg(*words: str) -> bytes:
    import imageio_ffmpeg

    return subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *words], check=True, capture_output=True
    ).stdout


def frames_of(film: Path) -> NDArray[Any]:
    raw = ffmpeg("-i", str(film), "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, SIZE, SIZE, 3).astype(int)


def sound_of(film: Path, rate: int = 16000) -> NDArray[Any]:
    return np.frombuffer(ffmpeg("-i", str(film), "-ac", "1", "-ar", str(rate), "-f", "s16le", "-"), "<i2") / 32768


def call(*words: str | Path) -> int:
    return animate.main([*map(str, words), "--size", str(SIZE)])


def test_the_film_shows_the_motion_and_lies_in_the_run(run: Path, tmp_path: Path) -> None:
    motion = opening(tmp_path / "gähnen.npz")
    assert call(run, "--motion", motion, "--sway-deg", "0") == 0
    film = frames_of(run / "films" / "gähnen.mp4")
    assert len(film) == 31
    moved = np.abs(film - film[0]).sum(axis=(1, 2, 3))
    assert moved.argmax() in range(13, 18)
    assert moved[15] > 20 * max(1, moved[1])
    changed = np.abs(film[15] - film[0]).max(-1) > 40
    assert changed[SIZE // 2 :].sum() > 5 * changed[: SIZE // 2].sum()  # the lower half: a mouth


@pytest.mark.parametrize(("fps", "frames"), [("15", 16), ("30", 31), ("60", 61)])
def test_other_frame_rates_take_as_long(run: Path, tmp_path: Path, fps: str, frames: int) -> None:
    out = tmp_path / "a.mp4"
    assert call(run, "--motion", opening(tmp_path / "a.npz"), "--fps", fps, "--out", out) == 0
    assert len(frames_of(out)) == frames


def test_a_webp_loops(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.webp"
    assert call(run, "--motion", opening(tmp_path / "a.npz"), "--fps", "20", "--out", out) == 0
    with Image.open(out) as film:
        assert (film.format, film.n_frames, film.info["loop"], film.size) == ("WEBP", 21, 0, (SIZE, SIZE))  # type: ignore[attr-defined]
        film.seek(10)
        film.load()
        assert film.info["duration"] == 50
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_sound_begins_with_the_first_frame(run: Path, tmp_path: Path) -> None:
    motion, sound = opening(tmp_path / "a.npz", frames=61), click(tmp_path / "ein ton.wav", 0.7, 5.0)
    assert call(run, "--motion", motion, "--audio", sound, "--out", tmp_path / "a.mp4") == 0
    heard = np.abs(sound_of(tmp_path / "a.mp4"))
    assert np.argmax(heard > 0.1) / 16000 == pytest.approx(0.7, abs=0.03)
    assert len(heard) / 16000 == pytest.approx(61 / 30, abs=0.05)  # and ends with the film


def test_what_moved_the_head_can_be_kept(run: Path, tmp_path: Path) -> None:
    motion = opening(tmp_path / "a.npz", frames=90, fps=60.0)
    for suffix in (".npz", ".csv"):
        kept = tmp_path / f"kept{suffix}"
        words = ("--seconds", "1.2", "--write-motion", kept, "--out", tmp_path / "a.mp4")
        assert call(run, "--motion", motion, *words) == 0
        (recording,), (original,) = read_file(kept, fps=None), read_file(motion, fps=None)
        assert recording.fps == 30.0
        assert len(recording) == len(frames_of(tmp_path / "a.mp4")) == 36
        assert np.abs(recording.tracks["arkit"] - original.tracks["arkit"][:72:2]).max() < 1e-6
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.parametrize(("name", "kind"), [("kept.pkl", None), ("kept.npy", "talkshow"), ("flame_param.npz", "vhap")])
def test_what_moved_the_head_for_programs_of_flame(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, kind: str | None
) -> None:
    """The open head's motion is no FLAME's but for its jaw, which the file holds and a sentence says."""
    motion, kept = opening(tmp_path / "a.npz", frames=16), tmp_path / name
    words = ["--write-motion", kept, "--out", tmp_path / "a.mp4", *(["--motion-format", kind] if kind else [])]
    assert call(run, "--motion", motion, *words) == 0
    (recording,), (original,) = read_file(kept, fps=None), read_file(motion, fps=None)
    assert (recording.fps, len(recording)) == (30.0, 16)
    opened_deg = np.degrees(recording.tracks["jaw"][:, 0])
    assert np.abs(opened_deg - 24.0 * original.tracks["arkit"][:, INDEX["jawOpen"]]).max() < 1e-4
    assert not recording.tracks["expression"].any()
    assert f"{kept} holds jaw, neck and eyes" in caplog.text


def test_a_stopped_film_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(frames: Iterator[torch.Tensor], count: int) -> Iterator[torch.Tensor]:
        yield next(frames)
        raise KeyboardInterrupt

    monkeypatch.setattr(animate, "_counted", stopped)
    out = tmp_path / "films"
    out.mkdir()
    assert call(run, "--motion", opening(tmp_path / "a.npz"), "--out", out / "a.mp4") == 130
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "One thing drives the head, but none is given"),
        (["--motion", "nowhere.npz"], "--motion nowhere.npz is no file"),
        (["--motion", "MOTION", "--fps", "0"], "--fps 0.0 must be a number above 0"),
        (["--motion", "MOTION", "--seconds", "nan"], "--seconds nan must be"),
        (["--motion", "MOTION", "--motion-fps", "24"], "--motion-fps 24 contradicts"),
        (["--motion", "MOTION", "--joints", "jaw,tail"], "tail is none of root, neck, jaw, eyes"),
        (["--motion", "MOTION", "--out", "film.avi"], "--out film.avi must end in .mp4 or .webp"),
        (
            ["--motion", "MOTION", "--out", "/no/where/film.mp4"],
            "--out /no/where/film.mp4: there is no folder /no/where",
        ),
        (["--motion", "MOTION", "--write-motion", "a.txt"], "must end in .npz or .csv or .pkl or .npy"),
        (
            ["--motion", "MOTION", "--write-motion", "a.csv", "--motion-format", "talkshow"],
            "--write-motion a.csv must end in .pkl or .npy for --motion-format talkshow",
        ),
        (["--motion", "MOTION", "--voice", "fr"], "--voice is for --text, which is not given"),
        (["--motion", "MOTION", "--words-per-minute", "200"], "--words-per-minute is for --text"),
        (["--text", "hello", "--motion-fps", "30"], "--motion-fps is for --motion, which is not given"),
        (
            ["--motion", "MOTION", "--motion-format", "vhap"],
            "--motion-format is for --write-motion, which is not given",
        ),
    ],
)
def test_mistakes_are_one_sentence(
    run: Path, tmp_path: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    motion = opening(tmp_path / "a.npz")
    assert call(run, *[str(motion) if word == "MOTION" else word for word in words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_only_a_finished_run_is_driven(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unfinished = tmp_path / "run"
    shutil.copytree(run, unfinished)
    (unfinished / "DONE").unlink()
    assert call(unfinished, "--motion", opening(tmp_path / "a.npz")) == 2
    assert "has not finished" in capsys.readouterr().err
    assert call(tmp_path / "none", "--motion", opening(tmp_path / "a.npz")) == 2
    assert "is no directory" in capsys.readouterr().err


def test_the_camera_follows_a_path(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    near = {"seconds": 0, "position": [0, 0, 1.6], "look_at": [0, 0, 0], "fovy_deg": 50}
    far = {"seconds": 0.5, "position": [0, 0, 6.0], "look_at": [0, 0, 0], "fovy_deg": 50}
    way = tmp_path / "way.json"
    way.write_text(json.dumps({"keyframes": [near, far]}), encoding="utf-8")
    words = ("--motion", opening(tmp_path / "a.npz"), "--camera-path", way, "--out", tmp_path / "a.mp4")
    assert call(run, *words) == 0
    covered = (frames_of(tmp_path / "a.mp4") < 200).any(-1).mean(axis=(1, 2))
    assert covered[0] > 4 * covered[15]
    assert covered[-1] == pytest.approx(covered[15], rel=0.1)  # at the end it stands
    way.write_text("{}", encoding="utf-8")
    assert call(run, *words) == 2
    assert "is no camera's path" in capsys.readouterr().err


def test_speech_moves_the_lips_and_is_heard(run: Path, tmp_path: Path) -> None:
    """Noise in the middle is no silence: the mouth moves there, and not before."""
    rate = 16000
    times = np.arange(3 * rate) / rate
    voiced = np.sign(np.sin(2 * np.pi * 120 * times)) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * times))
    with wave.open(str(tmp_path / "stimme ö.wav"), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((9000 * voiced * (times > 1.5)).astype("<i2").tobytes())
    kept = tmp_path / "kept.npz"
    out = tmp_path / "a.mp4"
    assert call(run, "--audio", tmp_path / "stimme ö.wav", "--write-motion", kept, "--fps", "15", "--out", out) == 0
    (recording,) = read_file(kept, fps=None)
    jaw = recording.tracks["arkit"][:, INDEX["jawOpen"]]
    assert len(jaw) == len(frames_of(out)) == pytest.approx(45, abs=1)
    assert jaw[:15].max() < 0.01
    assert jaw[24:].max() > 0.05
    heard = np.abs(sound_of(out))
    assert np.argmax(heard > 0.05) / rate == pytest.approx(1.5, abs=0.05)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="no espeak-ng: apt-get install espeak-ng")
def test_a_text_is_spoken(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.mp4"
    assert call(run, "--text", "mama papa", "--fps", "10", "--out", out) == 0
    assert np.abs(sound_of(out)).max() > 0.1
    assert len(frames_of(out)) > 5
    assert call(run, "--text", "hello", "--words-per-minute", "9000", "--out", out) == 2
    assert "--words-per-minute 9000 must lie between" in capsys.readouterr().err


def test_what_is_no_sound_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.wav").write_text("no sound", encoding="utf-8")
    assert call(run, "--audio", tmp_path / "a.wav") == 2
    assert "a.wav is not a sound that ffmpeg reads" in capsys.readouterr().err
    assert call(run, "--audio", tmp_path / "none.wav") == 2
    assert "there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("heard_s", [0.2, 0.95, 4.0])
def test_a_film_is_as_long_as_its_pictures(run: Path, tmp_path: Path, heard_s: float) -> None:
    """Silence follows a sound that is shorter; two seconds, as ffmpeg would stop reading pictures before they end."""
    motion, sound = opening(tmp_path / "a.npz", frames=61), click(tmp_path / "a.wav", 0.0, heard_s)
    assert call(run, "--motion", motion, "--audio", sound, "--out", tmp_path / "a.mp4") == 0
    assert len(frames_of(tmp_path / "a.mp4")) == 61
    heard = np.abs(sound_of(tmp_path / "a.mp4"))
    assert len(heard) / 16000 == pytest.approx(61 / 30, abs=0.05)
    assert heard[: round(16000 * 0.9 * min(heard_s, 2.0))].max() > 0.1
    assert heard[round(16000 * (heard_s + 0.15)) :].max(initial=0.0) < 0.02


def test_a_sound_that_is_only_heard_is_checked_before_the_film(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(animate, "_pictures", lambda *_: pytest.fail("drawn"))
    (tmp_path / "text.wav").write_text("no sound", encoding="utf-8")
    motion, empty = opening(tmp_path / "a.npz"), click(tmp_path / "zero.wav", 0.0, 0.0)
    for sound, told in {
        tmp_path / "nope.wav": "--audio {}: there is no such file",
        tmp_path / "text.wav": "--audio {} is not a sound that ffmpeg reads",
        empty: "--audio {} has zero length",
        tmp_path: "--audio {} is a folder",
    }.items():
        assert call(run, "--motion", motion, "--audio", sound, "--out", tmp_path / "a.mp4") == 2
        error = capsys.readouterr().err
        assert told.format(sound) in error
        assert error.count("\n") == 1
    assert not (tmp_path / "a.mp4").exists()


def test_nothing_that_is_needed_is_overwritten(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    motion, avatar = opening(tmp_path / "a.npz"), run / "avatar.ply"
    (run / "animation.mp4").write_bytes(b"the run's own")
    words: dict[str, tuple[Path, str]] = {
        "--write-motion": (motion, f"--write-motion {motion} is a file that this is made from"),
        "--out": (run / "animation.mp4", "animation.mp4 is a file that this is made from or that the run needs"),
    }
    for option, (place, told) in words.items():
        before = place.read_bytes(), avatar.read_bytes()
        assert call(run, "--motion", motion, option, place) == 2
        assert told in capsys.readouterr().err
        assert (place.read_bytes(), avatar.read_bytes()) == before
    film = run / "films" / "mine.mp4"
    film.parent.mkdir(exist_ok=True)
    film.write_bytes(b"a film")
    assert call(run, "--video", film) == 2  # whose default place would be its own
    assert "is a file that this is made from" in capsys.readouterr().err
    assert film.read_bytes() == b"a film"
    film.unlink()
    (run / "animation.mp4").unlink()


def test_places_that_cannot_be_written_are_told_first(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    motion, closed = opening(tmp_path / "a.npz"), tmp_path / "closed"
    closed.mkdir()
    monkeypatch.setattr(animate, "_pictures", lambda *_: pytest.fail("drawn"))
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "folder.npz").mkdir()
    touch = Path.touch

    def refused(path: Path, *words: Any, **more: Any) -> None:  # root may write everywhere
        if path.parent == closed:
            raise PermissionError(13, "Permission denied", str(path))
        touch(path, *words, **more)

    monkeypatch.setattr(Path, "touch", refused)
    for words, told in {
        ("--out", closed / "a.mp4"): f"{closed} cannot be written (Permission denied); name another place with --out",
        ("--write-motion", closed / "a.npz"): "name another place with --write-motion",
        ("--out", tmp_path / "folder.mp4"): "folder.mp4 is a folder; name a file",
        ("--write-motion", tmp_path / "folder.npz"): "folder.npz is a folder; name a file",
    }.items():
        assert call(run, "--motion", motion, *words) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--sway-deg", "nan"], "--sway-deg nan must be from 0 to 180"),
        (["--seed", "99999999999999999999"], "--seed 99999999999999999999 must be from 0"),
        (["--size", "200000"], "--size 200000 must be an even number of pixels, from 16 to 4096"),
        (["--camera-path", "nope.json"], "There is no camera's path nope.json"),
        (["--camera-path", "FAR"], "position=[0, 0, 1e+30], where 3 numbers of at most 10000 must be"),
        (["--camera-path", "LONG"], "keyframe 0 has fovy_deg=1000"),
    ],
)
def test_numbers_that_make_no_film(
    run: Path, tmp_path: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = {"seconds": 0, "position": [0, 0, 2], "look_at": [0, 0, 0], "fovy_deg": 50}
    wrong = {"FAR": place | {"position": [0, 0, 1e30]}, "LONG": place | {"fovy_deg": 10**400}}
    for name, keyframe in wrong.items():
        (tmp_path / name).write_text(json.dumps({"keyframes": [keyframe]}), encoding="utf-8")
    given = [str(tmp_path / word) if word in wrong else word for word in words]
    assert animate.main([str(run), "--motion", str(opening(tmp_path / "a.npz")), *given]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "name"),
    [("Hello there!", "hello-there"), ("日本語", "日本語"), ("Привет, мир", "привет-мир"), ("...", "text")],
)
def test_films_of_texts_are_named_in_any_script(text: str, name: str) -> None:
    given = animate.parser().parse_args(["RUN", "--text", text])
    assert name_of(given) == name


def test_only_what_is_shown_is_listened_to(run: Path, tmp_path: Path) -> None:
    """--seconds of a long speech: lips as in the whole of it, without hearing the whole."""
    sound = click(tmp_path / "a.wav", 0.0, 30.0)
    heard: list[float] = []
    listened = motion_of_speech.recording_of

    def listening(audio: Any, **more: Any) -> Recording:
        heard.append(audio.seconds)
        return listened(audio, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(motion_of_speech, "recording_of", listening)
        assert call(run, "--audio", sound, "--seconds", "1", "--fps", "10", "--out", tmp_path / "a.mp4") == 0
    assert heard == [pytest.approx(2.0, abs=0.01)]
    assert len(frames_of(tmp_path / "a.mp4")) == 10


def test_a_polite_kill_leaves_nothing(run: Path, tmp_path: Path) -> None:
    import os
    import signal
    import sys
    import time

    motion = opening(tmp_path / "a.npz", frames=2000)
    out = tmp_path / "out"
    out.mkdir()
    words = [str(run), "--motion", str(motion), "--size", "256", "--out", str(out / "a.mp4")]
    process = subprocess.Popen([sys.executable, "-m", "headstudio.animate", *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("*.partial.mp4")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(out.glob("*.partial.mp4"))
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert told.rstrip().endswith("Stopped; the film was not finished, and nothing of it stays.")
    assert os.listdir(out) == []


def test_a_film_whose_sound_cannot_be_read_moves_the_head_in_silence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from headstudio.tracking import film, recording

    (tracked,) = read_file(opening(tmp_path / "a.npz"), fps=None)
    monkeypatch.setattr(recording, "recording_of_video", lambda *_, **__: tracked)
    monkeypatch.setattr(film, "open_film", lambda _: SimpleNamespace(has_sound=True))
    (tmp_path / "me.mp4").write_text("no sound", encoding="utf-8")
    assert call(run, "--video", tmp_path / "me.mp4", "--out", tmp_path / "a.mp4") == 0
    assert "The film is silent: " in caplog.text
    assert len(frames_of(tmp_path / "a.mp4")) == 31
