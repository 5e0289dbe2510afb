"""Oracles: ffmpeg's own reading of the film, the bytes of the PNG."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from headstudio.export.pictures import to_uint8, viewing_factor, write_grid, write_picture
from headstudio.export.video import write_mp4


def flat(color: tuple[float, float, float], height: int = 32, width: int = 32) -> Tensor:
    return torch.tensor(color)[:, None, None].expand(3, height, width)


def frames(count: int, height: int, width: int) -> Iterator[Tensor]:
    for i in range(count):
        yield flat((i / max(count - 1, 1), 0.5, 0.0), height, width)


@pytest.mark.parametrize(
    ("height", "width", "factor", "size"), [(32, 48, 1, (48, 32)), (33, 47, 1, (48, 34)), (24, 24, 4, (96, 96))]
)
def test_the_film_has_its_frames_and_size(
    tmp_path: Path, height: int, width: int, factor: int, size: tuple[int, int]
) -> None:
    path = tmp_path / "film.mp4"
    assert write_mp4(frames(13, height, width), path, 10, factor=factor) == 13
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    assert (meta["codec"], meta["pix_fmt"].split("(")[0], meta["fps"]) == ("h264", "yuv420p", 10.0)
    assert tuple(meta["size"]) == size
    pictures = [np.frombuffer(data, np.uint8).reshape(size[1], size[0], 3) for data in reader]
    assert len(pictures) == 13
    # The colours survive in order: red rises from 0 to 255 and green stays at the middle.
    assert abs(int(pictures[0][..., 0].mean()) - 0) < 12
    assert abs(int(pictures[-1][..., 0].mean()) - 255) < 12
    assert abs(int(pictures[5][..., 1].mean()) - 128) < 12
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


def test_equal_frames_make_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_mp4(frames(6, 32, 32), tmp_path / name, 10)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_an_interrupted_film_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_mp4(frames(3, 16, 16), path, 10)
    before = path.read_bytes()

    def broken() -> Iterator[Tensor]:
        yield flat((0, 0, 0), 16, 16)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_mp4(broken(), path, 10)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


def test_no_frames_and_changing_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frames"):
        write_mp4([], tmp_path / "film.mp4", 10)
    with pytest.raises(ValueError, match="frame 1"):
        write_mp4([flat((0, 0, 0), 16, 16), flat((0, 0, 0), 16, 18)], tmp_path / "film.mp4", 10)
    assert not list(tmp_path.iterdir())


def test_bytes_clip_and_round() -> None:
    picture = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, float("nan")]).expand(3, 1, 6)
    assert to_uint8(picture)[0, :, 0].tolist() == [0, 0, 128, 255, 255, 0]


@pytest.mark.parametrize(("size", "wanted", "factor"), [(64, 256, 4), (96, 256, 3), (256, 256, 1), (1024, 256, 1)])
def test_viewing_factor(size: int, wanted: int, factor: int) -> None:
    assert viewing_factor(size, wanted) == factor


def test_the_grid_keeps_rows_columns_and_pixels(tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    red, green, blue = (flat(c) for c in ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)))
    write_grid([[red, green], [blue]], path, gap=4)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (4 + 2 * 36, 4 + 2 * 36, 3)
    assert (sheet[4:36, 4:36] == [255, 0, 0]).all()
    assert (sheet[4:36, 40:72] == [0, 255, 0]).all()
    assert (sheet[40:72, 4:36] == [0, 0, 255]).all()
    assert (sheet[40:72, 40:72] == 255).all()


def test_labels_have_their_own_room(tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    black = flat((0.0, 0.0, 0.0), 40, 40)
    write_grid([[black, black], [black, black]], path, row_labels=["rest", "a long label"], column_labels=["0", "90"])
    sheet = np.asarray(Image.open(path)).astype(int)
    ink = (sheet < 200).all(-1)
    # Four black squares and nothing else at the lower right; labels to the left and above of them.
    assert ink[-88:, -88:].sum() == 4 * 1600
    assert ink[-88:, :-90].any()
    assert ink[:-90, -88:].any()
    write_grid([[black, black]], tmp_path / "grid.jpg", column_labels=["one\nunder the other", "one"])
    with Image.open(tmp_path / "grid.jpg") as picture:
        assert picture.format == "JPEG"
        tall = (np.asarray(picture).astype(int) < 200).all(-1)[:-48]
    left, right = (np.flatnonzero(tall[:, columns].any(1)) for columns in (slice(0, 46), slice(46, None)))
    assert left.min() + 10 < right.min()  # labels end at the same height, and the longer one begins a line above
    with pytest.raises(ValueError, match="1 labels for 2"):
        write_grid([[black, black]], path, column_labels=["0"])
    with pytest.raises(ValueError, match="one size"):
        write_grid([[black, flat((0, 0, 0))]], path)
    with pytest.raises(ValueError, match="one size"):
        write_grid([], path)


def test_a_single_picture(tmp_path: Path) -> None:
    write_picture(flat((1.0, 0.5, 0.0)), tmp_path / "p.png", factor=2)
    picture = np.asarray(Image.open(tmp_path / "p.png"))
    assert picture.shape == (64, 64, 3)
    assert (picture == [255, 128, 0]).all()
