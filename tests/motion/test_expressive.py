"""Oracles: chances of a drawn pose in closed form, the jaw's opening by hand, the other motion's own films."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from headstudio.cli import conf_dir
from headstudio.errors import UserError
from headstudio.motion.arkit import ARKIT_NAMES, INDEX, JAW_OPEN_DEG, pose_of, weights_of
from headstudio.motion.expressive import ExpressiveMotion, jaw_opening
from headstudio.motion.files import write_npz
from headstudio.motion.recording import Recording
from headstudio.types import Pose

JOINTS = ("root", "neck", "jaw", "eye_left", "eye_right")
ARKIT: Any = SimpleNamespace(expression_names=tuple(reversed(ARKIT_NAMES)), joint_names=JOINTS, arkit_mapping=None)
FLAME: Any = SimpleNamespace(expression_names=("flame_000", "flame_001"), joint_names=JOINTS, arkit_mapping=None)
BARE: Any = SimpleNamespace(expression_names=(), joint_names=("root",), arkit_mapping=None)
SETTINGS: dict[str, Any] = {"candidates": 3, "floor": 0.5, "jaw_weight": 10.0}


class Three:
    """Rest, a strong expression and an open jaw of a FLAME head, each as likely as the others."""

    expression = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    jaw_deg = torch.tensor([0.0, 0.0, JAW_OPEN_DEG / 2])

    def __init__(self, head: Any) -> None:
        self.head = head

    def sample(self, count: int, generator: torch.Generator) -> Pose:
        which = torch.randint(3, (count,), generator=generator)
        joints = torch.zeros(count, len(JOINTS), 3)
        joints[:, 2, 0] = torch.deg2rad(self.jaw_deg)[which]
        return Pose(expression=self.expression[which], joints=joints)

    def sequence(self, seconds: float, fps: float, generator: torch.Generator) -> Pose:
        return self.sample(round(seconds * fps), generator)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def composed(*overrides: str) -> Any:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=["motion=expressive", *overrides]).motion


def test_the_weight_is_floor_and_size_and_jaw() -> None:
    motion = ExpressiveMotion(FLAME, of=Three, **SETTINGS)
    poses = Three(FLAME).sample(60, seeded())
    which = poses.expression.any(1).long() + 2 * poses.joints[:, 2, 0].bool().long()
    assert torch.allclose(motion.weights(poses), torch.tensor([0.5, 5.5, 5.5])[which])


@pytest.mark.parametrize("changes", [{}, {"candidates": 1}, {"jaw_weight": 0.0}, {"candidates": 2, "floor": 4.0}])
def test_poses_are_taken_by_their_weights(changes: dict[str, Any]) -> None:
    """Against the chances summed over every set of candidates that can be drawn."""
    settings = SETTINGS | changes
    weights = [settings["floor"] + more for more in (0.0, 5.0, settings["jaw_weight"] / 2)]
    chances = torch.zeros(3)
    for drawn in itertools.product(range(3), repeat=settings["candidates"]):
        for which in drawn:
            chances[which] += weights[which] / sum(weights[other] for other in drawn) / 3 ** len(drawn)
    pose = ExpressiveMotion(FLAME, of=Three, **settings).sample(20000, seeded())
    taken = torch.bincount(pose.expression.any(1).long() + 2 * pose.joints[:, 2, 0].bool().long(), minlength=3)
    assert taken.tolist() == pytest.approx((chances * 20000).tolist(), abs=4 * math.sqrt(20000 / 4))


def test_how_far_a_jaw_is_open() -> None:
    """By the shape, by the joint on a head without it, by both where both are there; an absent jaw is not open."""
    said = torch.stack([weights_of(face) for face in ({}, {"jawOpen": 0.4}, {"jawOpen": 1.0})])
    for head in (ARKIT, FLAME):
        assert jaw_opening(head, pose_of(head, said)).tolist() == pytest.approx([0.0, 0.4, 1.0], abs=1e-6)
    assert jaw_opening(BARE, pose_of(BARE, said)).tolist() == [0.0, 0.0, 0.0]
    turned = pose_of(ARKIT, said)
    turned.joints[:, 2, 0] = math.radians(JAW_OPEN_DEG) * torch.tensor([-0.5, 0.5, 0.5])
    assert jaw_opening(ARKIT, turned).tolist() == pytest.approx([0.0, 0.9, 1.0], abs=1e-6)


@pytest.mark.parametrize("head", [ARKIT, FLAME])
def test_the_shipped_setting_opens_jaws_and_leaves_films_alone(head: Any) -> None:
    motion = instantiate(composed(), _convert_="all")(head)
    plain = instantiate(composed("motion=procedural"), _convert_="all")(head)
    before = torch.get_rng_state()
    more, usual = motion.sample(2000, seeded()), plain.sample(2000, seeded())
    assert more.expression.shape == (2000, len(head.expression_names))
    assert more.joints.shape == (2000, 5, 3)
    share, usually = ((jaw_opening(head, poses) > 0.2).float().mean() for poses in (more, usual))
    assert share > 1.4 * usually
    assert (
        torch.linalg.vector_norm(more.expression, dim=1).mean()
        > torch.linalg.vector_norm(usual.expression, dim=1).mean()
    )
    assert torch.equal(motion.sample(7, seeded()).expression, motion.sample(7, seeded()).expression)
    assert not torch.equal(motion.sample(7, seeded()).joints, motion.sample(7, seeded(4)).joints)
    assert torch.equal(motion.sequence(1.0, 9.0, seeded()).expression, plain.sequence(1.0, 9.0, seeded()).expression)
    assert torch.equal(torch.get_rng_state(), before)


def test_recorded_frames_can_be_weighed(tmp_path: Path) -> None:
    """Two frames: one at rest, one with a mouth wide open."""
    values = np.zeros((2, 52))
    values[1, INDEX["jawOpen"]] = 1.0
    write_npz(tmp_path / "talk.npz", Recording(source="talk", fps=30.0, arkit=values))
    setting = composed("motion@motion.of=recorded", f"motion.of.paths=[{tmp_path}]", "motion.candidates=2")
    pose = instantiate(setting, _convert_="all")(ARKIT).sample(8000, seeded())
    share = float(pose.expression.any(1).float().mean())
    assert share == pytest.approx(1 / 4 + 1 / 2 * 12 / 13, abs=0.02)  # two of it, or one that weighs 1 + 1 + 10


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"candidates": 0}, "candidates=0"),
        ({"candidates": 2.5}, "candidates=2.5"),
        ({"floor": 0.0}, "floor=0"),
        ({"jaw_weight": -1.0}, "jaw_weight=-1"),
    ],
)
def test_impossible_settings_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        ExpressiveMotion(FLAME, of=Three, **(SETTINGS | changes))
