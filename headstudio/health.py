"""Whether a run is still sound: losses within their limit, finite gradients; else the first step that was not.

What is found stays on the device. On the CPU it is read after every check, so a broken step changes no parameter; on
an accelerator reading stops the host, so the loop reads where it stops anyway, at logged steps, and always before it
saves: nothing broken gets into a checkpoint, and the steps since the last good one are lost either way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from headstudio.device import reading_is_free
from headstudio.errors import UserError


@dataclass
class _Findings:
    """Per name the first step that broke it (-1: none) and the value that it had there."""

    step: Int[Tensor, " K"]
    value: Float[Tensor, " K"]


class Health:
    """Watches the losses and gradients of one process.

    Args:
        device: where they are.
        loss_limit: a loss beyond this has exploded.
        checkpoint: what is kept when the run stops; named in the message.
        at_once: read after every check; None does so where reading is free.
    """

    def __init__(
        self, device: torch.device, *, loss_limit: float, checkpoint: Path, at_once: bool | None = None
    ) -> None:
        self._device, self._limit, self._checkpoint = device, loss_limit, checkpoint
        self._at_once = reading_is_free(device) if at_once is None else at_once
        self._losses: dict[tuple[str, ...], _Findings] = {}
        self._gradients: dict[tuple[str, ...], _Findings] = {}

    def losses(self, step: int, losses: Mapping[str, Float[Tensor, ""]]) -> None:
        """Note the losses of `step`; call before the backward pass. Raises as `verify` where reading is free."""
        values = torch.stack([loss.detach() for loss in losses.values()])
        self._note(self._losses, step, tuple(losses), values, ~(values.abs() <= self._limit))

    def gradients(self, step: int, model: nn.Module) -> None:
        """Note the gradients of `step`; call before the optimiser. Raises as `verify` where reading is free."""
        found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        if found:
            bad = torch.stack([~torch.isfinite(gradient).all() for gradient in found.values()])
            self._note(self._gradients, step, tuple(found), bad.float(), bad)

    def verify(self) -> None:
        """Read what was noted; waits for the device.

        Raises:
            UserError: when a step was broken, naming the first one and its cause.
        """
        first: tuple[int, str] | None = None
        for kind, findings in ((_loss_cause, self._losses), (_gradient_cause, self._gradients)):
            for names, found in findings.items():
                for name, step, value in zip(names, found.step.tolist(), found.value.tolist(), strict=True):
                    if step >= 0 and (first is None or step < first[0]):
                        first = step, kind(name, value)
        if first is not None:
            kept = f"; the last good checkpoint is kept in {self._checkpoint}" if self._checkpoint.exists() else ""
            raise UserError(
                f"Stopped at step {first[0]} because {first[1]}{kept}; try smaller optim.rates or another seed."
            )

    def _note(
        self,
        findings: dict[tuple[str, ...], _Findings],
        step: int,
        names: tuple[str, ...],
        values: Float[Tensor, " K"],
        bad: Bool[Tensor, " K"],
    ) -> None:
        if names not in findings:  # the shape stops learning, a loss begins: a few sets of names in a run
            findings[names] = _Findings(torch.full((len(names),), -1, device=self._device), torch.zeros_like(values))
        found = findings[names]
        new = bad & (found.step < 0)
        found.step, found.value = torch.where(new, step, found.step), torch.where(new, values, found.value)
        if self._at_once:
            self.verify()


def _loss_cause(name: str, value: float) -> str:
    return f"the {name} loss {'is not a number' if math.isnan(value) else f'exploded to {value:.3g}'}"


def _gradient_cause(name: str, value: float) -> str:
    return f"the gradient of {name} is not finite"
