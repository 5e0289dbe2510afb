"""The CLIP score's protocol on the shipped model, judged on pictures of the world whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from headstudio import cli
from headstudio.errors import UserError
from headstudio.evaluate.clip import ClipScore, distractors, rank_of_first
from headstudio.synthetic.captions import caption
from headstudio.synthetic.reading import parse
from headstudio.synthetic.samples import random_attributes
from headstudio.synthetic.vocabulary import Attributes
from headstudio.types import Cameras, Gaussians, Pose, Render

SEED = 7001  # of pictures that no training has seen
SENTENCE = "a head with green skin, purple hair and red lips"


@pytest.fixture(scope="module", autouse=True)
def _no_network() -> Any:
    """Loading the shipped model must not ask the network."""

    def refuse(*_: Any) -> None:
        raise AssertionError("the network was asked")

    patch = pytest.MonkeyPatch()
    patch.setattr("socket.socket.connect", refuse)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def metric() -> ClipScore:
    from hydra.utils import instantiate

    config = OmegaConf.load(Path(cli.conf_dir()) / "metrics" / "default.yaml")
    return instantiate(config.clip, _convert_="all")  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def world() -> Any:
    from headstudio.head.anny import load_anny
    from headstudio.synthetic.settings import load_settings
    from headstudio.synthetic.world import World

    settings = load_settings("world", [])
    return World(load_anny(num_shape=settings.num_shape), background=tuple(settings.background))


@dataclass
class WorldAvatar:
    """A head of the world in an avatar's place: its pose is kept for `WorldRenderer` to paint."""

    world: Any
    looks: Attributes

    @property
    def head(self) -> Any:
        return self.world.head

    @property
    def means(self) -> torch.Tensor:
        return torch.zeros(1, 3)

    def pose(self, pose: Pose) -> tuple[None, None, Gaussians]:
        nothing = torch.zeros(0)
        return None, None, Gaussians(pose.expression, pose.joints, nothing, nothing, nothing)


@dataclass
class WorldRenderer:
    """Paints what `WorldAvatar` stands for, slightly blurred as avatars are."""

    avatar: WorldAvatar

    def __call__(self, gaussians: Gaussians, cameras: Cameras, background: torch.Tensor) -> Render:
        pose = Pose(gaussians.means, gaussians.quats)
        shape = torch.zeros(self.avatar.head.num_shape)
        rgb = self.avatar.world.render(self.avatar.looks, shape, pose, cameras).rgb
        soft = torch.nn.functional.avg_pool2d(rgb, 3, stride=1, padding=1, count_include_pad=False)
        nothing = torch.zeros(0)
        return Render(soft, nothing, nothing, nothing, nothing)


def score(metric: ClipScore, world: Any, looks: Attributes, sentence: str) -> dict[str, float]:
    avatar = WorldAvatar(world, looks)
    return metric(avatar, WorldRenderer(avatar), sentence, torch.Generator())  # type: ignore[arg-type]


def test_distractors_are_fixed_and_mean_other_looks() -> None:
    first = distractors(SENTENCE, count=63, seed=0)
    assert first == distractors(SENTENCE, count=63, seed=0)
    assert first != distractors(SENTENCE, count=63, seed=1)
    looks = {parse(text).attributes for text in [SENTENCE, *first]}
    assert len(looks) == 64


def test_a_distractor_with_the_same_looks_is_left_out() -> None:
    taken = distractors(SENTENCE, count=5, seed=0)[2]
    again = distractors(taken, count=5, seed=0)
    assert parse(taken).attributes not in {parse(text).attributes for text in again}


def test_rank_counts_ties_against_the_sentence() -> None:
    image = torch.tensor([1.0, 0.0])
    right, worse, better = torch.tensor([0.8, 0.6]), torch.tensor([0.6, 0.8]), torch.tensor([2.0, 0.0])
    assert rank_of_first(image, torch.stack([right, worse, worse])) == 1
    assert rank_of_first(image, torch.stack([right, worse, better])) == 2
    assert rank_of_first(image, torch.stack([right, right, worse])) == 2


def test_views_are_those_of_the_protocol(metric: ClipScore) -> None:
    assert len(metric.rings) == 3
    azimuths = torch.cat([cameras.azimuth_deg for cameras in metric.rings])
    assert len(azimuths) == 24
    assert sorted({round(float(a)) for a in azimuths[metric.front]}) == [-45, 0, 45]


def test_right_head_comes_first_and_cosines_are_cosines(metric: ClipScore, world: Any) -> None:
    looks = parse(SENTENCE).attributes
    result = score(metric, world, looks, SENTENCE)
    assert result["clip_rank"] == 1.0
    assert result["clip_first"] == 1.0
    for name in ("clip_score", "clip_score_front"):
        assert -1.0 <= result[name] <= 1.0
    other = score(metric, world, Attributes(hair_style="afro", hair_color="blue", skin="yellow"), SENTENCE)
    assert other["clip_score"] < result["clip_score"]
    assert other["clip_rank"] > 1.0
    assert other["clip_first"] == 0.0


def test_order_of_views_and_size_of_pictures_do_not_matter(metric: ClipScore) -> None:
    coarse = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pictures = torch.nn.functional.interpolate(coarse, size=(128, 128), mode="bilinear")
    front = torch.tensor([True, False, False, True, False, False])
    order = torch.tensor([3, 5, 0, 4, 1, 2])
    plain, mixed = metric.judge(pictures, front, SENTENCE), metric.judge(pictures[order], front[order], SENTENCE)
    assert plain == pytest.approx(mixed, abs=1e-5)
    larger = torch.nn.functional.interpolate(coarse, size=(256, 256), mode="bilinear")
    same = metric.encode_pictures(larger)
    assert torch.nn.functional.cosine_similarity(same, metric.encode_pictures(pictures)).min() > 0.98


def test_embeddings_have_unit_length(metric: ClipScore) -> None:
    texts = metric.encode_sentences([SENTENCE, "Hulk"])
    assert torch.allclose(texts.norm(dim=-1), torch.ones(2), atol=1e-5)


def test_missing_folder_is_told() -> None:
    with pytest.raises(UserError, match=r"metrics\.clip\.model=local-dir:/nowhere"):
        ClipScore(
            model="local-dir:/nowhere",
            pretrained=None,
            width=8,
            height=8,
            views=1,
            elevations_deg=[0],
            front_azimuth_deg=45,
            distance=1.75,
            fovy_deg=54,
            target=[0, 0, 0],
            background=[0.5, 0.5, 0.5],
            distractors=3,
            seed=0,
        )


@pytest.mark.slow
def test_random_heads_find_their_sentence(metric: ClipScore, world: Any) -> None:
    """Over fresh heads, the right one of 64 sentences comes first at least four times in five."""
    first = []
    for index in range(24):
        rng = np.random.default_rng([SEED, index])
        looks = random_attributes(rng)
        first.append(score(metric, world, looks, caption(looks, rng))["clip_first"])
    assert np.mean(first) >= 0.8
