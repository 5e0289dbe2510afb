"""The CLIP score's protocol on the shipped model, judged on pictures of the world whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from parts import metric as shipped

from headstudio.evaluate.clip import ClipScore
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
    return shipped("clip")  # type: ignore[no-any-return]


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
    return metric(avatar, WorldRenderer(avatar), sentence).scores  # type: ignore[arg-type]


def test_views_are_those_of_the_protocol(metric: ClipScore) -> None:
    assert len(metric.rings) == 3
    azimuths = torch.cat([cameras.azimuth_deg for cameras in metric.rings])
    assert len(azimuths) == 24
    assert sorted({round(float(a)) for a in azimuths[metric.front]}) == [-45, 0, 45]
    words = dict(zip((round(float(a)) for a in azimuths), metric.words.tolist(), strict=True))
    assert words == {0: 0, 45: 0, 90: 1, 135: 2, 180: 2, -135: 2, -90: 1, -45: 0}  # front, side, back as in training


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


def test_scores_are_what_their_details_say(metric: ClipScore) -> None:
    """Against the model's own embeddings, one picture and one sentence at a time."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.nn.functional.interpolate(torch.rand(24, 3, 8, 8, generator=generator), size=(128, 128))
    found = metric.judge(pictures, SENTENCE)
    (model,) = metric.models
    text = model.encode_sentences([SENTENCE])[0]
    told = [model.encode_sentences([f"{SENTENCE}, {view} view"])[0] for view in ("front", "side", "back")]
    cosines, suffixes = [], []
    for picture, word in zip(pictures, metric.words.tolist(), strict=True):
        image = model.encode_pictures(picture[None])[0]
        cosines.append(float(image @ text))
        suffixes.append(float(image @ told[word]))
    details, scores = found.details["clip"], found.scores
    assert details["cosine"] == pytest.approx(cosines, abs=2e-6)
    assert scores["clip_score"] == pytest.approx(np.mean(cosines), abs=2e-6)
    assert scores["clip_score_front"] == pytest.approx(np.mean(np.array(cosines)[metric.front]), abs=2e-6)
    assert scores["clip_score_suffix"] == pytest.approx(np.mean(suffixes), abs=2e-6)
    assert scores["clip_r_precision"] == pytest.approx(np.mean(np.array(details["rank"]) == 1), abs=1e-6)
    low, high = details["interval_over_views"]
    assert low < scores["clip_score"] < high
    assert found.details["among"] == 64


def test_the_order_of_views_matters_only_to_the_front(metric: ClipScore) -> None:
    coarse = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pictures = torch.nn.functional.interpolate(coarse, size=(128, 128), mode="bilinear")
    plain, mixed = metric.judge(pictures, SENTENCE).scores, metric.judge(pictures.flip(0), SENTENCE).scores
    for name in ("clip_score", "clip_r_precision", "clip_rank"):
        assert plain[name] == pytest.approx(mixed[name], abs=1e-5)
    assert plain["clip_score_front"] != pytest.approx(mixed["clip_score_front"], abs=1e-5)


def test_several_models_judge_the_same_pictures() -> None:
    one = shipped("clip")
    model = one.models[0]
    again = type(model)(name="other", architecture=model.architecture, weights=None)
    one.models = (model, again)
    scores = one.judge(torch.rand(24, 3, 64, 64, generator=torch.Generator().manual_seed(0)), SENTENCE).scores
    assert {name for name in scores if name.startswith("other_")} == {
        name.replace("clip_", "other_", 1) for name in scores if name.startswith("clip_")
    }
    assert scores["other_score"] == scores["clip_score"]


@pytest.mark.slow
def test_random_heads_find_their_sentence(metric: ClipScore, world: Any) -> None:
    """Over fresh heads, the right one of 64 sentences comes first at least four times in five."""
    first = []
    for index in range(24):
        rng = np.random.default_rng([SEED, index])
        looks = random_attributes(rng)
        first.append(score(metric, world, looks, caption(looks, rng))["clip_first"])
    assert np.mean(first) >= 0.8
