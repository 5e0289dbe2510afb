"""The command as a user meets it: every format from one run, and one sentence for every mistake."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import gsply
import numpy as np
import pytest

from headstudio.export import sequence
from headstudio.export.__main__ import main
from headstudio.export.formats import FORMATS
from headstudio.motion.files import write_npz
from headstudio.motion.recording import Recording
from headstudio.progress import Progress


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy that a test may write into."""
    return Path(shutil.copytree(finished_run, tmp_path / "ein Läuf"))


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """Three frames of ARKit weights at 10 a second."""
    arkit = np.zeros((3, 52), np.float32)
    from headstudio.motion.arkit import INDEX

    arkit[:, INDEX["jawOpen"]] = [0.0, 0.5, 1.0]
    write_npz(tmp_path / "rede ä.npz", Recording(source="test", fps=10.0, arkit=arkit))
    return tmp_path / "rede ä.npz"


def refusal(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one sentence of a command that exits with 2."""
    assert main([str(word) for word in words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    return told.err


def test_help_answers_at_once() -> None:
    """Nothing heavy is imported for it, and every format has its line."""
    script = (
        "import sys\nfrom headstudio.export.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'hydra', 'omegaconf', 'gsply', 'pygltflib', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name, form in FORMATS.items():
        assert re.search(rf"^  {name} +{re.escape(form.line)}$", done.stdout, re.MULTILINE), name


@pytest.mark.parametrize("name", FORMATS)
def test_the_table_names_writers(name: str) -> None:
    form = FORMATS[name]
    parameters = signature(form.write()).parameters
    assert list(parameters) == ["opened", "path", *(key for key in parameters if key in form.takes)]
    assert set(form.takes) == set(list(parameters)[2:])


@pytest.mark.parametrize("name", ["ply", "splat", "spz", "glb"])
def test_one_file_beside_the_avatar(name: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), "--format", name]) == 0
    path = run / "export" / f"ein Läuf.{name}"
    told = capsys.readouterr().out
    assert told.startswith(f"{path}: ")
    assert f"{path.stat().st_size / 1e6:.2f} MB" in told
    assert os.listdir(run / "export") == [path.name]


def test_a_page_plays_the_runs_own_film(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), "--format", "web"]) == 0
    page = (run / "export" / "ein Läuf.html").read_text(encoding="utf-8")
    assert "a head with a höt" in page
    assert "4 frames at 8 a second, the run's own motion" in capsys.readouterr().out
    assert "sound has no meaning for --format ply" in refusal(capsys, run, "--format", "ply", "--sound", "a.wav")
    assert "There is no sound file" in refusal(capsys, run, "--format", "web", "--sound", "nowhere.wav")


def test_a_sequence_is_the_runs_own_film(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), "--format", "ply-sequence"]) == 0
    folder = run / "export" / "ein Läuf-ply-sequence"
    frames = sorted(folder.glob("*.ply"))
    assert [frame.name for frame in frames] == [f"frame_{number:04d}.ply" for number in range(4)]  # 0.5 s at 8
    about = json.loads((folder / "sequence.json").read_text(encoding="utf-8"))
    assert about == {
        "prompt": "a head with a höt",
        "fps": 8.0,
        "motion": "the run's own motion",
        "axes": "supersplat",
        "up": "-y",
        "files": "frame_%04d.ply",
        "frames": 4,
    }
    clouds = [gsply.plyread(str(frame)) for frame in frames]
    assert all(np.array_equal(cloud.opacities, clouds[0].opacities) for cloud in clouds)  # the same Gaussians
    assert not np.array_equal(clouds[0].means, clouds[3].means)
    # a shorter one in the same folder leaves no frame of the longer one behind
    assert main([str(run), "--format", "ply-sequence", "--seconds", "0.25", "--axes", "world"]) == 0
    assert len(list(folder.glob("*.ply"))) == 2


def test_a_recording_decides_fps_and_length(run: Path, talk: Path, tmp_path: Path) -> None:
    out = tmp_path / "bilder"
    assert main([str(run), "--format", "ply-sequence", "--motion", str(talk), "--out", str(out)]) == 0
    assert json.loads((out / "sequence.json").read_text(encoding="utf-8"))["fps"] == 10.0
    assert len(list(out.glob("*.ply"))) == 3
    last = gsply.plyread(str(out / "frame_0002.ply")).means
    assert main([str(run), "--format", "ply", "--pose", "jawOpen=1", "--out", str(tmp_path / "open.ply")]) == 0
    assert np.array_equal(gsply.plyread(str(tmp_path / "open.ply")).means, last)
    assert main([str(run), "--format", "ply-sequence", "--motion", str(talk), "--fps", "20", "--out", str(out)]) == 0
    assert len(list(out.glob("*.ply"))) == 5
    again = gsply.plyread(str(out / "frame_0004.ply")).means
    assert np.array_equal(again, last)


def test_poses_differ_and_names_without_a_side_mean_both(run: Path, tmp_path: Path) -> None:
    means = {}
    for pose in ("rest", "smile", "mouthSmile=1,cheekSquint=0.4", "mouthSmileLeft=1", "eyeLookUp=1"):
        assert main([str(run), "--format", "ply", "--pose", pose, "--out", str(tmp_path / "a.ply")]) == 0
        means[pose] = gsply.plyread(str(tmp_path / "a.ply")).means
    assert np.array_equal(means["smile"], means["mouthSmile=1,cheekSquint=0.4"])
    assert len({values.tobytes() for values in means.values()}) == 4


def test_ctrl_c_leaves_finished_frames(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Progress, step: int, losses: Any) -> None:
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(sequence.Progress, "show", stop)
    assert main([str(run), "--format", "ply-sequence"]) == 130
    folder = run / "export" / "ein Läuf-ply-sequence"
    assert "Stopped: 2 of 4 frames are complete in" in capsys.readouterr().err
    assert sorted(os.listdir(folder)) == ["frame_0000.ply", "frame_0001.ply", "sequence.json"]
    assert json.loads((folder / "sequence.json").read_text(encoding="utf-8"))["frames"] == 2


def test_ctrl_c_in_the_middle_of_a_file_leaves_nothing(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def struck(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", struck)
    assert main([str(run), "--format", "ply"]) == 130
    assert os.listdir(run / "export") == []
    assert capsys.readouterr().err == "Stopped; nothing was written.\n"


def test_options_that_mean_nothing_here(run: Path, talk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--format plz does not exist: it is one of ply, splat, spz" in refusal(capsys, run, "--format", "plz")
    assert "Did you mean 'ply'?" in refusal(capsys, run, "--format", "plyy")
    told = refusal(capsys, run, "--format", "ply", "--motion", talk)
    assert told == (
        "--motion has no meaning for --format ply; it has for "
        f"{', '.join(name for name, form in FORMATS.items() if 'motion' in form.takes)}.\n"
    )
    assert "--axes has no meaning for --format glb" in refusal(capsys, run, "--format", "glb", "--axes", "world")
    assert "Did you mean 'world'?" in refusal(capsys, run, "--format", "ply", "--axes", "worlds")


def test_runs_that_are_none(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is no directory" in refusal(capsys, tmp_path / "nowhere", "--format", "ply")
    (run / "DONE").unlink()
    assert "has not finished" in refusal(capsys, run, "--format", "ply")
    assert not (run / "export").exists()


@pytest.mark.parametrize(
    ("pose", "told"),
    [
        ("smiel", "is no pose of this head: it has rest, mouth_open, blink, smile, turned.*Did you mean 'smile'"),
        ("jawOpne=0.5", "neither an ARKit name nor an expression of this head.*Did you mean 'jawOpen'"),
        ("jawOpen=1.5", "jawOpen=1.5; ARKit's weights go from 0 to 1"),
        ("jawOpen=wide", "'jawOpen=wide', which is no weight; write name=number"),
        ("jawOpen=nan", "which is no weight"),
        ("jawOpen=0.5,smile", "'smile', which is no weight"),
        ("flame_003=1", "neither an ARKit name nor an expression"),
    ],
)
def test_poses_that_are_none(run: Path, capsys: pytest.CaptureFixture[str], pose: str, told: str) -> None:
    assert re.search(told, refusal(capsys, run, "--format", "ply", "--pose", pose))
    assert os.listdir(run / "export") == []


def test_motions_that_are_none(run: Path, talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (run, "--format", "ply-sequence")
    assert "nicht.npz does not exist" in refusal(capsys, *words, "--motion", tmp_path / "nicht.npz")
    (tmp_path / "leer").mkdir()
    assert "leer holds no motion" in refusal(capsys, *words, "--motion", tmp_path / "leer")
    np.savez(tmp_path / "none.npz", fps=10.0, neck=np.zeros((0, 3)))
    assert "neck has no frames" in refusal(capsys, *words, "--motion", tmp_path / "none.npz")
    np.savez(tmp_path / "still.npz", fps=10.0, neck=np.zeros((5, 3)))
    assert "nothing in it moves this head" in refusal(capsys, *words, "--motion", tmp_path / "still.npz")
    assert "--fps 0 must be a number above 0" in refusal(capsys, *words, "--fps", "0")
    assert "--seconds -1 must be a number above 0" in refusal(capsys, *words, "--seconds", "-1")
    assert "less than one frame" in refusal(capsys, *words, "--seconds", "0.01", "--fps", "10")


def test_places_that_are_none(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (run, "--format", "ply", "--out")
    assert "there is no folder" in refusal(capsys, *words, tmp_path / "nicht" / "da.ply")
    assert "is a folder; name a file, such as" in refusal(capsys, *words, tmp_path)
    assert "does not end in .ply" in refusal(capsys, *words, tmp_path / "a.glb")
    (tmp_path / "datei").touch()
    folder = (run, "--format", "ply-sequence", "--out")
    assert "is a file, and --format ply-sequence writes a folder" in refusal(capsys, *folder, tmp_path / "datei")
    assert "holds other files, such as DONE" in refusal(capsys, *folder, run)
    assert "cannot be written" in refusal(capsys, *words, "/proc/a.ply")  # nobody may, not even root


def test_another_head_has_no_gaussian_avatars(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "needs a run with head=flame" in refusal(capsys, run, "--format", "gaussian-avatars")
    assert os.listdir(run / "export") == []


def commands() -> list[str]:
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    return re.findall(r"^    python -m headstudio\.export (RUN .*?)(?:  +#.*)?$", page, re.MULTILINE)


@pytest.mark.parametrize("command", commands())
def test_the_page_says_what_works(command: str, run: Path, talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of docs/export.md, on the open head."""
    monkeypatch.chdir(talk.parent)
    shutil.copy(talk, "talk.npz")
    words = [str(run) if word == "RUN" else word for word in command.split()]
    needs_flame = "gaussian-avatars" in words
    assert main(words) == (2 if needs_flame else 0)


def test_nothing_that_is_needed_is_overwritten(
    run: Path, talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    avatar = (run / "avatar.ply").read_bytes()
    told = refusal(capsys, run, "--format", "ply", "--out", run / "avatar.ply")
    assert "avatar.ply is a file that this is made from or that the run needs" in told
    assert (run / "avatar.ply").read_bytes() == avatar
    assert main([str(run), "--format", "ply", "--out", str(run / "mine.ply")]) == 0  # but it may lie there
    assert main([str(run), "--format", "ply", "--out", str(run / "mine.ply")]) == 0


def test_a_folder_of_ones_own_frames_is_left_alone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    words = ("--format", "ply-sequence", "--out", mine)
    for name in ("frame_scan.ply", "frame_0001.ply"):
        (mine / name).write_text("mine")
        assert f"holds other files, such as {name}" in refusal(capsys, run, *words)
        assert (mine / name).read_text() == "mine"
        (mine / name).unlink()


def test_a_killed_sequence_can_be_made_again(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tells that the frames are ours is there before the first of them."""

    def killed(self: Progress, step: int, losses: Any) -> None:
        raise MemoryError

    words = [str(run), "--format", "ply-sequence", "--out", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr(sequence.Progress, "show", killed)
        with pytest.raises(MemoryError):
            main(words)
    assert sorted(os.listdir(tmp_path / "out")) == ["frame_0000.ply", "sequence.json"]
    assert main(words) == 0
    assert len(list((tmp_path / "out").glob("*.ply"))) == 4


def test_a_recording_without_a_rate_is_told_one(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "nofps.npz", jaw=np.linspace(0, 0.3, 9).reshape(3, 3))
    words = (run, "--format", "ply-sequence", "--motion", tmp_path / "nofps.npz", "--out", tmp_path / "out")
    assert "say --motion-fps 30" in refusal(capsys, *words)
    assert main([*map(str, words), "--motion-fps", "12"]) == 0
    capsys.readouterr()
    assert json.loads((tmp_path / "out" / "sequence.json").read_text(encoding="utf-8"))["fps"] == 12.0
    assert "--motion-fps 12 is for --motion" in refusal(capsys, *words[:3], "--motion-fps", "12")
    assert "--motion-fps has no meaning for --format ply" in refusal(
        capsys, run, "--format", "ply", "--motion-fps", "1"
    )
