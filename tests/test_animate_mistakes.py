"""What cannot become a film is told in one sentence, before any work; what is stopped leaves nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from films import call, click, opening
from finished_run import finished

from headstudio import animate


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "ein Lauf mit Größe"
    finished(folder)
    return folder


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "One thing drives the head, but none is given"),
        (["--text", "a", "--motion", "MOTION"], "but --motion and --text are given: --motion, --audio"),
        (["--audio", "SOUND", "--fps", "1000"], "--fps 1000 must lie above 0 and up to 240."),
        (["--motion", "nowhere.npz"], "--motion nowhere.npz is no file"),
        (["--motion", "MOTION", "--fps", "0"], "--fps 0 must be a number above 0"),
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
    files = {"MOTION": opening(tmp_path / "a.npz"), "SOUND": click(tmp_path / "a.wav", 0.0, 0.2)}
    assert call(run, *[files.get(word, word) for word in words]) == 2
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


def test_what_is_no_sound_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.wav").write_text("no sound", encoding="utf-8")
    assert call(run, "--audio", tmp_path / "a.wav") == 2
    assert "a.wav is not a sound that ffmpeg reads" in capsys.readouterr().err
    assert call(run, "--audio", tmp_path / "none.wav") == 2
    assert "there is no such file" in capsys.readouterr().err


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
    assert call(run, "--video", film, "--out", film) == 2
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


def test_a_stopped_film_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(frames: Iterator[torch.Tensor], count: int) -> Iterator[torch.Tensor]:
        yield next(frames)
        raise KeyboardInterrupt

    monkeypatch.setattr(animate, "_counted", stopped)
    out = tmp_path / "films"
    out.mkdir()
    assert call(run, "--motion", opening(tmp_path / "a.npz"), "--out", out / "a.mp4") == 130
    assert list(out.iterdir()) == []
