"""Driving a finished head: the film has the motion's frames and the sound's instants."""

from __future__ import annotations

import json
import shutil
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from films import SIZE, call, click, frames_of, opening, sound_of
from finished_run import finished
from PIL import Image

from headstudio import animate
from headstudio.drivers import name_of
from headstudio.motion.arkit import INDEX
from headstudio.motion.files import read_file
from headstudio.motion.recording import Recording
from headstudio.speech import motion as motion_of_speech


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "ein Lauf mit Größe"
    finished(folder)
    return folder


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


def test_no_film_is_lost_to_another(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A driver of the same name, or the same one again: the next free name; only --out replaces, and says so."""
    caplog.set_level("INFO", logger="headstudio")
    first, second = opening(tmp_path / "hello.npz", frames=2), click(tmp_path / "hello.wav", 0.0, 0.2)
    films = run / "films"
    assert call(run, "--motion", first) == 0
    kept = (films / "hello.mp4").read_bytes()
    assert call(run, "--audio", second, "--fps", "10") == 0
    assert f"The film: {films / 'hello-2.mp4'} (" in caplog.text
    assert call(run, "--motion", first) == 0
    assert (films / "hello.mp4").read_bytes() == (films / "hello-3.mp4").read_bytes() == kept
    assert (films / "hello-2.mp4").read_bytes() != kept
    assert "instead of what was there" not in caplog.text
    assert call(run, "--motion", first, "--out", films / "hello-2.mp4") == 0
    assert f"{films / 'hello-2.mp4'} (2 frames), instead of what was there" in caplog.text
    assert (films / "hello-2.mp4").read_bytes() == kept


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
def test_a_text_is_spoken(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "a.mp4"
    assert call(run, "--text", "mama papa", "--fps", "10", "--out", out) == 0
    assert np.abs(sound_of(out)).max() > 0.1
    assert len(frames_of(out)) > 5
    assert "spells out" not in caplog.text
    assert call(run, "--text", "привет", "--fps", "10", "--out", out) == 0
    assert "--voice en-us spells out Cyrillic letters instead of reading the words; --voice ru" in caplog.text
    assert call(run, "--text", "hello", "--words-per-minute", "9000", "--out", out) == 2
    assert "--words-per-minute 9000 must lie between" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("opened", "sound_from_s", "warned"),
    [(0.06, 0.0, True), (0.06, 9.0, False), (0.6, 0.0, False)],
    ids=["still", "silent", "speaking"],
)
def test_a_mouth_that_was_not_seen_to_speak_is_told(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    opened: float,
    sound_from_s: float,
    warned: bool,
) -> None:
    from headstudio.tracking import film, recording

    arkit = np.zeros((10, len(INDEX)), np.float32)
    arkit[5, INDEX["jawOpen"]] = opened
    tracked = Recording(source="made", fps=30.0, arkit=arkit)
    monkeypatch.setattr(recording, "recording_of_video", lambda *_, **__: tracked)
    monkeypatch.setattr(film, "open_film", lambda _: SimpleNamespace(has_sound=True))
    sound = click(tmp_path / "me.wav", sound_from_s, 0.4)
    assert call(run, "--video", sound, "--out", tmp_path / "a.mp4") == 0
    told = [line for line in caplog.messages if "the mouth was hardly seen to move (jawOpen at most 0.06)" in line]
    assert len(told) == warned
    assert all("painted or masked, small or turned away" in line and "docs/tracking.md" in line for line in told)


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
