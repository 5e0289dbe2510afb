"""Adam with one learning rate per parameter of the avatar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from headstudio.errors import UserError
from headstudio.schedule import Constant, Schedule


class Adam:
    """Makes and steers the optimiser: one parameter group per named parameter of the avatar.

    Args:
        betas: Adam's (paper, section 4.4: 0.9 and 0.99).
        rates: learning rate per parameter name: a number, or a schedule `step -> number`.
        eps: Adam's; small, as the gradients of score distillation are (value of 3DGS).
    """

    def __init__(self, *, betas: Sequence[float], rates: Mapping[str, float | Schedule], eps: float = 1e-15) -> None:
        self.betas = (float(betas[0]), float(betas[1]))
        self.rates = {n: rate if callable(rate) else Constant(value=rate) for n, rate in rates.items()}
        self.eps = eps

    def __call__(self, avatar: nn.Module) -> torch.optim.Adam:
        """The optimiser of an avatar's parameters.

        Raises:
            UserError: if a parameter has no rate, or a rate no parameter.
        """
        parameters = dict(avatar.named_parameters())
        if set(parameters) != set(self.rates):
            raise UserError(
                f"optim.rates names {sorted(self.rates)}, but this representation learns {sorted(parameters)}; "
                "give each of them one rate."
            )
        groups = [{"params": [p], "name": n, "lr": self.rates[n](0)} for n, p in parameters.items()]
        return torch.optim.Adam(groups, betas=self.betas, eps=self.eps)

    def set_rates(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Give every group the rate of this step."""
        for group in optimizer.param_groups:
            group["lr"] = self.rates[group["name"]](step)
