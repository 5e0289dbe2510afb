"""Opening a run again: what is no finished run says so in a sentence, and a finished one is what was saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from headstudio.avatar.init import SuperResolution
from headstudio.avatar.rigged import RiggedGaussians
from headstudio.errors import UserError
from headstudio.export.ply import save_avatar
from headstudio.head.anny import load_anny
from headstudio.opened import open_run
from headstudio.render.cpu import CpuRenderer


def finished(folder: Path) -> RiggedGaussians:
    """A run's directory as far as opening it needs one; returns the avatar in it."""
    head = load_anny(num_shape=4)
    init = SuperResolution(per_triangle=1, neighbours=3, distance_power=2)
    generator = torch.Generator().manual_seed(0)
    avatar = RiggedGaussians(head, generator, init=init, initial_color=(0.9, 0.1, 0.1), initial_opacity=0.9)
    folder.mkdir(parents=True)
    save_avatar(avatar, folder / "avatar.ply", head_name="anny")
    (folder / "config.yaml").write_text(
        "prompt: a head\nhead: {_target_: headstudio.head.anny.load_anny, num_shape: 4}\n", encoding="utf-8"
    )
    (folder / "DONE").write_text("0123456789abcdef", encoding="utf-8")
    return avatar


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
