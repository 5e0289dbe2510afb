"""What is logged of a step and under which names: the same in `metrics.jsonl` and in W&B.

The word before the slash is a group; W&B makes a section of each. docs/wandb.md lists all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from headstudio.device import numbers
from headstudio.schedule import in_force

if TYPE_CHECKING:
    from headstudio.timer import PhaseTimer
    from headstudio.trainer import Parts

LOSS, GUIDANCE, SCHEDULE, RATE = "loss", "guidance", "schedule", "rate"
AVATAR, SECONDS, MACHINE, PICTURES = "avatar", "seconds", "machine", "pictures"

TOTAL = f"{LOSS}/total"
GAUSSIANS = f"{AVATAR}/gaussians"
STEP_SECONDS = f"{SECONDS}/step"
MEMORY, GPU_MEMORY = f"{MACHINE}/memory_gb", f"{MACHINE}/gpu_memory_gb"
VIEW, SNAPSHOT = "view", "snapshot"  # pictures on the way


def of_step(
    step: int,
    parts: Parts,
    optimizer: torch.optim.Optimizer,
    losses: Mapping[str, float],
    info: Mapping[str, float | torch.Tensor],
    timer: PhaseTimer,
) -> dict[str, float]:
    """One row, to be logged after step `step`.

    Args:
        step: what the schedules read.
        parts: guidance and regularisation may hold schedules; the avatar has a number of Gaussians.
        optimizer: one group per parameter of the avatar, with its name and present rate.
        losses: as they were added up.
        info: what the guidance tells of itself, as numbers or as 0-dim tensors that are read here.
        timer: asked for the mean seconds per step since the row before this one.
    """
    scheduled = in_force(parts.guidance, step) | in_force(parts.reg, step)
    rates = {group["name"]: float(group["lr"]) for group in optimizer.param_groups}
    return (
        {TOTAL: sum(losses.values())}
        | _grouped(LOSS, losses)
        | _grouped(GUIDANCE, numbers(info))
        | _grouped(SCHEDULE, scheduled)
        | _grouped(RATE, rates)
        | {GAUSSIANS: float(parts.avatar.num_gaussians)}
        | _grouped(SECONDS, {name: round(seconds, 6) for name, seconds in timer.lap().items()})
        | memory()
    )


def memory() -> dict[str, float]:
    """Resident memory of this process, and what tensors take of the GPU where one is used (10^9 bytes)."""
    import psutil

    found = {MEMORY: round(psutil.Process().memory_info().rss / 1e9, 3)}
    if torch.cuda.is_initialized():
        found[GPU_MEMORY] = round(torch.cuda.memory_allocated() / 1e9, 3)
    return found


def repeatable(row: Mapping[str, float]) -> dict[str, float]:
    """The part of a row that two equal runs have in common: all but what the clock and the machine say."""
    return {name: value for name, value in row.items() if name.split("/")[0] not in (SECONDS, MACHINE)}


def _grouped(group: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{group}/{name}": value for name, value in values.items()}
