"""What all representations by Gaussians share: five numbers per Gaussian, and changes of how many there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from headstudio.avatar.frames import Frames
from headstudio.avatar.representation import Representation
from headstudio.errors import UserError
from headstudio.head.model import HeadModel
from headstudio.types import Gaussians, Pose, PosedHead

A = TypeVar("A", bound="GaussianAvatar")

WIDTHS = {"means": 3, "log_scales": 3, "quats": 4, "color_logits": 3, "opacity_logits": 0}
PER_GAUSSIAN = tuple(WIDTHS)


class GaussianAvatar(Representation):
    """N Gaussians with the parameters of `WIDTHS`, and whatever a subclass adds in `others`.

    `means` (N, 3) and exp(`log_scales`) (N, 3) are in a unit that the subclass chooses, `quats` (N, 4) are wxyz of any
    length, `color_logits` (N, 3) and `opacity_logits` (N,) stand before a sigmoid.
    """

    others: tuple[str, ...] = ()  # names of parameters that are not per Gaussian
    carried_names: tuple[str, ...] = ()  # names of integer buffers (N,) that follow their Gaussian

    means: nn.Parameter
    log_scales: nn.Parameter
    quats: nn.Parameter
    color_logits: nn.Parameter
    opacity_logits: nn.Parameter

    @classmethod
    def from_state(cls: type[A], head: HeadModel, state: Mapping[str, Tensor]) -> A:
        """An avatar from a `state_dict` alone, of whatever size it was saved. Raises as `load_state_dict`."""
        avatar = cls.__new__(cls)
        nn.Module.__init__(avatar)
        avatar.head = head
        avatar.check_state(state)
        avatar.replace_gaussians({name: _like(value, head.v_template) for name, value in state.items()})
        for name in cls.others:
            setattr(avatar, name, nn.Parameter(state[name].detach().to(head.v_template).clone()))
        return avatar

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take the values of a checkpoint, and its number of Gaussians.

        A change of number makes new parameters, so load the avatar first and then build its optimiser.

        Raises:
            UserError: when a tensor is missing, or does not fit this head.
        """
        self.check_state(state_dict)
        if len(state_dict["means"]) != self.num_gaussians:
            self.replace_gaussians({name: _like(value, self.means) for name, value in state_dict.items()})
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise UserError unless `state` holds the tensors of one avatar of this kind."""
        wanted = {*PER_GAUSSIAN, *self.carried_names, *self.others}
        if set(state) != wanted:
            raise UserError(f"The saved avatar has {sorted(state)} where an avatar has {sorted(wanted)}.")
        count = len(state["means"])
        for name, width in {**WIDTHS, **dict.fromkeys(self.carried_names, 0)}.items():
            shape = (count, width) if width else (count,)
            if tuple(state[name].shape) != shape:
                raise UserError(f"The saved avatar's {name} has shape {tuple(state[name].shape)} instead of {shape}.")

    def replace_gaussians(self, values: Mapping[str, Tensor]) -> None:
        """Put M Gaussians in the place of the N: `values` has the parameters of `WIDTHS` and what is `carried`.

        All of these are new objects afterwards: whoever holds an optimiser must follow.
        """
        for name in PER_GAUSSIAN:
            setattr(self, name, nn.Parameter(values[name].detach().clone()))
        for name in self.carried_names:
            self.register_buffer(name, values[name].detach().to(torch.int64).clone())

    @property
    def num_gaussians(self) -> int:
        return len(self.means)

    @property
    def carried(self) -> dict[str, Tensor]:
        """What follows each Gaussian and is not learned."""
        return {name: getattr(self, name) for name in self.carried_names}

    @property
    def fewest_gaussians(self) -> int:
        """How many a budget must allow at the least, because pruning keeps them."""
        return 1

    def spared(self, doomed: Bool[Tensor, " N"], preference: Float[Tensor, " N"]) -> Bool[Tensor, " N"]:
        """Which of the doomed Gaussians really go: all, unless none would be left; then the preferred one stays."""
        if not bool(doomed.all()):
            return doomed
        doomed = doomed.clone()
        doomed[preference.argmax()] = False
        return doomed

    def pose(self, pose: Pose) -> tuple[PosedHead, Frames, Gaussians]:
        """See `Representation`."""
        raise NotImplementedError

    def rest_scales(self) -> Float[Tensor, "N 3"]:
        """Standard deviations in world units on the head at rest with its present shape."""
        raise NotImplementedError


def _like(value: Tensor, other: Tensor) -> Tensor:
    """On the other's device; numbers that are learned also in its type."""
    return value.to(other) if value.is_floating_point() else value.to(other.device)


def start_values(
    scales: Float[Tensor, " N"], color: tuple[float, float, float], opacity: float
) -> dict[str, Float[Tensor, "N _"]]:
    """All starting parameters but the means: round Gaussians of one colour and opacity.

    Raises:
        UserError: when a starting colour or opacity is not inside (0, 1).
    """
    colors = torch.tensor(list(color), dtype=scales.dtype)
    opacities = torch.tensor(opacity, dtype=scales.dtype)
    for key, value in (("initial_color", colors), ("initial_opacity", opacities)):
        if not bool(((value > 0) & (value < 1)).all()):
            raise UserError(f"representation.{key}={value.tolist()} is not possible: it must lie between 0 and 1.")
    if colors.shape != (3,):
        raise UserError(f"representation.initial_color={colors.tolist()} is not possible: it has three values.")
    count = len(scales)
    return {
        "log_scales": scales.log()[:, None].repeat(1, 3),
        "quats": scales.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        "color_logits": torch.logit(colors).to(scales).repeat(count, 1),
        "opacity_logits": torch.logit(opacities).to(scales).repeat(count),
    }
