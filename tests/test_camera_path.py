"""A camera's path: it goes through its places, looks where they say, and damaged files are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstudio.camera_path import read_camera_path
from headstudio.errors import UserError

PLACES: list[dict[str, Any]] = [
    {"seconds": 0, "position": [0, 0.1, 2.4], "look_at": [0, 0.1, 0], "fovy_deg": 40},
    {"seconds": 1.5, "position": [1.2, 0.6, 1.0], "look_at": [0.1, 0, 0.2], "fovy_deg": 50},
    {"seconds": 2, "position": [-2.0, 0, 0.1], "look_at": [0, 0, 0], "fovy_deg": 50},
]


def written(path: Path, keyframes: Any) -> Path:
    path.write_text(json.dumps({"keyframes": keyframes}), encoding="utf-8")
    return path


def test_the_camera_is_where_its_places_are(tmp_path: Path) -> None:
    way = read_camera_path(written(tmp_path / "weg.json", PLACES))
    cameras = way.cameras(np.array([-1.0, 0.0, 1.5, 2.0, 9.0]), 64)
    world_from_camera = torch.linalg.inv(cameras.camera_from_world)
    for index, place in zip(range(5), (0, 0, 1, 2, 2), strict=True):
        wanted = PLACES[place]
        assert torch.allclose(world_from_camera[index, :3, 3], torch.tensor(wanted["position"]).float(), atol=1e-5)
        seen = (
            cameras.intrinsics[index] @ (cameras.camera_from_world[index] @ torch.tensor([*wanted["look_at"], 1.0]))[:3]
        )
        assert torch.allclose(seen[:2] / seen[2], torch.tensor([32.0, 32.0]), atol=1e-3)  # the middle of the picture
        focal = 32.0 / np.tan(np.radians(wanted["fovy_deg"]) / 2)
        assert float(cameras.intrinsics[index, 1, 1]) == pytest.approx(focal, rel=1e-5)


def test_between_places_nothing_overshoots(tmp_path: Path) -> None:
    way = read_camera_path(written(tmp_path / "a.json", PLACES))
    between = way.cameras(np.linspace(0, 2, 200), 64)
    focal = between.intrinsics[:, 1, 1]
    assert (focal.diff() <= 1e-4).all()  # from 40 to 50 degrees, and there it stays
    where = torch.linalg.inv(between.camera_from_world)[:, :3, 3]
    assert where[:, 0].max() <= 1.2 + 1e-5
    assert where.diff(dim=0).norm(dim=1).max() < 0.2


def test_one_place_is_a_still_camera(tmp_path: Path) -> None:
    cameras = read_camera_path(written(tmp_path / "a.json", PLACES[:1])).cameras(np.array([0.0, 5.0]), 32)
    assert torch.equal(cameras.camera_from_world[0], cameras.camera_from_world[1])


@pytest.mark.parametrize(
    ("keyframes", "told"),
    [
        ([], "is no camera's path"),
        ("x", "is no camera's path"),
        ([{**PLACES[0], "position": [0, 1]}], r"keyframe 0 has position=\[0, 1\], where 3 numbers of at most 10000"),
        ([{**PLACES[0], "fovy_deg": 200}], "keyframe 0 has fovy_deg=200"),
        ([{**PLACES[0], "fovy_deg": "wide"}], "keyframe 0 has fovy_deg='wide', where a number of at most 10000"),
        ([PLACES[1], PLACES[0]], "keyframe 1 is at 0 s, not later"),
        ([{**PLACES[0], "look_at": PLACES[0]["position"]}], "looks at its own position"),
        ([3], "keyframe 0 has seconds=None"),
    ],
)
def test_damaged_paths_are_told(tmp_path: Path, keyframes: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_camera_path(written(tmp_path / "a.json", keyframes))


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no camera's path"):
        read_camera_path(tmp_path / "none.json")
    (tmp_path / "a.json").write_bytes(b"\xff\x00")
    with pytest.raises(UserError, match="is no camera's path"):
        read_camera_path(tmp_path / "a.json")
