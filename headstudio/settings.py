"""Values of the config that no run can use, told before any long work: key, value and what would be right."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstudio.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class Rule:
    """What the values at some dotted keys must be; a key that a composition lacks is not checked."""

    keys: tuple[str, ...]
    right: str
    holds: Callable[[Any], bool]


def _whole(lowest: int, highest: float = math.inf) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and lowest <= v <= highest


def _number(lowest: float, highest: float = math.inf) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int | float) and not isinstance(v, bool) and lowest <= v <= highest


def _range(lowest: float, highest: float) -> Callable[[Any], bool]:
    inside = _number(lowest, highest)
    return lambda v: isinstance(v, list) and len(v) == 2 and all(map(inside, v)) and v[0] <= v[1]


def _scheduled(lowest: float, highest: float = math.inf) -> Callable[[Any], bool]:
    """A number, or a schedule (which checks itself)."""
    plain = _number(lowest, highest)
    return lambda v: plain(v) or (isinstance(v, dict) and "_target_" in v)


def _words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _colour(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) == 3 and all(map(_number(0, 1), value)))


RULES = (
    Rule(("prompt",), "a sentence that describes a head", lambda v: isinstance(v, str) and bool(v.strip())),
    Rule(("seed",), "a whole number of at least 0", _whole(0)),
    Rule(
        ("scale.steps", "scale.batch_size", "scale.log_every_steps", "scale.checkpoint_every_steps"),
        "a whole number of at least 1",
        _whole(1),
    ),
    Rule(("scale.trace_every_steps",), "a whole number of steps of at least 1", _whole(1)),
    Rule(("scale.picture_every_steps", "scale.shape_freeze_step"), "a whole number of at least 0", _whole(0)),
    Rule(("scale.width", "scale.height", "scale.gallery_size"), "at least 16 pixels", _whole(16)),
    Rule(("scale.gallery_seconds",), "a number of seconds above 0", _number(1e-3)),
    Rule(("scale.fovy_deg_range",), "[low, high] degrees with 1 <= low <= high <= 179", _range(1, 179)),
    Rule(("scale.elevation_deg_range",), "[low, high] degrees within -90 and 90", _range(-90, 90)),
    Rule(("scale.distance_range",), "[low, high] world units above 0 with low <= high", _range(1e-3, math.inf)),
    Rule(("scale.background",), "three numbers from 0 to 1 (RGB), or null", _colour),
    Rule(("scale.per_triangle", "scale.init_count", "scale.neighbours"), "a whole number of at least 1", _whole(1)),
    Rule(("scale.num_shape",), "a whole number of at least 0", _whole(0)),
    Rule(("scale.grow.interval", "scale.prune.interval"), "a whole number of at least 1", _whole(1)),
    Rule(
        ("scale.grow.first", "scale.grow.last", "scale.prune.first", "scale.prune.last"),
        "a whole number (a step; nothing happens where last is below first)",
        _whole(-1),
    ),
    Rule(("scale.lambda_sparsity", "scale.tolerance_scale"), "a number of at least 0", _number(0)),
    Rule(("scale.length_unit",), "a number of world units above 0", _number(1e-9)),
    Rule(
        ("scale.initial_color",),
        "three numbers between 0 and 1 (RGB), without these two",
        lambda v: v is not None and _colour(v) and all(0 < channel < 1 for channel in v),
    ),
    Rule(("scale.initial_opacity",), "a number between 0 and 1, without these two", _number(1e-6, 1 - 1e-6)),
    Rule(
        (
            *("scale.min_timestep", "scale.max_timestep", "scale.guidance_scale", "scale.conditioning_scale"),
            *("scale.lambda_pos", "scale.lambda_scale"),
        ),
        "a number of at least 0, or a schedule",
        _scheduled(0),
    ),
    Rule(("scale.shared_pose",), "true or false", lambda v: isinstance(v, bool)),
    Rule(
        ("densify.gradient_threshold", "densify.split_scale", "densify.max_scale", "densify.child_spread"),
        "a number of at least 0",
        _number(0),
    ),
    Rule(("densify.max_radius_px",), "a number of pixels of at least 1", _number(1)),
    Rule(("densify.large_after_step",), "a whole number of at least 0", _whole(0)),
    Rule(("scale.cleanup_views", "cleanup.views"), "a whole number of at least 1", _whole(1)),
    Rule(("cleanup.timestep",), "a whole number from 0 to 999", _whole(0, 999)),
    Rule(("cleanup.tolerance", "cleanup.max_background_share"), "a number from 0 to 1", _number(0, 1)),
    Rule(("logger.mode",), "offline, online or disabled", lambda v: v in ("offline", "online", "disabled")),
    Rule(("logger.tags",), "a list of words, like [first,try]", _words),
    Rule(("optim.betas",), "two numbers from 0 to 1", _range(0, 1)),
)


def check(config: DictConfig) -> None:
    """Refuse a composed config that no run can use.

    Raises:
        UserError: for the first key that breaks its rule.
    """
    from omegaconf import OmegaConf

    for rule in RULES:
        for key in rule.keys:
            if not _exists(config, key):
                continue
            value = OmegaConf.select(config, key)
            plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            if not rule.holds(plain):
                raise UserError(f"{key}={plain!r} must be {rule.right}.")
    for name, rate in _rates(config):
        if not _number(0)(rate):
            raise UserError(f"optim.rates.{name}={rate!r} must be a number of at least 0.")


def _exists(config: DictConfig, key: str) -> bool:
    """Whether a dotted key is there, be its value null or not."""
    node: Any = config
    for part in key.split("."):
        if not hasattr(node, "keys") or part not in node:
            return False
        node = node._get_node(part) if node.get(part) is None else node[part]
    return True


def _rates(config: DictConfig) -> Iterator[tuple[str, Any]]:
    """The learning rates that are plain values (schedules check themselves)."""
    if _exists(config, "optim.rates"):
        for name, rate in config.optim.rates.items():
            if not hasattr(rate, "keys"):
                yield str(name), rate
