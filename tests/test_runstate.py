"""A run's identity and its files: what changes the signature, and that nothing good is ever lost."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from headstudio import runstate
from headstudio.errors import UserError
from headstudio.runstate import (
    RunPaths,
    config_signature,
    load_checkpoint,
    save_checkpoint,
    signature,
    write_atomically,
)

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
CONFIGS = st.recursive(
    LEAVES | st.lists(LEAVES, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=8,
).map(lambda value: value if isinstance(value, dict) else {"only": value})


@given(CONFIGS)
def test_the_order_of_keys_does_not_matter(config: dict[str, Any]) -> None:
    assert signature(config) == signature(dict(reversed(config.items())))


@given(CONFIGS, CONFIGS)
def test_two_settings_share_a_signature_only_if_they_are_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    # repr, because 1 == True == 1.0 in Python although they are different settings
    def canonical(value: Any) -> Any:
        return {k: canonical(value[k]) for k in sorted(value)} if isinstance(value, dict) else value

    assert (signature(one) == signature(other)) == (repr(canonical(one)) == repr(canonical(other)))


@given(CONFIGS, CONFIGS, CONFIGS)
def test_logger_and_renderer_are_not_part_of_it(
    config: dict[str, Any], one: dict[str, Any], other: dict[str, Any]
) -> None:
    first = {**config, "logger": one, "renderer": one}
    second = {**config, "logger": other, "renderer": other}
    assert signature(first) == signature(second) == signature(config)


def test_a_renderer_that_changes_the_result_is_part_of_it() -> None:
    cpu, cuda = {"_target_": "cpu"}, {"_target_": "cuda", "packed": False, "absgrad": False}
    plain = signature({"seed": 0, "renderer": cpu})
    assert signature({"seed": 0, "renderer": cuda}) == plain
    assert signature({"seed": 0, "renderer": {**cuda, "packed": True}}) == plain
    assert signature({"seed": 0, "renderer": {**cuda, "absgrad": True}}) != plain


def test_a_composed_config_has_the_signature_of_its_resolved_values() -> None:
    config = OmegaConf.create(
        {"scale": {"steps": 3}, "trainer": {"steps": "${scale.steps}"}, "hydra": {"job": "${now:}"}}
    )
    assert config_signature(config) == signature({"scale": {"steps": 3}, "trainer": {"steps": 3}})
    config.scale.steps = 4
    assert config_signature(config) != signature({"scale": {"steps": 3}, "trainer": {"steps": 3}})


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with other assets."""
    monkeypatch.setattr(runstate.resources, "files", lambda _: tmp_path)
    folder = tmp_path / "assets"
    for name in ("tiny_clip", "another_clip", "prior_tiny"):
        (folder / name).mkdir(parents=True)
        (folder / name / "model.safetensors").write_bytes(name.encode())
    caches = (runstate.assets_fingerprint, runstate._hashed)
    for cache in caches:
        cache.cache_clear()
    yield folder
    for cache in caches:
        cache.cache_clear()


def test_an_asset_counts_for_the_runs_that_use_it(assets: Path) -> None:
    plain, named = {"seed": 0}, {"metrics": {"models": [{"name": "another_clip"}]}}

    def now() -> list[str]:
        for cache in (runstate.assets_fingerprint, runstate._hashed):
            cache.cache_clear()
        return [signature(plain), signature(named)]

    before = now()
    (assets / "another_clip" / "model.safetensors").write_bytes(b"trained again")
    after = now()
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)
    (assets / "prior_tiny" / "model.safetensors").write_bytes(b"trained again")
    last = now()
    assert (last[0] == after[0], last[1] == after[1]) == (False, False)
    (assets / "prior_tiny" / "note.txt").write_text("not a weight")
    assert now() == last


def test_a_seed_makes_another_run() -> None:
    assert signature({"seed": 0}) != signature({"seed": 1})


@pytest.fixture
def state() -> dict[str, Any]:
    return {"signature": "abc", "step": 3, "avatar": {"means": torch.arange(6.0).reshape(2, 3)}}


def test_a_checkpoint_returns_what_was_saved(tmp_path: Path, state: dict[str, Any]) -> None:
    save_checkpoint(tmp_path / "checkpoint", state)
    loaded = load_checkpoint(tmp_path / "checkpoint", "abc")
    assert loaded["step"] == 3
    assert torch.equal(loaded["avatar"]["means"], state["avatar"]["means"])
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_one_sentence(tmp_path: Path, state: dict[str, Any], share: float) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, state)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match="truncated or damaged; delete it"):
        load_checkpoint(path, "abc")


def test_a_checkpoint_of_another_setting_is_refused(tmp_path: Path, state: dict[str, Any]) -> None:
    save_checkpoint(tmp_path / "checkpoint", state)
    with pytest.raises(UserError, match="run abc of another setting \\(this one is xyz\\)"):
        load_checkpoint(tmp_path / "checkpoint", "xyz")


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "pwned",))

    torch.save({"signature": "abc", "evil": Evil()}, tmp_path / "checkpoint")
    with pytest.raises(UserError):
        load_checkpoint(tmp_path / "checkpoint", "abc")
    assert not (tmp_path / "pwned").exists()


def test_a_full_disk_keeps_the_last_good_checkpoint(
    tmp_path: Path, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, state)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"disk is full.*written before is kept"):
        save_checkpoint(path, {**state, "step": 4})
    assert load_checkpoint(path, "abc")["step"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


def test_another_failure_of_the_disk_is_not_called_full(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", b"content")


def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_finished_means_marker_and_metrics_of_this_very_run(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    assert not paths.is_finished("abc")
    paths.finish("abc", {"seconds": 1.0})
    assert paths.is_finished("abc")
    with pytest.raises(UserError, match="finished run abc of another setting"):
        paths.is_finished("xyz")


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be written.*hydra\.run\.dir"):
        RunPaths(tmp_path / "file" / "run").prepare()
