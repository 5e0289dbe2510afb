"""Training the tiny prior in miniature: it resumes exactly, and what it exports is a prior."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.multiprocessing.spawn import spawn

from headstudio.errors import UserError
from headstudio.guidance.load import load_prior
from headstudio.synthetic import dataset, judge, train
from headstudio.synthetic.batches import Batches, spoilt
from headstudio.synthetic.captions import colors
from headstudio.synthetic.dataset import write_block
from headstudio.synthetic.learner import Worker, landmark_weight
from headstudio.synthetic.settings import load_settings
from headstudio.synthetic.text import build_tokenizer, tokens

TINY = [
    "codec.pictures=8",
    "text.steps=2",
    "text.batch_size=4",
    "text.width=64",  # the ControlNet pools texts with heads of 64
    "text.layers=1",
    "text.heads=2",
    "unet.block_out_channels=[16,32]",
    "diffusion.workers=1",
    "diffusion.compile=false",
    "diffusion.batch_size=2",
    "diffusion.warmup_steps=1",
    "diffusion.decay_steps=1",
    "diffusion.checkpoint_every_steps=1",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, sampler: Any) -> Path:
    """A world of one block of eight pictures."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "BLOCK", 8)
        write_block(sampler, folder, 0)
    return folder


@pytest.mark.slow
def test_training_resumes_exactly_and_exports_a_prior(world: Path, tmp_path: Path, sampler: Any) -> None:
    resumed, whole = tmp_path / "resumed", tmp_path / "whole"
    train.main([str(world), str(resumed), *TINY, "diffusion.steps=1"])
    shutil.copytree(resumed, whole, ignore=shutil.ignore_patterns("checkpoint.pt", "export"))
    train.main([str(world), str(resumed), *TINY, "diffusion.steps=2"])
    train.main([str(world), str(whole), *TINY, "diffusion.steps=2"])
    ours, theirs = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (resumed, whole))
    assert ours["step"] == theirs["step"] == 2
    for part in ("models", "average"):
        assert all(torch.equal(value, theirs[part][name]) for name, value in ours[part].items())

    export = whole / "export"
    assert json.loads((export / "training.json").read_text())["steps"] == 2
    nothing_else = {"vae_path": None, "controlnet_path": None, "controlnet_subfolder": None}
    prior = load_prior(path=str(export), **nothing_else, dtype="float32", vae_dtype="float32")
    assert prior.picture_size == 128
    assert prior.controlnet is not None
    assert {"green", "hulk", "mohawk"} <= (prior.vocabulary or set())
    assert prior.colors == colors()
    stored = {name.removeprefix("unet."): value for name, value in theirs["average"].items() if "unet." in name}
    assert all(torch.equal(value, stored[name].half().float()) for name, value in prior.unet.state_dict().items())

    arguments = [str(export), "count=2", "steps=1", "batch_size=2", "--out", str(tmp_path / "judged")]
    judge.main(arguments)
    record = json.loads((tmp_path / "judged" / "judge.json").read_text())
    assert record["prior_steps"] == 2
    assert 0.0 <= record["samples"]["attributes_right"]["share"] <= 1.0
    assert record["world_through_codec"]["overlap"]["pictures"] <= 2
    assert (tmp_path / "judged" / "judge.png").is_file()


def test_a_step_has_the_same_batch_every_time(world: Path) -> None:
    settings = load_settings("train", []).diffusion
    tokenizer = build_tokenizer(40)
    one, two = (Batches(world, tokenizer, settings, Worker(), seed=0) for _ in range(2))
    assert len(one) == 8
    first, second, other = one(7), two(7), one(8)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["pictures"], other["pictures"])
    assert first["pictures"].shape == (settings.batch_size, 3, 128, 128)
    assert -1.0 <= float(first["pictures"].min()) < 0.0 < float(first["pictures"].max()) <= 1.0
    assert 0.0 <= float(first["controls"].min()) <= float(first["controls"].max()) <= 1.0


def test_workers_share_a_batch_and_need_a_block_each(world: Path) -> None:
    settings = load_settings("train", ["diffusion.batch_size=6"]).diffusion
    shares = [Worker(rank, 3).share(settings.batch_size) for rank in range(3)]
    assert [row for share in shares for row in share] == list(range(6))
    tokenizer = build_tokenizer(40)
    assert Batches(world, tokenizer, settings, Worker(0, 2), seed=0)(0)["pictures"].shape[0] == 3
    with pytest.raises(UserError, match="too few blocks"):
        Batches(world, tokenizer, settings, Worker(1, 2), seed=0)
    with pytest.raises(UserError, match=r"diffusion\.workers=4 must divide diffusion\.batch_size=6"):
        train.main([str(world), str(world / "prior"), "diffusion.batch_size=6", "diffusion.workers=4"])


def _mean_gradient(rank: int, meeting: str, out: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
    parameters = [
        torch.nn.Parameter(torch.zeros(2, 3)),
        torch.nn.Parameter(torch.zeros(())),
        torch.nn.Parameter(torch.zeros(4)),
    ]
    parameters[0].grad = torch.arange(6.0).reshape(2, 3) * (rank + 1)
    parameters[2].grad = torch.full((4,), float(rank))
    Worker(rank, 2).average_gradients(parameters)
    torch.save([parameter.grad for parameter in parameters], f"{out}{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_workers_average_their_gradients(tmp_path: Path) -> None:
    spawn(_mean_gradient, (str(tmp_path / "meeting"), str(tmp_path / "rank")), nprocs=2)
    for rank in range(2):
        first, second, third = torch.load(tmp_path / f"rank{rank}")
        assert torch.equal(first, torch.arange(6.0).reshape(2, 3) * 1.5)
        assert second is None
        assert torch.equal(third, torch.full((4,), 0.5))


def test_latents_under_a_landmark_weigh_more_and_the_mean_is_one() -> None:
    controls = torch.zeros(2, 3, 32, 32)
    controls[0, 1, 9, 17] = 0.8  # one pixel of a line, in the latent of row 2 and column 4
    weights = landmark_weight(controls, 8, 3.0)
    assert weights.shape == (2, 1, 8, 8)
    assert float(weights.mean()) == pytest.approx(1.0)
    heavy = weights == weights.max()
    assert heavy.nonzero().tolist() == [[0, 0, 2, 4]]
    assert float(weights.max() / weights.min()) == pytest.approx(3.0)
    assert torch.equal(landmark_weight(controls, 8, 1.0), torch.ones(2, 1, 8, 8))


def test_the_tokenizer_has_one_token_a_word() -> None:
    tokenizer = build_tokenizer(12)
    rows = tokens(tokenizer, ["A head, with GREEN skin!", "an xylophone"])
    words = tokenizer.convert_ids_to_tokens(rows[0].tolist())
    assert words == ["<start>", "a", "head", "with", "green", "skin", "<end>", *["<pad>"] * 5]
    assert tokenizer.convert_ids_to_tokens(rows[1].tolist())[:4] == ["<start>", "an", "<unk>", "<end>"]


@pytest.mark.parametrize("seed", range(8))
def test_spoilt_pictures_stay_pictures(seed: int) -> None:
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    worse = spoilt(picture, np.random.default_rng(seed))
    assert worse.shape == picture.shape
    assert float(worse.abs().max()) <= 1.0
    assert float((worse - picture).abs().mean()) > 0.05


def test_new_words_change_nothing_of_the_old_ones() -> None:
    from headstudio.synthetic.text import build_encoder, learn_new_words

    new = {"without", "mouth", "close", "up"}
    full = build_tokenizer(40).get_vocab()
    words = [word for word in sorted(full, key=full.__getitem__) if word not in new]
    old = {word: index for index, word in enumerate(words)}
    tokenizer = build_tokenizer(40, old)
    few = build_tokenizer(40)
    few._tokenizer.model = type(few._tokenizer.model)(vocab=old, unk_token="<unk>")
    torch.manual_seed(0)
    encoder = build_encoder(few, width=64, layers=1, heads=2)
    sentence = ["a head with green skin and red lips, front view"]
    before = encoder(tokens(few, sentence)).last_hidden_state.detach()
    more, record = learn_new_words(
        encoder, few, steps=2, batch_size=4, learning_rate=1e-2, seed=0, report=lambda text: None
    )
    assert {word: more.get_vocab()[word] for word in old} == old
    assert more.get_vocab() == tokenizer.get_vocab()
    assert new <= set(more.get_vocab())
    assert torch.equal(encoder(tokens(more, sentence)).last_hidden_state, before)
    rows = [more.get_vocab()[word] for word in sorted(new)]
    assert len(encoder.get_input_embeddings().weight[rows].unique(dim=0)) == len(new)
    assert 0.0 <= record["new_words_accuracy"] <= 1.0
    again, nothing = learn_new_words(
        encoder, more, steps=2, batch_size=4, learning_rate=1e-2, seed=0, report=lambda text: None
    )
    assert again.get_vocab() == more.get_vocab()
    assert nothing == {}
