"""Outline and coverage of avatars that are the world's own picture, or the bare mesh, or lack a known part of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from parts import Posed, fresh_avatar, head, metric, plain

from headstudio.evaluate import Judgement
from headstudio.head.model import HeadModel
from headstudio.render.cpu import CpuRenderer
from headstudio.render.mesh import rasterise_mesh
from headstudio.synthetic.reading import parse
from headstudio.synthetic.vocabulary import Attributes
from headstudio.synthetic.world import World
from headstudio.types import Cameras, Pose

AFRO = "a woman with blue skin, a ginger afro and red lips"
FEW = {"rest_azimuths_deg": [0, 90], "motion_azimuths_deg": [0]}


def small(name: str, **views: Any) -> Any:
    """The metric as it is shipped, in fewer and smaller pictures."""
    whole = plain("metrics=ablation")["metrics"][name]["views"]
    framing = {**whole["framing"], "width": 48, "height": 48}
    return metric(name, "metrics=ablation", views={**whole, "framing": framing, **FEW, **views})


@dataclass
class Seen:
    """What the metrics read of a render."""

    alpha: torch.Tensor
    depth: torch.Tensor


@dataclass
class WorldOutline:
    """Draws the world's outline of certain looks: one opacity inside, another around it."""

    avatar: Posed
    looks: Attributes
    inside: float = 0.5
    outside: float = 0.49

    def __call__(self, pose: Pose, cameras: Cameras, background: torch.Tensor) -> Seen:
        world = World(self.avatar.head, supersample=1)
        there = world.render(self.looks, self.avatar.shape, pose, cameras).labels != 0
        alpha = torch.where(there, self.inside, self.outside)[:, None]
        return Seen(alpha, alpha)


@dataclass
class BareMesh:
    """Draws the head's own mesh with some opacity; in the left half of each picture what is seen is `behind` it."""

    avatar: Posed
    alpha: float = 1.0
    behind: float = 0.0

    def __call__(self, pose: Pose, cameras: Cameras, background: torch.Tensor) -> Seen:
        seen = rasterise_mesh(self.avatar.head(self.avatar.shape, pose).vertices, self.avatar.head.faces, cameras)
        depth = torch.where(seen.hit, seen.depth, 0.0)
        depth[..., : cameras.width // 2] += self.behind
        alpha = self.alpha * seen.hit.float()
        return Seen(alpha[:, None], (alpha * depth)[:, None])


@pytest.fixture(scope="module")
def avatar() -> Posed:
    shape = torch.randn(head().num_shape, generator=torch.Generator().manual_seed(2))
    return Posed(head(), shape)


def test_the_worlds_own_outline_is_right_at_every_pose(avatar: Posed) -> None:
    found = small("silhouette")(avatar, WorldOutline(avatar, parse(AFRO).attributes), AFRO)
    assert (found.scores["silhouette_iou"], found.scores["silhouette_iou_motion"]) == (1.0, 1.0)
    assert {pose: len(values) for pose, values in found.details.items()} == {
        "rest": 2, "mouth_open": 1, "blink": 1, "smile": 1, "turned": 1,
    }  # fmt: skip


def test_another_outline_overlaps_by_what_both_share(avatar: Posed) -> None:
    """A bald head lies inside the afro, so the overlap is its share of the afro's pixels."""
    silhouette = small("silhouette", motion_azimuths_deg=[])
    found = silhouette(avatar, WorldOutline(avatar, Attributes(hair_style="bald")), AFRO)
    world, cameras = World(avatar.head, supersample=1), silhouette.views.rest
    looks = [Attributes(hair_style="bald"), parse(AFRO).attributes]
    bald, afro = (
        (picture.labels != 0).sum((1, 2))
        for picture in world.render_each(looks, avatar.shape, avatar.head.neutral_pose(), cameras)
    )
    assert found.scores.keys() == {"silhouette_iou", "outside_share"}
    assert found.scores["silhouette_iou"] == pytest.approx(float((bald / afro).mean()), abs=1e-3)
    assert found.scores["silhouette_iou"] < 0.8


def test_who_is_not_there_or_everywhere_has_no_outline(avatar: Posed) -> None:
    nobody = WorldOutline(avatar, parse(AFRO).attributes, inside=0.49)
    assert small("silhouette")(avatar, nobody, AFRO).scores["silhouette_iou"] == 0.0
    silhouette, looks = small("silhouette"), parse(AFRO).attributes
    fog = silhouette(avatar, WorldOutline(avatar, looks, outside=0.5), AFRO).scores["silhouette_iou"]
    world = World(avatar.head, supersample=1)
    afro = world.render(looks, avatar.shape, avatar.head.neutral_pose(), silhouette.views.rest).labels != 0
    assert fog == pytest.approx(float(afro.float().mean()), abs=1e-4)


def test_opacity_beside_the_outline_counts_however_faint_it_is(avatar: Posed) -> None:
    silhouette, looks = small("silhouette"), parse(AFRO).attributes
    clean = silhouette(avatar, WorldOutline(avatar, looks, outside=0.0), AFRO).scores
    assert (clean["outside_share"], clean["outside_share_motion"]) == (0.0, 0.0)
    haze = silhouette(avatar, WorldOutline(avatar, looks, inside=1.0, outside=0.1), AFRO).scores
    world = World(avatar.head, supersample=1)
    afro = world.render(looks, avatar.shape, avatar.head.neutral_pose(), silhouette.views.rest).labels != 0
    inside, outside = (part.float().sum((1, 2)) for part in (afro, ~afro))
    expected = (0.1 * outside / (inside + 0.1 * outside)).mean()
    assert haze["outside_share"] == pytest.approx(float(expected), abs=1e-4)
    assert haze["silhouette_iou"] == 1.0
    bald = silhouette(avatar, WorldOutline(avatar, Attributes(hair_style="bald"), outside=0.0), AFRO).scores
    assert bald["outside_share"] == 0.0  # what is missing is not outside


def test_what_the_world_does_not_know_has_no_outline(avatar: Posed, tiny_head: HeadModel) -> None:
    silhouette: Any = small("silhouette")
    assert silhouette(avatar, None, "a teapot") == Judgement(
        details={"not_measured": "the prompt names no attribute of the synthetic world"}
    )
    found = silhouette(Posed(tiny_head, torch.zeros(4)), None, AFRO)
    assert found == Judgement(details={"not_measured": "the synthetic world can't paint this head"})


def test_the_bare_mesh_covers_itself_and_thin_air_does_not(avatar: Posed, tiny_head: HeadModel) -> None:
    assert small("coverage")(avatar, BareMesh(avatar), "").scores == {"coverage": 1.0, "coverage_motion": 1.0}
    assert small("coverage")(avatar, BareMesh(avatar, alpha=0.49), "").scores["coverage"] == 0.0
    tiny = Posed(tiny_head, torch.zeros(4))
    assert small("coverage")(tiny, BareMesh(tiny, alpha=0.51), "").scores["coverage"] == 1.0


def test_what_lies_behind_the_surface_does_not_cover(avatar: Posed) -> None:
    """In front, half of a symmetric head lies in each half of the picture."""
    straight = Posed(avatar.head, torch.zeros_like(avatar.shape))
    coverage = small("coverage", rest_azimuths_deg=[0], motion_azimuths_deg=[])
    assert coverage(straight, BareMesh(straight, behind=0.06), "").scores["coverage"] == pytest.approx(0.5, abs=0.02)
    assert coverage(straight, BareMesh(straight, behind=0.04), "").scores["coverage"] == 1.0
    assert coverage(straight, BareMesh(straight, behind=-0.5), "").scores["coverage"] == 1.0  # hair lies before it


def test_through_a_hole_one_sees_the_back_of_the_head() -> None:
    avatar = fresh_avatar()
    coverage = small("coverage", rest_azimuths_deg=[0, 180], motion_azimuths_deg=[])
    assert coverage(avatar, CpuRenderer(), "").scores["coverage"] > 0.99
    with torch.no_grad():
        avatar.opacity_logits[avatar.head.region_faces("scalp")[avatar.triangle]] = -20.0
    neutral = avatar.head.neutral_pose()
    seen = coverage.views.framing.photograph(avatar, CpuRenderer(), neutral, coverage.views.rest).alpha[1, 0]
    front, back = coverage(avatar, CpuRenderer(), "").details["rest"]
    assert float((seen > 0.9).float().sum()) > 300  # the face, from inside
    assert back < 0.6
    assert front > 0.8
