"""Metrics and fresh avatars as the shipped settings make them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from headstudio.avatar.rigged import RiggedGaussians
from headstudio.cli import conf_dir
from headstudio.run import make, register_resolvers
from headstudio.types import Pose


def plain(*overrides: str) -> Any:
    """The whole setting, resolved, as plain values."""
    return copy.deepcopy(_composed(*overrides))


@lru_cache(maxsize=8)
def _composed(*overrides: str) -> Any:
    GlobalHydra.instance().clear()
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)


def metric(name: str, *overrides: str, **changes: Any) -> Any:
    """One entry of the group `metrics`, with some of its keys changed."""
    return make(OmegaConf.create({**plain(*overrides)["metrics"][name], **changes}))


@lru_cache(maxsize=1)
def head() -> Any:
    return make(OmegaConf.create(plain()["head"]))


@dataclass
class Posed:
    """An avatar whose scene is the pose itself, for renderers that draw what a test knows."""

    head: Any
    shape: torch.Tensor

    def pose(self, pose: Pose) -> tuple[None, None, Pose]:
        return None, None, pose


def fresh_avatar() -> RiggedGaussians:
    """The avatar before its first step, opaque: Gaussians spread over the head's triangles, all of one colour."""
    setting = plain()
    init = make(OmegaConf.create(setting["init"]))
    avatar = make(OmegaConf.create(setting["representation"]))(head(), torch.Generator().manual_seed(0), init=init)
    with torch.no_grad():
        avatar.opacity_logits.fill_(4.0)
    return avatar  # type: ignore[no-any-return]
