"""Tables of ARKit weights: what was written comes back, damaged ones are told by line, dropped frames are filled in."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from headstudio.errors import UserError
from headstudio.motion.arkit import ARKIT_NAMES, INDEX, rotation_vectors
from headstudio.motion.files import motion_files, read_file
from headstudio.motion.livelink import APPLE_ORDER, angles_of, write
from headstudio.motion.recording import NotFinite, Recording

RNG = np.random.default_rng(7)


def take(frames: int = 70, fps: float = 30.0) -> Recording:
    arkit = RNG.uniform(0, 1, (frames, len(ARKIT_NAMES)))
    neck = 0.3 * RNG.normal(size=(frames, 3))
    return Recording(source="take", fps=fps, arkit=arkit.astype(np.float32), neck=neck.astype(np.float32))


def one(path: Path, fps: float | None = None) -> Recording:
    (recording,) = read_file(path, fps=fps)
    return recording


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_every_name_has_its_column() -> None:
    assert sorted(APPLE_ORDER) == sorted(ARKIT_NAMES)


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0, 60.0])
def test_what_was_written_comes_back(tmp_path: Path, fps: float) -> None:
    written = take(fps=fps)
    path = tmp_path / "Größe 1.csv"
    write(path, written)
    read = one(path)
    assert read.fps == fps
    assert read.arkit is not None
    assert read.neck is not None
    assert np.abs(read.arkit - written.tracks["arkit"]).max() < 1e-6
    turned = Rotation.from_rotvec(read.neck).inv() * Rotation.from_rotvec(written.tracks["neck"])
    assert turned.magnitude().max() < 1e-5
    assert path.read_text().startswith("Timecode,BlendShapeCount,EyeBlinkLeft,EyeLookDownLeft,")


@given(st.tuples(*[st.floats(-1.2, 1.2)] * 3))
def test_angles_are_the_inverse_of_turns(angles: tuple[float, float, float]) -> None:
    vectors = rotation_vectors(torch.tensor([angles]).rad2deg()).numpy()
    assert np.abs(angles_of(vectors)[0] - angles).max() < 1e-5


def test_the_head_turns_as_it_says(tmp_path: Path) -> None:
    radians = one(table(tmp_path / "a.csv", "JawOpen,HeadYaw,HeadPitch,HeadRoll", "0,0.5,0,0", "0,0,0.5,0"))
    assert radians.neck is not None
    faces = Rotation.from_rotvec(radians.neck).apply([0.0, 0.0, 1.0])
    assert faces[0][0] == pytest.approx(np.sin(0.5), abs=1e-5)  # to the subject's left
    assert faces[1][1] == pytest.approx(np.sin(0.5), abs=1e-5)  # up
    degrees = one(table(tmp_path / "b.csv", "JawOpen,HeadYaw,HeadPitch,HeadRoll", "0,28.6479,0,0", "0,0,28.6479,0"))
    assert np.allclose(degrees.tracks["neck"], radians.neck, atol=1e-5)


def test_names_in_any_case_and_some_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = one(table(tmp_path / "a.csv", "time,jawOpen,MOUTHSMILELEFT,comment", "0,0.5,0.25,", "0.04,1,0.5,x"))
    assert found.fps == 25.0
    assert found.arkit is not None
    assert found.arkit[:, INDEX["jawOpen"]].tolist() == [0.5, 1.0]
    assert found.arkit[:, INDEX["mouthSmileLeft"]].tolist() == [0.25, 0.5]
    assert found.neck is None
    assert "lacks 50 of ARKit's 52 columns" in caplog.text


def test_dropped_and_repeated_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clocks = ["00:00:59:28.1", "00:00:59:28.1", "00:00:59:29.1", "00:01:00:01.1", "00:01:00:02.1"]
    rows = [f"{clock},61,{value}" for clock, value in zip(clocks, (0.1, 0.9, 0.2, 0.4, 0.5), strict=True)]
    with caplog.at_level(logging.WARNING):
        found = one(table(tmp_path / "a.csv", "Timecode,BlendshapeCount,JawOpen", *rows))
    assert found.fps == 30.0
    assert found.tracks["arkit"][:, INDEX["jawOpen"]] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5], abs=1e-5)
    assert "1 of 5 frames are missing" in caplog.text


def test_a_take_over_midnight(tmp_path: Path) -> None:
    rows = ["23:59:59:58,61,0.1", "23:59:59:59,61,0.2", "00:00:00:00,61,0.3"]
    found = one(table(tmp_path / "a.csv", "Timecode,BlendShapeCount,JawOpen", *rows))
    assert found.fps == 60.0
    assert len(found) == 3


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["frame,x,y", "0,1,2"], "none of ARKit's 52 names"),
        (["JawOpen"], "has no frames"),
        (["JawOpen,jawOpen", "0,0"], "two columns jawOpen"),
        (["time,JawOpen", "0,0.1", "0.1"], "line 3: 1 values for 2 columns"),
        (["time,JawOpen", "0,0.1", "0.1,much"], "line 3: jawOpen is 'much'"),
        (["time,JawOpen", "1,0.1", "0.9,0.1"], "line 3: time goes back in time"),
        (["Timecode,JawOpen", "12:30,0.1", "12:31,0.1"], "line 2: Timecode is '12:30', not hours"),
        (["time,JawOpen", "0,40", "0.1,50"], "weights go from 0 to 1"),
    ],
)
def test_damaged_tables_are_told_by_line(tmp_path: Path, lines: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        one(table(tmp_path / "a.csv", *lines))


def test_what_is_no_number_or_no_table(tmp_path: Path) -> None:
    with pytest.raises(NotFinite, match="line 3: jawOpen is nan"):
        one(table(tmp_path / "a.csv", "time,JawOpen", "0,0", "0.1,nan"))
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x01" * 9)
    with pytest.raises(UserError, match="cannot be read as a table"):
        one(tmp_path / "b.csv")
    with pytest.raises(UserError, match="has no ARKit weights"):
        write(tmp_path / "c.csv", Recording(source="x", fps=30, jaw=np.zeros((2, 3))))


def test_tables_in_a_folder_are_not_taken_for_motion(tmp_path: Path) -> None:
    table(tmp_path / "metadata.csv", "name,age", "a,1")
    assert motion_files(tmp_path) == []


@pytest.mark.parametrize(
    ("fps", "rate"),
    [(5.0, 25.0), (15.0, 30.0), (12.0, 24.0), (29.97, 30.0), (23.976, 24.0), (7.0, 60.0), (120.0, 60.0)],
)
def test_other_rates_are_brought_to_one_that_timecodes_tell(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fps: float, rate: float
) -> None:
    written = take(frames=50, fps=fps)
    write(tmp_path / "a.csv", written)
    read = one(tmp_path / "a.csv")
    assert read.fps == rate
    assert read.seconds == pytest.approx(written.seconds, abs=1.01 / rate)
    assert np.abs(read.tracks["arkit"] - written.resampled(rate).tracks["arkit"]).max() < 2e-6
    assert caplog.text == ""


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0])
@pytest.mark.parametrize("frames", [2, 22, 26])
def test_the_shortest_takes_tell_their_rate(tmp_path: Path, fps: float, frames: int) -> None:
    """The first frame is the last one of a second, so that the second one ends it."""
    write(tmp_path / "a.csv", take(frames, fps))
    assert (one(tmp_path / "a.csv").fps, len(one(tmp_path / "a.csv"))) == (fps, frames)


def test_a_take_within_a_second_does_not_tell_its_rate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [f"14:03:52:{frame:02d}.000,0.5" for frame in range(24)]  # 24 of 60 frames, or all of 24
    path = table(tmp_path / "a.csv", "Timecode,JawOpen", *lines)
    assert one(path).fps == 60.0
    assert "too short to tell its frame rate" in caplog.text
    assert one(path, fps=24.0).fps == 24.0


def test_a_rate_that_contradicts_the_timecodes_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", take(150, 60.0))
    write(tmp_path / "b.csv", take(150, 30.0))
    for name, fps, counted in (("a.csv", 30.0, 60), ("b.csv", 60.0, 30)):
        with pytest.raises(UserError, match=rf"motion.fps={fps:g} contradicts .*{name}.* count {counted} frames"):
            one(tmp_path / name, fps=fps)
    assert one(tmp_path / "b.csv", fps=29.97).fps == 29.97


def test_two_takes_in_one_file_are_told(tmp_path: Path) -> None:
    first = [f"14:03:{52 + k // 30:02d}:{k % 30:02d}.000,0.5" for k in range(60)]
    second = [f"14:05:52:{k:02d}.000,0.5" for k in range(10)]
    path = table(tmp_path / "a.csv", "Timecode,JawOpen", *first, *second)
    with pytest.raises(UserError, match=r"line 62: timecode jumps by 118 s; if these are two takes"):
        one(path)


def test_what_other_programs_write_differently_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match=r"a\.csv is separated by semicolons; write it with commas"):
        one(table(tmp_path / "a.csv", "Timecode;JawOpen", "14:03:52:01.000;0.5"))
    with pytest.raises(UserError, match=r"line 3: Timecode is 'nan:03:52:01', not hours:minutes"):
        one(table(tmp_path / "b.csv", "Timecode,JawOpen", "14:03:52:00,0.5", "nan:03:52:01,0.5"))
    assert one(table(tmp_path / "c.csv", "timestamp,JawOpen", "0.0,0.5", "0.5,0.6")).fps == 60.0
    assert "the column timestamp is not read (timecode, time, seconds, timestamp_ms are)" in caplog.text
