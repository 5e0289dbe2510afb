"""Films of every kind become upright pictures at a constant rate; what is none is one sentence."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headstudio.errors import UserError
from headstudio.tracking.film import LONGEST_SIDE_PX, open_film, pictures

RED = "color=c=red:s=96x64:r=25:d=0.8"


def ffmpeg(*words: str | Path) -> None:
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True)


def made(path: Path, *words: str, source: str = RED) -> Path:
    ffmpeg("-f", "lavfi", "-i", source, *words, path)
    return path


def shown(path: Path, fps: float | None = None, seconds: float | None = None) -> list[NDArray[Any]]:
    film = open_film(path)
    return list(pictures(film, fps or film.fps, seconds))


def left_half_white(path: Path) -> Path:
    return made(path, "-vf", "drawbox=x=0:y=0:w=48:h=64:color=white:t=fill")


def test_an_ordinary_film(tmp_path: Path) -> None:
    path = left_half_white(tmp_path / "ein Film.mp4")
    film = open_film(path)
    assert (film.fps, film.has_sound) == (25.0, False)
    assert film.seconds == pytest.approx(0.8, abs=0.05)
    found = shown(path)
    assert len(found) == 20
    assert found[0].shape == (64, 96, 3)
    assert found[0][:, :40].min() > 200
    assert found[0][:, 56:, 1].max() < 60


def test_other_rates_and_a_part(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mp4")
    assert len(shown(path, 50.0)) == 40
    assert len(shown(path, 10.0)) == 8
    assert len(shown(path, 10.0, 0.4)) == 4


@pytest.mark.parametrize(("degrees", "white"), [(90, "bottom"), (-90, "top"), (180, "right")])
def test_a_telephones_rotation_is_respected(tmp_path: Path, degrees: int, white: str) -> None:
    upright = left_half_white(tmp_path / "a.mp4")
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", str(degrees), "-i", upright, "-c", "copy", turned)
    picture = shown(turned)[0][..., 1]
    assert picture.shape == ((64, 96) if degrees == 180 else (96, 64))
    halves = {"bottom": picture[60:], "top": picture[:36], "right": picture[:, 60:], "left": picture[:, :36]}
    assert halves[white].min() > 200


def test_a_varying_rate_keeps_its_instants(tmp_path: Path) -> None:
    """Frames at 0, 0.1, 0.2 s and then every 0.4 s: the picture at an instant is the last one shown before."""
    times = "setpts='if(lt(N,3),N*0.1,0.2+(N-2)*0.4)/TB'"
    grey = "nullsrc=s=32x32:r=10:d=0.6,geq=lum='40*N+20':cb=128:cr=128"
    path = made(tmp_path / "v.mkv", "-vf", times, "-fps_mode", "vfr", "-c:v", "ffv1", source=grey)
    found = [round((float(picture.mean()) * 219 / 255 + 16 - 20) / 40) for picture in shown(path, 10.0)]
    assert found[:11] == [0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4]


@pytest.mark.parametrize(
    ("suffix", "words"),
    [
        (".mkv", ("-pix_fmt", "gray", "-c:v", "ffv1")),
        (".mkv", ("-pix_fmt", "gray16le", "-c:v", "ffv1")),
        (".mp4", ("-pix_fmt", "yuv420p10le")),
        (".mov", ("-pix_fmt", "argb", "-c:v", "qtrle")),
        (".gif", ()),
        (".webm", ("-c:v", "libvpx")),
        (".avi", ("-c:v", "mjpeg", "-pix_fmt", "yuvj444p")),
    ],
)
def test_formats(tmp_path: Path, suffix: str, words: tuple[str, ...]) -> None:
    found = shown(made(tmp_path / f"a{suffix}", *words), 25.0)
    assert len(found) in (20, 21)
    assert found[0].shape == (64, 96, 3)
    assert found[0].dtype == np.uint8


def test_large_pictures_are_scaled_down_and_pixels_are_square(tmp_path: Path) -> None:
    path = made(
        tmp_path / "4k.mp4", "-frames:v", "2", "-preset", "ultrafast", source="color=c=red:s=3840x2160:r=25:d=1"
    )
    assert shown(path)[0].shape == (LONGEST_SIDE_PX * 2160 // 3840, LONGEST_SIDE_PX, 3)
    wide = made(tmp_path / "wide.mp4", "-vf", "setsar=2")
    assert shown(wide)[0].shape == (64, 192, 3)


def test_sound_is_noticed_and_a_length_that_is_not_told_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    ffmpeg("-f", "lavfi", "-i", RED, "-f", "lavfi", "-i", "sine=d=0.8", "-c:a", "aac", path)
    assert open_film(path).has_sound
    live = tmp_path / "live.webm"
    ffmpeg("-f", "lavfi", "-i", RED, "-c:v", "libvpx", "-live", "1", live)
    assert open_film(live).seconds == pytest.approx(0.8, abs=0.1)


def test_a_torn_film_gives_what_is_there(tmp_path: Path) -> None:
    whole = made(tmp_path / "a.mkv", "-c:v", "mjpeg", source="testsrc=s=96x64:r=25:d=2")
    torn = tmp_path / "torn.mkv"
    torn.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert 10 < len(shown(torn)) < 45


def test_what_is_no_film_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.mp4 is no file"):
        open_film(tmp_path / "nowhere.mp4")
    with pytest.raises(UserError, match="is no file"):
        open_film(tmp_path)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(UserError, match="is empty"):
        open_film(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("no film " * 100)
    with pytest.raises(UserError, match="is no film that ffmpeg can read"):
        open_film(tmp_path / "text.mp4")
    only_sound = tmp_path / "sound.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac", only_sound)
    with pytest.raises(UserError, match=r"no film|no picture"):
        shown(only_sound)


def test_names_that_ffmpeg_could_misread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "plain.mp4").rename(tmp_path / "-i %03d:x.mp4")
    assert len(shown(Path("-i %03d:x.mp4"))) == 20


def test_a_reader_that_stops_early_leaves_no_process(tmp_path: Path) -> None:
    import psutil

    path = made(tmp_path / "long.mp4", source="testsrc=s=640x360:r=25:d=20")
    reader = pictures(open_film(path), 25.0)
    next(reader)
    assert any("ffmpeg" in child.name() for child in psutil.Process().children())
    reader.close()
    assert not any("ffmpeg" in child.name() for child in psutil.Process().children())
