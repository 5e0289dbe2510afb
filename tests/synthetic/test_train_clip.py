"""The tiny CLIP's training: sentences, hard negatives, pictures as avatars look, and a short run that resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstudio.errors import UserError
from headstudio.synthetic.clip_batches import ClipBatches, ClipPictures, altered, augmented, read_pictures
from headstudio.synthetic.dataset import block_path, decode_attributes, encode_attributes
from headstudio.synthetic.reading import parse
from headstudio.synthetic.samples import random_attributes
from headstudio.synthetic.settings import load_settings
from headstudio.synthetic.train_clip import contrastive_loss, main
from headstudio.synthetic.vocabulary import OPTIONS, SKINS, Attributes, fields

SMALL = ["blocks=1", "validation=64", "training.batch_size=8", "training.checkpoint_every_steps=2"]


@pytest.fixture
def plain_heads() -> ClipPictures:
    """Discs of skin colour on grey instead of heads."""
    rng = np.random.default_rng(0)
    looks = [random_attributes(rng) for _ in range(96)]
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    disc = (x**2 + y**2 < 0.4)[..., None]
    pictures = np.stack([np.where(disc, np.array(SKINS[look.skin]) * 255, 128).astype(np.uint8) for look in looks])
    codes = np.array([encode_attributes(look) for look in looks], np.uint8)
    return ClipPictures(pictures, codes, np.full(len(looks), -1, np.int8), np.zeros((len(looks), 2), np.float32))


def test_altered_looks_differ_in_one_visible_thing() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        looks = random_attributes(rng)
        other = altered(looks, rng)
        different = {f.name for f in fields(Attributes) if getattr(looks, f.name) != getattr(other, f.name)}
        assert different
        # A style that appears or goes takes its colour along, a mouth that of its lips; a beard follows the hair
        # that it grows with.
        families = {name.split("_")[0] for name in different}
        assert len(families) == 1 or families in ({"hair", "beard"}, {"mouth", "lips"})


def test_batches_depend_on_the_step_and_say_what_their_sentences_mean(plain_heads: ClipPictures) -> None:
    settings = load_settings("train_clip", ["training.batch_size=16"])
    batches = ClipBatches(plain_heads, settings.training, settings.augment, seed=3)
    batch, again, other = batches(5), batches(5), batches(6)
    assert torch.equal(batch.pictures, again.pictures)
    assert batch.sentences == again.sentences
    assert batch.sentences != other.sentences
    assert len(batch.sentences) == len(batch.codes) == 16 * (1 + settings.training.hard_negatives)
    for sentence, codes in zip(batch.sentences, batch.codes, strict=True):
        assert parse(sentence).attributes == decode_attributes(codes.numpy())


def test_augmented_pictures_stay_pictures_on_grey() -> None:
    settings = load_settings("train_clip", []).augment
    grey = augmented(torch.full((8, 3, 64, 64), 0.5), settings, np.random.default_rng(0))
    assert 0.0 <= float(grey.min()) <= float(grey.max()) <= 1.0
    assert (grey.mean((1, 2, 3)) - 0.5).abs().max() <= settings.brightness + 0.01


def test_contrastive_loss_by_hand() -> None:
    """Two pictures, two sentences and a wrong one; then a wrong one with the right looks, which must not count."""
    images = torch.eye(2)
    texts = torch.cat((torch.eye(2), torch.eye(2)[:1]))
    codes = torch.tensor([[0], [1], [2]])
    scale = torch.tensor(2.0)
    e = float(torch.exp(scale))
    by_images = (-np.log(e / (e + 1 + e)) - np.log(e / (e + 1 + 1))) / 2
    by_texts = -np.log(e / (e + 1))
    assert float(contrastive_loss(images, texts, codes, scale)) == pytest.approx((by_images + by_texts) / 2, rel=1e-5)
    codes[2] = 0
    by_images = (-np.log(e / (e + 1)) - np.log(e / (e + 1 + 1))) / 2
    assert float(contrastive_loss(images, texts, codes, scale)) == pytest.approx((by_images + by_texts) / 2, rel=1e-5)


def test_missing_pictures_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"block_0000\.npz is missing; draw it with: python -m"):
        read_pictures(tmp_path, 1)


@pytest.mark.slow
def test_short_training_resumes_and_exports(plain_heads: ClipPictures, tmp_path: Path) -> None:
    """Stopped after two steps and started again, it ends where an uninterrupted one ends, as a folder for open_clip."""
    import open_clip
    from safetensors.torch import load_file

    np.savez(
        block_path(tmp_path, 0),
        pictures=plain_heads.pictures,
        attributes=plain_heads.attributes,
        characters=plain_heads.characters,
        angles_deg=plain_heads.angles_deg,
    )
    main([str(tmp_path), str(tmp_path / "whole"), *SMALL, "training.steps=4"])
    whole = load_file(tmp_path / "whole" / "export" / "open_clip_model.safetensors")
    _stop_after(2, lambda: main([str(tmp_path), str(tmp_path / "parts"), *SMALL, "training.steps=4"]))
    main([str(tmp_path), str(tmp_path / "parts"), *SMALL, "training.steps=4"])
    parts = load_file(tmp_path / "parts" / "export" / "open_clip_model.safetensors")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)

    model = open_clip.create_model(f"local-dir:{tmp_path / 'whole' / 'export'}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'whole' / 'export'}")
    assert tokenizer(["a head with green skin"]).shape == (1, 32)
    assert torch.equal(model.logit_scale.detach().half(), whole["logit_scale"])
    record = json.loads((tmp_path / "whole" / "export" / "training.json").read_text(encoding="utf-8"))
    assert record["steps"] == 4
    assert 0.0 <= record["retrieval_first_of_64"] <= 1.0
    assert set(record["told_apart_from_the_front"]) == set(OPTIONS)


def _stop_after(steps: int, run: Any) -> None:
    """Run until the checkpoint of step `steps` has been exported, then stop as Ctrl-C does."""
    from headstudio.synthetic import train_clip

    export = train_clip.export

    def stop(training: Any, folder: Path, record: dict[str, Any]) -> None:
        export(training, folder, record)
        if training.step == steps:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_clip, "export", stop)
        with pytest.raises(KeyboardInterrupt):
            run()
