"""Where CLIP's weights come from, and that pictures reach the model as its own preprocessing would send them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from headstudio.errors import UserError
from headstudio.evaluate import prepare
from headstudio.evaluate.clip_model import ClipModel, cached, packaged_clip
from headstudio.synthetic.captions import caption
from headstudio.synthetic.dataset import Drawn, WorldSampler
from headstudio.synthetic.settings import load_settings

PUBLISHED = {"hf_hub": "timm/vit_large_patch14_clip_224.openai/", "mean": (0.5, 0.5, 0.5)}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no network here")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


@pytest.fixture(scope="module")
def tiny() -> ClipModel:
    return ClipModel(name="clip", architecture=packaged_clip(name="tiny_clip"), weights=None)


def test_embeddings_are_those_of_open_clips_own_way(tiny: ClipModel) -> None:
    import open_clip

    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    picture = coarse.resize((300, 300), Image.Resampling.BICUBIC)
    model, _, preprocess = open_clip.create_model_and_transforms(tiny.architecture)
    with torch.no_grad():
        theirs = model.eval().encode_image(preprocess(picture)[None], normalize=True)
        words = model.encode_text(open_clip.get_tokenizer(tiny.architecture)(["a bald head"]), normalize=True)
    ours = tiny.encode_pictures(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255.0)
    assert float((ours * theirs).sum()) > 0.999
    assert torch.allclose(tiny.encode_sentences(["a bald head"]), words, atol=1e-6)
    assert torch.allclose(ours.norm(dim=-1), torch.ones(1), atol=1e-5)


def test_the_size_of_a_picture_hardly_matters(tiny: ClipModel) -> None:
    coarse = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    small, large = (torch.nn.functional.interpolate(coarse, size=(s, s), mode="bilinear") for s in (128, 256))
    same = torch.nn.functional.cosine_similarity(tiny.encode_pictures(small), tiny.encode_pictures(large))
    assert same.min() > 0.98


@pytest.fixture(scope="module")
def drawn() -> list[Drawn]:
    """Heads of the world that no model has seen."""
    sampler = WorldSampler(load_settings("world", ["seed=77", "held_out=include", "camera.crop_fraction=0"]))
    return [sampler(index) for index in range(48)]


@pytest.mark.parametrize("name", ["tiny_clip", "tiny_clip_deep"])
def test_the_shipped_models_tell_the_worlds_heads_apart(name: str, drawn: list[Drawn]) -> None:
    """Of the sentences of all pictures, a picture's own comes first."""
    rng = np.random.default_rng(0)
    pictures = torch.from_numpy(np.stack([one.picture for one in drawn])).permute(0, 3, 1, 2) / 255.0
    model = ClipModel(name=name, architecture=packaged_clip(name=name), weights=None)
    sentences = model.encode_sentences([caption(one.attributes, rng) for one in drawn])
    first = (model.encode_pictures(pictures) @ sentences.T).argmax(1) == torch.arange(len(drawn))
    assert float(first.float().mean()) > 0.85


@pytest.mark.parametrize(
    ("architecture", "weights", "told"),
    [
        ("local-dir:/nowhere", None, "names no folder with open_clip_config.json"),
        ("ViT-L-14-quickgelu", None, "needs weights"),
        ("ViT-L-14-quickgelu", "/nowhere/weights.safetensors", "there is no file weights=/nowhere/weights.safetensors"),
    ],
)
def test_what_is_not_there_is_told_at_once(architecture: str, weights: str | None, told: str) -> None:
    with pytest.raises(UserError, match=told):
        ClipModel(name="x", architecture=architecture, weights=weights)


def test_unknown_names_are_told_with_the_known_ones(no_network: None) -> None:
    with pytest.raises(UserError, match="knows no architecture 'ViT-L-41'"):
        ClipModel(name="x", architecture="ViT-L-41", weights="openai").prepare()
    with pytest.raises(UserError, match="its tags are openai"):
        ClipModel(name="x", architecture="ViT-L-14-quickgelu", weights="openia").prepare()


def test_weights_that_cannot_be_had_are_one_sentence(no_network: None, tmp_path: Path) -> None:
    model = ClipModel(name="x", architecture="ViT-B-32-quickgelu", weights="openai", cache_dir=str(tmp_path))
    with pytest.raises(UserError, match=r"not on this machine and cannot be fetched .*create_model.*metrics=tiny_clip"):
        prepare({"clip": model})


def test_weights_in_the_cache_need_no_network(no_network: None, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--timm--vit_large_patch14_clip_224.openai" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    assert cached(PUBLISHED, str(tmp_path)) == ""
    (snapshot / "open_clip_model.safetensors").write_bytes(b"weights")
    assert cached(PUBLISHED, str(tmp_path)) == str(snapshot / "open_clip_model.safetensors")
    ClipModel(name="x", architecture="ViT-L-14-quickgelu", weights="openai", cache_dir=str(tmp_path)).prepare()
