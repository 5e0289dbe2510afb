"""A finished run that nobody trained: what the commands that open one need of its directory."""

from __future__ import annotations

from pathlib import Path

import torch

from headstudio.avatar.init import SuperResolution
from headstudio.avatar.rigged import RiggedGaussians
from headstudio.export.ply import save_avatar
from headstudio.head.anny import load_anny


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
