"""Avatars as opened runs, and a reader of pages that was written from docs/web.md alone."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from headstudio.avatar.init import SuperResolution
from headstudio.avatar.rigged import RiggedGaussians
from headstudio.avatar.static import StaticGaussians
from headstudio.avatar.textured_mesh import TexturedMesh
from headstudio.head.model import HeadModel
from headstudio.opened import OpenedRun
from headstudio.runstate import RunPaths

HOSTILE = """</script><script>alert("1")</script> 'quotes' & <b>Müller</b> – 笑 {{ 7 * 7 }} \\n"""


def opened(avatar: Any, prompt: str = "a head", folder: Path = Path()) -> OpenedRun:
    """A run whose avatar this is."""
    run = OpenedRun(RunPaths(folder), OmegaConf.create({"prompt": prompt}))
    run.__dict__.update(head=avatar.head, avatar=avatar)  # where a cached property keeps what it made
    return run


def _start(per_triangle: int) -> dict[str, Any]:
    init = SuperResolution(per_triangle=per_triangle, neighbours=3, distance_power=2)
    return {"init": init, "initial_color": (0.5, 0.5, 0.5)}


@torch.no_grad()
def _roughened(avatar: Any, generator: torch.Generator) -> Any:
    """As uneven as after a training: every number has its own value."""
    for name, spread in (("means", 0.3), ("log_scales", 0.4), ("quats", 0.6), ("opacity_logits", 2.0)):
        value = getattr(avatar, name)
        size = 0.01 if name == "means" and isinstance(avatar, StaticGaussians) else spread
        value.add_(size * torch.randn(value.shape, generator=generator))
    avatar.color_logits.copy_(2.0 * torch.randn(avatar.color_logits.shape, generator=generator))
    return avatar.requires_grad_(False)


@torch.no_grad()
def rigged(head: HeadModel, per_triangle: int = 2) -> RiggedGaussians:
    generator = torch.Generator().manual_seed(5)
    avatar = RiggedGaussians(head, generator, initial_opacity=0.6, **_start(per_triangle))
    avatar.shape.copy_(0.5 * torch.randn(avatar.shape.shape, generator=generator))
    return _roughened(avatar, generator)  # type: ignore[no-any-return]


def static(head: HeadModel) -> StaticGaussians:
    generator = torch.Generator().manual_seed(6)
    avatar = StaticGaussians(head, generator, initial_opacity=0.6, length_unit=0.02, **_start(1))
    return _roughened(avatar, generator)  # type: ignore[no-any-return]


@torch.no_grad()
def mesh(head: HeadModel, subdivisions: int = 2) -> TexturedMesh:
    generator = torch.Generator().manual_seed(7)
    made = TexturedMesh(head, generator, subdivisions=subdivisions, length_unit=0.02, lambda_smooth=0.0, **_start(1))
    made.color_logits.copy_(torch.randn(made.color_logits.shape, generator=generator))
    made.displacement.copy_(0.02 * torch.randn(made.displacement.shape, generator=generator))
    made.shape.copy_(0.5 * torch.randn(made.shape.shape, generator=generator))
    return made.requires_grad_(False)


def read_bytes(packed: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays; what was stored in steps as float64."""
    content = zlib.decompress(packed)
    length = int.from_bytes(content[:4], "little")
    header = json.loads(content[4 : 4 + length])
    arrays = {}
    for name, entry in header.pop("arrays").items():
        kind = np.dtype(entry["type"]).newbyteorder("<")
        assert (4 + length + entry["at"]) % 4 == 0
        count = int(np.prod(entry["shape"]))
        array = np.frombuffer(content, kind, count, 4 + length + entry["at"]).reshape(entry["shape"])
        arrays[name] = array * np.array(entry["step"]) + np.array(entry["low"]) if "step" in entry else array
    return header, arrays


def read_page(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a page holds."""
    found = re.search(r'<script type="text/plain" id="data">([A-Za-z0-9+/=]*)</script>', path.read_text("utf-8"))
    assert found
    return read_bytes(base64.b64decode(found[1]))
