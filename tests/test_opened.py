"""Opening a run again: what is no finished run says so in a sentence, and a finished one is what was saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from finished_run import finished
from omegaconf import OmegaConf

from headstudio.errors import UserError
from headstudio.opened import open_run
from headstudio.render.cpu import CpuRenderer


def test_a_finished_run_is_what_was_saved(tmp_path: Path) -> None:
    saved = finished(tmp_path / "ein Läuf")
    opened = open_run(tmp_path / "ein Läuf")
    assert opened.prompt == "a head"
    avatar, renderer = opened.drawn_by(CpuRenderer(threads=1))
    assert torch.equal(avatar.means, saved.means)
    assert isinstance(renderer, CpuRenderer)


def test_what_is_no_finished_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is no directory; name a finished run's"):
        open_run(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"it has no config.yaml\.$"):
        open_run(tmp_path)
    finished(tmp_path / "sweep" / "one")
    with pytest.raises(UserError, match=r"It holds finished runs, such as .*one: name one of them"):
        open_run(tmp_path / "sweep")
    (tmp_path / "sweep" / "one" / "DONE").unlink()
    with pytest.raises(UserError, match="has not finished; start its command again"):
        open_run(tmp_path / "sweep" / "one")
    (tmp_path / "sweep" / "one" / "DONE").touch()
    (tmp_path / "sweep" / "one" / "config.yaml").write_text("- no\n- setting\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"config.yaml cannot be read"):
        open_run(tmp_path / "sweep" / "one")


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("num_shape", None, "missing 1 required"),
        ("later", 3, "unexpected keyword"),
        ("_target_", "a.b", "Error loading"),
    ],
)
def test_a_setting_of_another_version_is_told(tmp_path: Path, key: str, value: object, why: str) -> None:
    folder = tmp_path / "run"
    finished(folder)
    config = OmegaConf.load(folder / "config.yaml")
    if value is None:
        del config.head[key]
    else:
        config.head[key] = value
    OmegaConf.save(config, folder / "config.yaml")
    with pytest.raises(UserError, match=f"its head does not fit this version of headstudio .*{why}"):
        open_run(folder).drawn_by(CpuRenderer(threads=1))
