"""Oracles: the films' own frame counts and sizes, and an avatar whose colour says from which side it is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from headstudio.avatar.rigged import RiggedGaussians
from headstudio.errors import UserError
from headstudio.export.gallery import VIEWS, Gallery
from headstudio.head.model import HeadModel
from headstudio.motion.arkit import pose_of, weights_of
from headstudio.motion.none import NoMotion
from headstudio.render.cpu import CpuRenderer
from headstudio.runstate import RunPaths
from headstudio.types import Pose

SMALL: dict[str, Any] = {"width": 40, "height": 40, "seconds": 1.0, "fps": 8, "viewing_size": 80, "chunk": 3}


@pytest.fixture
def avatar(tiny_head: HeadModel) -> RiggedGaussians:
    """One opaque Gaussian per triangle: red in front, blue behind, green on the subject's left."""
    count = len(tiny_head.faces)
    centres = tiny_head.v_template[tiny_head.faces].mean(1)
    side = torch.stack((centres[:, 2], centres[:, 0], -centres[:, 2]), -1)
    return RiggedGaussians.from_state(
        tiny_head,
        {
            "means": torch.zeros(count, 3),
            "log_scales": torch.full((count, 3), -0.7),
            "quats": torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
            "color_logits": 20.0 * (side - 0.25),
            "opacity_logits": torch.full((count,), 5.0),
            "shape": torch.zeros(tiny_head.num_shape),
            "triangle": torch.arange(count),
        },
    )


class Talking:
    """A motion whose jaw opens steadily."""

    def __init__(self, head: HeadModel) -> None:
        self.head = head

    def sample(self, count: int, generator: torch.Generator) -> Pose:
        return pose_of(self.head, torch.linspace(0, 1, count)[:, None] * weights_of({"jawOpen": 1.0}))

    def sequence(self, seconds: float, fps: float, generator: torch.Generator) -> Pose:
        return self.sample(round(seconds * fps), generator)


def test_three_files(avatar: RiggedGaussians, tmp_path: Path, generator: torch.Generator) -> None:
    motion = Talking(avatar.head)
    files = Gallery(**SMALL)(avatar, CpuRenderer(threads=1), motion, RunPaths(tmp_path), generator)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["animation.mp4", "grid.png", "turntable.mp4"]
    for name in ("turntable", "animation"):
        frames, _ = imageio_ffmpeg.count_frames_and_secs(str(files[name]))
        meta = next(imageio_ffmpeg.read_frames(str(files[name])))
        assert (frames, meta["size"], meta["fps"]) == (8, (80, 80), 8.0)
    grid = np.asarray(Image.open(files["grid"]))
    assert grid.shape[0] > 5 * 80
    assert grid.shape[1] > len(VIEWS) * 80


def test_the_turntable_goes_round_by_the_subjects_left(avatar: RiggedGaussians) -> None:
    frames = list(Gallery(**SMALL).turntable(avatar, CpuRenderer(threads=1)))
    middle = [int(frame[:, 17:23, 17:23].mean((1, 2)).argmax()) for frame in frames]
    assert len(frames) == 8
    assert (middle[0], middle[2], middle[4]) == (0, 1, 2)
    assert frames[0].min() >= 0
    assert frames[0].max() <= 1
    assert torch.equal(frames[0][:, 0, 0], torch.ones(3))


def test_the_film_moves_and_no_motion_stands_still(avatar: RiggedGaussians, generator: torch.Generator) -> None:
    gallery = Gallery(**(SMALL | {"sway_deg": 0.0}))
    renderer = CpuRenderer(threads=1)
    moving = list(gallery.animation(avatar, renderer, Talking(avatar.head), generator))
    still = list(gallery.animation(avatar, renderer, NoMotion(avatar.head), generator))
    assert (moving[-1] - moving[0]).abs().max() > 0.05
    assert torch.equal(still[-1], still[0])
    assert torch.equal(still[0], moving[0])


def test_chunks_change_nothing(avatar: RiggedGaussians, generator: torch.Generator) -> None:
    films = [
        torch.stack(
            list(
                Gallery(**(SMALL | {"chunk": chunk})).animation(
                    avatar, CpuRenderer(threads=1), Talking(avatar.head), generator
                )
            )
        )
        for chunk in (1, 8)
    ]
    assert torch.allclose(films[0], films[1], atol=1e-6)


@pytest.mark.parametrize(("key", "value"), [("width", 0), ("seconds", -1.0), ("fps", 0)])
def test_bad_values_are_named(key: str, value: float) -> None:
    with pytest.raises(UserError, match=f"gallery.{key}={value}"):
        Gallery(**(SMALL | {key: value}))
