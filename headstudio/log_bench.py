"""What logging costs: rows of a training run's size, into its files alone and into W&B's as well (offline)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

EVERY_STEPS, PICTURE_EVERY_ROWS, SIZE = 10, 10, 128  # as conf/scale/tiny.yaml has them


@dataclass(frozen=True)
class LoggingCost:
    """Seconds per row: of the process that trains, and of W&B's own process beside it."""

    row_s: float
    beside_s: float
    start_s: float

    @property
    def step_s(self) -> float:
        """Per training step, as if both had to wait for one another."""
        return (self.row_s + self.beside_s) / EVERY_STEPS


def logging_cost(*, wandb: bool, rows: int = 100, pause_s: float = 0.05) -> LoggingCost:
    """Log `rows` rows with a pause after each, a picture with every tenth.

    Args:
        wandb: into W&B's files too.
        rows: how many; the first two are left out.
        pause_s: what stands for the steps between them; in a run they take longer, and W&B gets no busier.
    """
    import torch

    from headstudio.log import JsonlLogger, Loggers, NoLogger

    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        more = _wandb(Path(folder)) if wandb else NoLogger()
        loggers = Loggers((JsonlLogger(Path(folder, "metrics.jsonl")), more))
        loggers.start(0)
        start_s = time.perf_counter() - begin
        row, picture = _row(), torch.rand(3, SIZE, SIZE)
        seconds, before = 0.0, 0.0
        for number in range(rows + 2):
            if number == 2:
                seconds, before = 0.0, _beside_s()
            begin = time.perf_counter()
            loggers.values(number * EVERY_STEPS, row(number * EVERY_STEPS))
            if number % PICTURE_EVERY_ROWS == 0:
                loggers.picture(number * EVERY_STEPS, "view", picture)
            seconds += time.perf_counter() - begin
            time.sleep(pause_s)
        beside_s = _beside_s() - before
        loggers.close()
    return LoggingCost(seconds / rows, beside_s / rows, start_s)


def _wandb(folder: Path) -> Any:
    from headstudio.wandb_log import WandbLogger

    return WandbLogger(
        project="bench",
        entity=None,
        mode="offline",
        job_type=None,
        tags=[],
        notes=None,
        directory=folder,
        signature="0" * 16,
        name="bench",
        group=None,
        config={},
    )


def _row() -> Callable[[int], dict[str, float]]:
    """The row of a step, with stand-ins for the parts: as many losses, schedules, rates and phases as a run has."""
    import torch

    from headstudio.quantities import of_step
    from headstudio.schedule import Constant, Linear
    from headstudio.timer import PhaseTimer

    falling = Linear(start=500, end=20, first_step=0, last_step=450)
    scale = Constant(value=4.0)
    guidance = SimpleNamespace(
        min_timestep=falling, max_timestep=falling, guidance_scale=scale, conditioning_scale=scale
    )
    parts: Any = SimpleNamespace(guidance=guidance, reg=SimpleNamespace(), avatar=SimpleNamespace(num_gaussians=18_000))
    names = ("means", "log_scales", "quats", "color_logits", "opacity_logits", "shape")
    optimizer = torch.optim.Adam([{"params": [torch.zeros(1)], "name": name, "lr": 1e-2} for name in names])
    losses = dict.fromkeys(("guidance", "reg_position", "reg_scale", "sparsity"), 123.456)
    info = {"timestep": 500.0, "gradient_norm": 1.234}
    timer = PhaseTimer()

    def row(step: int) -> dict[str, float]:
        for phase in ("head", "render", "control", "guidance", "backward", "optimiser", "densify"):
            with timer(phase):
                pass
        timer.end_step()
        return of_step(step, parts, optimizer, losses, info, timer)

    return row


def _beside_s() -> float:
    """Processor seconds of the processes that this one has started and that still run."""
    import psutil

    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(t.user + t.system for t in times)
