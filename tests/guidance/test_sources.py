"""Where components come from: folders, single files and the hub's cache, and a sentence for all that is wrong."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from headstudio.errors import UserError
from headstudio.findings import State
from headstudio.guidance import hub, sources
from headstudio.guidance.load import load_prior
from headstudio.guidance.prior import Prior
from headstudio.guidance.sources import Place, fetch, locate

Standin = Callable[..., Any]
BASE_ID, CONTROLNET_ID = "someone/realistic", "someone/face-control"


def paths(files: Any, **changed: Any) -> dict[str, Any]:
    said = {key: None if value is None else str(value) for key, value in vars(files).items()}
    return {**said, **changed}


def load(files: Any, **changed: Any) -> Prior:
    return load_prior(**{"dtype": "float32", "vae_dtype": "float32", **paths(files, **changed)})


def answer(prior: Prior) -> torch.Tensor:
    """A prediction that every component has a share in."""
    generator = torch.Generator().manual_seed(0)
    side = prior.picture_size
    latents = prior.encode_images(torch.rand(1, 3, side, side, generator=generator))
    control = torch.rand(1, 3, side, side, generator=generator)
    return prior.predict_noise(latents, torch.tensor([400]), prior.encode_prompts(["a red head"]), control, 1.0)


def copy(files: Any, folder: Path) -> Any:
    """The files in a folder where they may be changed."""
    root = files.path.parent
    shutil.copytree(root, folder)
    moved = {key: folder / value.relative_to(root) for key, value in vars(files).items() if isinstance(value, Path)}
    return type(files)(**{**vars(files), **moved})


def fill_cache(cache: Path, repository: str, folder: Path) -> None:
    """Lay a folder out as huggingface_hub caches a repository."""
    root = cache / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder, root / "snapshots" / "abc123")
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc123")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hub, "cache_folder", lambda: tmp_path / "hub")
    monkeypatch.setattr(hub, "is_offline", lambda: True)
    return tmp_path / "hub"


def test_a_folder_is_here_component_by_component(standin: Standin) -> None:
    found = locate(**paths(standin("rv51")))
    assert [s.component for s in found] == ["unet", "vae", "text_encoder", "tokenizer", "scheduler", "controlnet"]
    assert {s.place for s in found} == {Place.HERE}
    vae = found[1]
    assert (vae.key, vae.subfolder, vae.found.folder.name) == ("vae_path", "", "sd-vae-ft-mse")  # type: ignore[union-attr]


def test_a_pipelines_folder_will_do_for_its_vae(standin: Standin) -> None:
    other = standin("sd15", seed=5)
    vae = next(s for s in locate(**paths(standin("sd15"), vae_path=str(other.path))) if s.component == "vae")
    assert vae.place is Place.HERE
    assert vae.found.folder == other.path / "vae"  # type: ignore[union-attr]
    assert not torch.equal(
        load(standin("sd15"), vae_path=str(other.path)).vae.quant_conv.weight,
        load(standin("sd15")).vae.quant_conv.weight,
    )


@pytest.mark.parametrize("kind", ["sd15", "sd21"])
def test_one_file_gives_the_same_weights_as_its_folder(standin: Standin, kind: str, no_network: list[Any]) -> None:
    single = standin(kind, single_file=True)
    folder = standin(kind, sample_size=64)
    ours, theirs = load(single, controlnet_path=None), load(folder, controlnet_path=None)
    for part in ("unet", "vae", "text_encoder"):
        expected = getattr(theirs, part).state_dict()
        got = getattr(ours, part).state_dict()
        assert got.keys() == expected.keys()
        assert all(torch.equal(got[name], expected[name]) for name in expected)
    text = ["a red head", "!"]
    assert torch.equal(ours.encode_prompts(text), theirs.encode_prompts(text))
    assert torch.equal(ours.alphas_cumprod, theirs.alphas_cumprod)
    assert ours.picture_size == theirs.picture_size == 512
    for key in ("attention_head_dim", "cross_attention_dim", "use_linear_projection", "block_out_channels"):
        assert ours.unet.config[key] == theirs.unet.config[key]
    assert not no_network


def test_a_file_without_a_vae_takes_the_one_that_is_named(standin: Standin, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    files = standin("rv51", single_file=True)
    weights = {k: v for k, v in load_file(files.path).items() if not k.startswith("first_stage_model.")}
    bare = tmp_path / "bare.safetensors"
    save_file(weights, bare)
    prior = load(files, path=str(bare))
    assert torch.equal(prior.vae.quant_conv.weight, load(standin("rv51")).vae.quant_conv.weight)
    with pytest.raises(
        UserError, match=r"bare\.safetensors is no whole checkpoint: .*first_stage_model\.\* for the vae"
    ):
        load(files, path=str(bare), vae_path=None)


def test_the_hubs_cache_will_do(standin: Standin, cache: Path, no_network: list[Any]) -> None:
    files = standin("sd15")
    fill_cache(cache, BASE_ID, files.path)
    fill_cache(cache, CONTROLNET_ID, files.controlnet_path)
    ids = paths(files, path=BASE_ID, controlnet_path=CONTROLNET_ID)
    assert {s.place for s in locate(**ids)} == {Place.CACHED}
    cached = load_prior(**ids, dtype="float32", vae_dtype="float32")
    assert torch.equal(answer(cached), answer(load(files)))
    assert not no_network


def test_half_precision_files_are_taken_where_there_are_no_others(standin: Standin) -> None:
    files = standin("sd21", variant="fp16")
    unet = locate(**paths(files))[0]
    assert unet.found.variant == "fp16"  # type: ignore[union-attr]
    ours, whole = answer(load(files)), answer(load(standin("sd21")))
    assert 0 < float((ours - whole).norm() / whole.norm()) < 0.01


def test_shards_are_read_and_a_missing_one_is_named(standin: Standin, tmp_path: Path) -> None:
    files = copy(standin("sd15"), tmp_path / "copy")
    prior, unet = load(files), files.path / "unet"
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    prior.unet.save_pretrained(unet, max_shard_size="10MB")
    shards = sorted(unet.glob("*-of-*.safetensors"))
    assert len(shards) > 1
    loaded = load(files).unet.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in prior.unet.state_dict().items())
    shards[0].unlink()
    with pytest.raises(UserError, match=f"lacks unet/{shards[0].name}"):
        load(files)


def test_what_is_missing_offline_is_told_at_once(cache: Path, no_network: list[Any]) -> None:
    with pytest.raises(UserError) as told:
        fetch(path=BASE_ID, vae_path="a/vae", controlnet_path=CONTROLNET_ID, controlnet_subfolder="sub")
    sentence = str(told.value)
    for named in (
        *(BASE_ID, "a/vae", CONTROLNET_ID, "prior.path", "prior.vae_path", "prior.controlnet_path"),
        *("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors", "tokenizer/vocab.json"),
        *("scheduler/scheduler_config.json", "sub/config.json"),
    ):
        assert named in sentence
    assert not no_network


def test_no_connection_is_the_same_sentence(
    cache: Path, no_network: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "is_offline", lambda: False)
    with pytest.raises(UserError, match=f"can't be reached .* lacks {BASE_ID}"):
        fetch(path=BASE_ID, vae_path=None, controlnet_path=None, controlnet_subfolder=None)
    assert no_network


def test_a_download_takes_only_what_is_missing_and_says_so(
    standin: Standin, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = standin("sd15")
    listed = {str(p.relative_to(files.path)): p.stat().st_size for p in files.path.rglob("*") if p.is_file()}
    pickled = {f"{part}/diffusion_pytorch_model.bin": 10**12 for part in ("unet", "vae")}
    asked: list[str] = []

    def fill(repository: str, *, allow_patterns: list[str], cache_dir: Path) -> None:
        asked.extend(allow_patterns)
        fill_cache(cache_dir, repository, files.path)

    monkeypatch.setattr(hub, "is_offline", lambda: False)
    monkeypatch.setattr(hub, "sizes", lambda _: {**listed, **pickled, "v1-5-pruned.ckpt": 10**12})
    monkeypatch.setattr("huggingface_hub.snapshot_download", fill)
    with caplog.at_level(logging.INFO):
        ready = fetch(path=BASE_ID, vae_path=None, controlnet_path=None, controlnet_subfolder=None)
    assert all(source.ready for source in ready)
    assert set(asked) == set(listed) - {"model_index.json"}
    size = sum(listed[name] for name in asked) / 1e9
    told = f"Downloading unet, vae, text_encoder, tokenizer, scheduler of {BASE_ID}: {size:.2f} GB to {cache}"
    assert told in caplog.text


def test_consent_is_asked_for_by_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unittest.mock import Mock

    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    monkeypatch.setattr(hub, "is_offline", lambda: False)
    response = Mock(headers={}, status_code=403)
    for error, sentence in ((GatedRepoError, "asks for your consent"), (RepositoryNotFoundError, "no repository")):

        def refuse(*_: Any, kind: Any = error, **__: Any) -> None:
            raise kind("no", response=response)

        monkeypatch.setattr(HfApi, "model_info", refuse)
        with pytest.raises(UserError, match=f"{sentence}.*{BASE_ID}|{BASE_ID}.*{sentence}"):
            fetch(path=BASE_ID, vae_path=None, controlnet_path=None, controlnet_subfolder=None)


def test_an_interrupted_download_is_told(standin: Standin, cache: Path) -> None:
    fill_cache(cache, BASE_ID, standin("sd15").path)
    root = cache / f"models--{BASE_ID.replace('/', '--')}"
    (root / "snapshots" / "abc123" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (root / "blobs").mkdir()
    (root / "blobs" / "0123.incomplete").write_bytes(b"x")
    (unet, *rest) = locate(path=BASE_ID, vae_path=None, controlnet_path=None, controlnet_subfolder=None)
    assert unet.place is Place.MISSING
    assert "unet/diffusion_pytorch_model.safetensors" in unet.problem
    assert "interrupted" in unet.problem
    assert {source.place for source in rest} == {Place.CACHED}
    told = rf"its cache lacks {BASE_ID} \(unet/config\.json, .*\) \(an earlier download was interrupted\)"
    with pytest.raises(UserError, match=told):
        fetch(path=BASE_ID, vae_path=None, controlnet_path=None, controlnet_subfolder=None)


def damage(files: Any, what: str) -> None:
    weights = files.path / "unet" / "diffusion_pytorch_model.safetensors"
    if what == "pickled":
        weights.rename(weights.with_suffix(".bin"))
    elif what == "short":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif what == "pointer":
        weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3438167536\n")
    elif what == "junk":
        weights.write_bytes(b"<html>404</html>" * 10)
    elif what == "json":
        (files.path / "vae" / "config.json").write_text("{")
    elif what == "gone":
        (files.path / "tokenizer" / "merges.txt").unlink()


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("pickled", r"only as diffusion_pytorch_model\.bin, pickled files .* get the \.safetensors version"),
        ("short", r"is cut short \(\d+ of \d+ bytes\); download it again"),
        ("pointer", "is a Git LFS pointer .*git lfs pull"),
        ("junk", r"is no \.safetensors file"),
        ("json", r"vae/config\.json can't be read as JSON"),
        ("gone", r"prior\.path=.* lacks tokenizer/merges\.txt"),
    ],
)
def test_damaged_folders_are_refused(standin: Standin, tmp_path: Path, what: str, sentence: str) -> None:
    files = copy(standin("sd15"), tmp_path / "copy")
    damage(files, what)
    with pytest.raises(UserError, match=sentence):
        load(files)
    (finding,) = sources.look(**paths(files, controlnet_path=None))
    assert finding.state is (State.LACKING if what == "gone" else State.BROKEN)


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt"])
def test_a_pickled_checkpoint_is_refused_unread(standin: Standin, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"would run")
    with pytest.raises(UserError, match=rf"prior\.path='.*{name}' is a pickled file, which can run code"):
        load(standin("sd15"), path=str(tmp_path / name))


def test_a_file_that_is_no_checkpoint_is_refused(standin: Standin, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"lora_up.weight": torch.zeros(2, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(UserError, match=r"lora\.safetensors is no whole checkpoint: .*model\.diffusion_model\.\*"):
        load(standin("sd15"), path=str(tmp_path / "lora.safetensors"))


def test_the_doctor_says_where_things_are(standin: Standin, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headstudio.guidance.folder import packaged_folder

    nothing = {"vae_path": None, "controlnet_path": None, "controlnet_subfolder": None}
    assert list(sources.look(path=packaged_folder(name="prior_tiny"), **nothing)) == []
    here = list(load_prior.look(**paths(standin("rv51")), dtype="auto", vae_dtype="auto"))  # type: ignore[attr-defined]
    assert [(f.state, f.detail) for f in here] == [(State.READY, "here")] * 3
    (offline,) = sources.look(path="SG161222/Realistic_Vision_V5.1_noVAE", **nothing)
    assert offline.state is State.LACKING
    assert "hf download SG161222/Realistic_Vision_V5.1_noVAE unet/config.json" in offline.remedy
    monkeypatch.setattr(hub, "is_offline", lambda: False)
    (online,) = sources.look(path="SG161222/Realistic_Vision_V5.1_noVAE", **nothing)
    assert online.state is State.FETCHED
    assert "about 4.3 GB" in online.detail


def settings_changed(files: Any, part: str, **changed: Any) -> None:
    """Settings that another model would have; a value of None takes a key away."""
    root = files.controlnet_path / (files.controlnet_subfolder or "") if part == "controlnet" else files.path / part
    file = root / ("scheduler_config.json" if part == "scheduler" else "config.json")
    content = {**json.loads(file.read_text()), **changed}
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize(
    ("part", "changed", "sentence"),
    [
        ("unet", {"in_channels": 9}, r"9 input channels \(an inpainting model\) for latents of 4"),
        ("unet", {"addition_embed_type": "text_time"}, "another generation"),
        ("text_encoder", {"hidden_size": 1024}, r"text encoder of width 1024 \(Stable Diffusion 2\.1\).* reads 64"),
        ("scheduler", {"beta_start": None, "num_train_timesteps": None}, "lacks num_train_timesteps, beta_start"),
        ("scheduler", {"prediction_type": "sample"}, "prediction_type='sample' is not supported"),
        ("controlnet", {"block_out_channels": [8, 8, 8, 8]}, "must be a copy of its UNet's encoder"),
        ("vae", {"_class_name": "VQModel"}, "VQModel"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    standin: Standin, tmp_path: Path, part: str, changed: dict[str, Any], sentence: str
) -> None:
    files = copy(standin("sd15"), tmp_path / "copy")
    settings_changed(files, part, **changed)
    with pytest.raises(UserError, match=sentence):
        load(files)


@pytest.mark.parametrize(
    ("model", "text_width", "where"),
    [("sd15", 768, "prior.controlnet_subfolder=diffusion_sd15"), ("sd21", 1024, "prior.controlnet_subfolder=null")],
)
def test_the_other_models_controlnet_is_named_with_the_one_that_fits(
    standin: Standin, tmp_path: Path, model: str, text_width: int, where: str
) -> None:
    files = copy(standin(model), tmp_path / "copy")
    for part, key in (("unet", "cross_attention_dim"), ("text_encoder", "hidden_size")):
        settings_changed(files, part, **{key: text_width})
    settings_changed(files, "controlnet", cross_attention_dim={768: 1024, 1024: 768}[text_width])
    with pytest.raises(UserError) as told:
        load(files)
    sentence = str(told.value)
    assert "Stable Diffusion 1.5" in sentence
    assert "Stable Diffusion 2.1" in sentence
    assert sentence.endswith(f"{where}.")
