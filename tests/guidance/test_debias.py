"""Debiasing: the bound on the gradient, and which words a masked language model takes out of which view's prompt."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstudio.errors import UserError
from headstudio.findings import State
from headstudio.guidance import sds
from headstudio.guidance.debias import VIEWS, WordRemoval, clipped, without_conflicts
from headstudio.guidance.distill import ScoreDistillation
from headstudio.guidance.prior import Prior
from headstudio.guidance.prompts import ViewPrompts
from headstudio.schedule import Linear
from headstudio.types import Cameras

BATCH = 2


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_prompts(prior: Prior, debias: WordRemoval | None = None, prompt: str = "a red head") -> ViewPrompts:
    return ViewPrompts(
        prior,
        prompt=prompt,
        negative_prompt="blurry",
        view_text={view: f"{{prompt}}, {view} view" for view in VIEWS},
        crop_text={},
        front_within_deg=45.0,
        back_beyond_deg=135.0,
        overhead_above_deg=60.0,
        debias=debias,
    )


def test_clipping_bounds_every_number_and_leaves_small_ones() -> None:
    gradient = torch.randn(2, 3, 4, 5, generator=generator())
    found = clipped(gradient, 0.7)
    assert float(found.abs().max()) == pytest.approx(0.7)
    small = gradient.abs() <= 0.7
    assert bool(small.any())
    assert not bool(small.all())
    assert torch.equal(found[small], gradient[small])
    assert torch.equal(found.sign(), gradient.sign())


def test_the_bound_follows_its_schedule(prior: Prior) -> None:
    bound = Linear(start=0.5, end=2.0, first_step=0, last_step=10)

    def gradient(step: int, clip: Linear | None) -> Tensor:
        guidance = ScoreDistillation(
            prior,
            prompts,
            rule=sds.Sds(),
            weighting=sds.uniform,
            guidance_scale=6.0,
            conditioning_scale=1.0,
            min_timestep=20,
            max_timestep=980,
            use_control=False,
            clip=clip,
        )
        latents = torch.zeros(BATCH, 6, 8, 8, requires_grad=True)
        guidance.prior.encode_images = lambda *_: latents  # type: ignore[method-assign]
        result = guidance(torch.zeros(BATCH, 3, 64, 64), None, cameras, step, generator())
        return torch.autograd.grad(result.loss, latents)[0] * BATCH

    cameras = Cameras(
        camera_from_world=torch.eye(4).expand(BATCH, 4, 4),
        intrinsics=torch.eye(3).expand(BATCH, 3, 3),
        azimuth_deg=torch.tensor([0.0, 180.0]),
        elevation_deg=torch.zeros(BATCH),
        width=64,
        height=64,
    )
    prompts = make_prompts(prior)
    free = gradient(0, None)
    assert float(free.abs().max()) > 2.0
    for step, limit in ((0, 0.5), (5, 1.25), (10, 2.0), (50, 2.0)):
        torch.testing.assert_close(gradient(step, bound), free.clamp(-limit, limit))


SMILE = {"front": 0.7, "side": 0.2, "back": 0.05, "overhead": 0.05}
NOTHING = dict.fromkeys(VIEWS, 0.25)


def smiling(prompt: str) -> Mapping[str, float]:
    """Smiles are seen from the front; no other word tells anything."""
    return SMILE if "smiling" in prompt.split() else NOTHING


def test_a_word_goes_where_it_speaks_against_the_view() -> None:
    found = without_conflicts("a smiling man", smiling, threshold=0.95, candidates=None)
    assert found == {"front": "a smiling man", "side": "a man", "back": "a man", "overhead": "a man"}
    assert without_conflicts("a smiling man", smiling, threshold=0.95, candidates=["man"]) == dict.fromkeys(
        VIEWS, "a smiling man"
    )


@given(full=st.floats(0.01, 1), part=st.floats(0.01, 1), threshold=st.floats(0.05, 1.9))
def test_the_threshold_is_on_the_ratio_to_the_marginal(full: float, part: float, threshold: float) -> None:
    ratio = full / (0.5 * full + 0.5 * part)
    if abs(ratio - threshold) < 1e-9:
        return

    def chances(prompt: str) -> Mapping[str, float]:
        return {"front": full if prompt == "one" else part}

    assert without_conflicts("one", chances, threshold, None) == {"front": "" if ratio < threshold else "one"}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT of random weights, with a tokenizer that knows the words of these tests, in a folder."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *VIEWS, "this", "image", "is", "depicting", "a", "view"]
    words += ["of", "red", "head", "smiling", "with"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        settings = BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            initializer_range=1.0,
        )
        BertForMaskedLM(settings).save_pretrained(folder)
    return folder


def probabilities(folder: Path, prompt: str) -> dict[str, float]:
    """The same numbers by hand: one forward pass, ids looked up one by one."""
    from transformers import BertForMaskedLM

    words = (folder / "vocab.txt").read_text(encoding="utf-8").split()
    sentence = ["[CLS]", *f"this image is depicting a [MASK] view of {prompt}".split(), "[SEP]"]
    ids = torch.tensor([[words.index(word) for word in sentence]])
    with torch.no_grad():
        logits = BertForMaskedLM.from_pretrained(folder).eval()(ids).logits[0, sentence.index("[MASK]")]
    chances = logits.softmax(0)[[words.index(view) for view in VIEWS]]
    return dict(zip(VIEWS, (chances / chances.sum()).tolist(), strict=True))


def test_a_masked_language_model_decides(bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    prompt = "a smiling head with red head"
    caplog.set_level(logging.INFO)
    found = WordRemoval(model=str(bert), threshold=0.95, candidates=None)(prompt)
    words, whole = prompt.split(), probabilities(bert, prompt)
    for view in VIEWS:
        kept = []
        for index, word in enumerate(words):
            part = probabilities(bert, " ".join(words[:index] + words[index + 1 :]))
            if whole[view] / (0.5 * (whole[view] + part[view])) >= 0.95:
                kept.append(word)
        assert found[view] == " ".join(kept)
    assert len(set(found.values())) > 1  # it does decide something
    assert any("speak against it" in message for message in caplog.messages)
    assert WordRemoval(model=str(bert), threshold=0.0, candidates=None)(prompt) == dict.fromkeys(VIEWS, prompt)


def test_the_views_read_what_is_left(components: dict[str, Any], bert: Path) -> None:
    debias = WordRemoval(model=str(bert), threshold=0.95, candidates=None)
    prompt = "a smiling head with red head"
    left = debias(prompt)
    prompts = make_prompts(Prior(**components), debias, prompt)
    assert prompts.texts == tuple(f"{left[view]}, {view} view" for view in VIEWS)


@pytest.mark.parametrize("break_it", ["missing", "no views"])
def test_a_model_that_cannot_judge_is_named(bert: Path, tmp_path: Path, break_it: str) -> None:
    folder = tmp_path / "model"
    if break_it == "no views":
        import shutil

        shutil.copytree(bert, folder)
        for file in ("vocab.txt", "tokenizer.json"):
            if (folder / file).exists():
                text = (folder / file).read_text(encoding="utf-8").replace("overhead", "elsewhere")
                (folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"prompts\.debias\.model.*" + ("overhead" if break_it == "no views" else "")):
        WordRemoval(model=str(folder), threshold=0.95, candidates=None)("a red head")


def test_the_doctor_tells_a_folder_from_a_model_to_fetch(bert: Path) -> None:
    (here,) = WordRemoval.look(model=str(bert), threshold=0.95, candidates=None)
    (elsewhere,) = WordRemoval.look(model="nobody/has-this-model", threshold=0.95, candidates=None)
    assert here.state is State.READY
    assert elsewhere.state is State.FETCHED
    assert "prompts.debias.model" in elsewhere.remedy
