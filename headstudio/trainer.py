"""The loop: six hops make one step, and each returns a typed value."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from headstudio import quantities
from headstudio.device import numbers, reading_is_free, to_device
from headstudio.evaluate import Watch
from headstudio.guidance.memory import explained_oom
from headstudio.health import Health
from headstudio.interrupt import Interrupted, StopRequest
from headstudio.log import Logger, picture_name
from headstudio.optim import Adam
from headstudio.progress import Progress
from headstudio.reg import sparsity
from headstudio.render.background import backgrounds
from headstudio.runstate import RunPaths, save_checkpoint
from headstudio.timer import PhaseTimer

if TYPE_CHECKING:
    from headstudio.avatar.densify import Densification
    from headstudio.avatar.representation import Representation
    from headstudio.guidance.control import Control
    from headstudio.guidance.distill import ScoreDistillation
    from headstudio.motion import Motion
    from headstudio.reg import Regularisation
    from headstudio.render import SceneRenderer
    from headstudio.types import Cameras, Render

log = logging.getLogger(__name__)
NOBODY = Watch({}, "")
STOPPING = "Stopping after this step; saving (Ctrl-C again stops at once, without) ..."


@dataclass(frozen=True)
class Parts:
    """What a step calls, in the order of the step."""

    camera: Callable[[int, torch.Generator], Cameras]
    motion: Motion
    avatar: Representation
    renderer: SceneRenderer
    control: Control
    guidance: ScoreDistillation
    reg: Regularisation
    densify: Densification
    optim: Adam
    generator: torch.Generator  # the only source of randomness; lives on the CPU
    device: torch.device


@dataclass(frozen=True)
class StepResult:
    """What one step leaves behind, on the device."""

    losses: Mapping[str, torch.Tensor]
    info: Mapping[str, float | torch.Tensor]
    render: Render
    control: torch.Tensor | None
    cameras: Cameras


@dataclass(frozen=True)
class FitReport:
    """How the fit went, over all processes that had a share: steps, seconds, mean seconds per phase of a step."""

    steps: int
    seconds: float
    phases: dict[str, float]


class Trainer:
    """Optimises an avatar for a number of steps, saving on the way.

    Args:
        steps: how many.
        shared_pose: all views of a step show one pose (as the official code does), or each its own.
        background: RGB in [0, 1] behind every picture; None draws a new colour for every view.
        lambda_sparsity: weight of the pictures' mean opacity (`reg.sparsity`); 0 leaves the loss out.
        shape_freeze_step: from this step on the head's shape no longer learns (paper, section 4.1).
        log_every_steps, checkpoint_every_steps: how often numbers and the whole state are written.
        picture_every_steps: how often a rendered view is logged; 0 is never.
        snapshot_every_steps: how often the guidance's view of things is written (noisy, one-step and denoised
            pictures, in `snapshots/`); 0 is never. It costs a dozen calls of the prior and changes nothing.
        loss_limit: a loss beyond this has exploded.
    """

    def __init__(
        self,
        *,
        steps: int,
        shared_pose: bool,
        background: Sequence[float] | None,
        lambda_sparsity: float,
        shape_freeze_step: int,
        log_every_steps: int,
        picture_every_steps: int,
        snapshot_every_steps: int,
        checkpoint_every_steps: int,
        loss_limit: float = 1e8,
    ) -> None:
        self.steps, self.shared_pose, self.shape_freeze_step = steps, shared_pose, shape_freeze_step
        self.background = None if background is None else torch.tensor([float(v) for v in background])
        self.lambda_sparsity = lambda_sparsity
        self.log_every_steps, self.picture_every_steps = log_every_steps, picture_every_steps
        self.snapshot_every_steps, self.checkpoint_every_steps = snapshot_every_steps, checkpoint_every_steps
        self.loss_limit = loss_limit

    def fit(
        self,
        parts: Parts,
        paths: RunPaths,
        signature: str,
        logger: Logger,
        saved: dict[str, Any] | None,
        watch: Watch = NOBODY,
    ) -> FitReport:
        """Run all steps that are still to do; afterwards `parts.avatar` is the finished avatar.

        Args:
            parts: what a step calls; the avatar, the densifier and the generator are changed.
            paths: where checkpoints go.
            signature: the run's, written into the checkpoint.
            logger: told the first step of this process, then numbers and pictures.
            saved: the checkpoint of an interrupted run, or None to begin.
            watch: looks at the avatar now and then; what it sees is logged.

        Raises:
            Interrupted: on Ctrl-C, SIGTERM or a scheduler's warning, after saving.
            UserError: if the loss is not a number or has exploded, naming step and cause; a GPU's memory that is full.
        """
        optimizer, first = self._start(parts, saved)
        logger.start(first)
        timer = PhaseTimer.continued(paths.timing, parts.device) if first else PhaseTimer(parts.device)
        health = Health(parts.device, loss_limit=self.loss_limit, checkpoint=paths.checkpoint)

        with StopRequest(STOPPING) as stop, Progress(first, self.steps) as progress:
            for step in range(first, self.steps):
                with explained_oom("training", parts.device):
                    result = self._step(step, parts, optimizer, timer, health)
                timer.end_step()
                last = step + 1 == self.steps
                logs = step % self.log_every_steps == 0 or last or watch.due(step)
                if logs:
                    health.verify()
                losses = numbers(result.losses) if logs or reading_is_free(parts.device) else {}
                progress.show(step, losses)
                if logs:
                    row = quantities.of_step(step, parts, optimizer, losses, result.info, timer)
                    logger.values(step, row | watch.see(step, parts.avatar, parts.renderer))
                if self.picture_every_steps and step % self.picture_every_steps == 0:
                    logger.picture(step, quantities.VIEW, result.render.rgb[0])
                if self.snapshot_every_steps and step % self.snapshot_every_steps == 0:
                    logger.picture(step, quantities.SNAPSHOT, _write_snapshot(step, parts, result, paths))
                stopping = stop.requested
                if (step + 1) % self.checkpoint_every_steps == 0 or last or stopping:
                    health.verify()
                    paths.check_owner()
                    save_checkpoint(paths.checkpoint, _state(parts, optimizer, step + 1, signature))
                    timer.save(paths.timing)
                if stopping:
                    raise Interrupted(
                        f"Stopped after step {step + 1} of {self.steps}; everything is saved in {paths.root}. "
                        "Start the same command again to go on from there.",
                        stopping,
                    )
        return FitReport(self.steps, timer.seconds, timer.means())

    def _step(
        self, step: int, parts: Parts, optimizer: torch.optim.Optimizer, timer: PhaseTimer, health: Health
    ) -> StepResult:
        """Cameras, pose, render, control, guidance, densify: one step, read aloud.

        Nothing here reads a value from an accelerator, so the host runs ahead and the device never waits for it
        (gsplat's own look at how much it has to sort is the exception, docs/gpu.md).
        """
        parts.optim.set_rates(optimizer, step)
        parts.avatar.shape.requires_grad_(step < self.shape_freeze_step)
        optimizer.zero_grad(set_to_none=True)

        cameras = to_device(parts.camera(step, parts.generator), parts.device)
        poses = 1 if self.shared_pose else len(cameras)
        pose = to_device(parts.motion.sample(poses, parts.generator), parts.device)
        background = to_device(backgrounds(self.background, len(cameras), parts.generator), parts.device)
        with timer("head"):
            posed, frames, gaussians = parts.avatar.pose(pose)
        with timer("render"):
            render = parts.renderer(gaussians, cameras, background)
        with timer("control"), torch.no_grad():
            control = parts.control.draw(posed, parts.avatar.head, cameras) if parts.guidance.use_control else None
        with timer("guidance"):
            guided = parts.guidance(render.rgb, control, cameras, step, parts.generator)
            losses = {"guidance": guided.loss, **parts.reg(parts.avatar, frames, step)}
            if self.lambda_sparsity:
                losses["sparsity"] = self.lambda_sparsity * sparsity(render.alpha)
        with timer("backward"):
            total = torch.stack(list(losses.values())).sum()
            health.losses(step, losses)
            total.backward()
            health.gradients(step, parts.avatar)
        with timer("optimiser"):
            optimizer.step()
        with timer("densify"), torch.no_grad():
            parts.densify.step(parts.avatar, optimizer, render, step, parts.generator)
        return StepResult({name: loss.detach() for name, loss in losses.items()}, guided.info, render, control, cameras)

    def _start(self, parts: Parts, saved: dict[str, Any] | None) -> tuple[torch.optim.Optimizer, int]:
        """The optimiser and the first step to do: from the checkpoint if there is one."""
        if saved is None:
            return parts.optim(parts.avatar), 0
        parts.avatar.load_state_dict(saved["avatar"])
        optimizer = parts.optim(parts.avatar)  # after the avatar: its parameters are new when their number changed
        optimizer.load_state_dict(saved["optimizer"])
        parts.densify.load_state_dict({name: value.to(parts.device) for name, value in saved["densify"].items()})
        parts.generator.set_state(saved["generator"])
        if "guidance" in saved:
            parts.guidance.load_state_dict(saved["guidance"])
        log.info("Going on from step %d of %d", saved["step"], self.steps)
        return optimizer, int(saved["step"])


def _write_snapshot(step: int, parts: Parts, result: StepResult, paths: RunPaths) -> Path:
    """What the guidance saw in this step's pictures, with randomness of its own so that looking changes nothing."""
    from headstudio.export.pictures import write_grid

    own = torch.Generator().manual_seed(step)
    rgb = result.render.rgb.detach()
    seen = parts.guidance.snapshot(rgb, result.control, result.cameras, step, own)
    rgb = torch.nn.functional.interpolate(rgb, size=seen.noisy.shape[-2:], mode="bilinear")  # the prior's size
    rows = {"render": rgb, "noisy": seen.noisy, "one step": seen.one_step, "denoised": seen.denoised}
    columns = [f"t = {int(t)}" for t in seen.timesteps]
    paths.snapshots.mkdir(exist_ok=True)
    path = paths.snapshots / picture_name(step)
    write_grid([list(row.cpu()) for row in rows.values()], path, row_labels=list(rows), column_labels=columns)
    return path


def _state(parts: Parts, optimizer: torch.optim.Optimizer, step: int, signature: str) -> dict[str, Any]:
    """Everything that the steps from `step` on depend on, and nothing that differs between two equal runs."""
    learnt = parts.guidance.state_dict()
    return {
        "signature": signature,
        "step": step,
        "avatar": parts.avatar.state_dict(),
        "optimizer": optimizer.state_dict(),
        "densify": parts.densify.state_dict(),
        "generator": parts.generator.get_state(),
        **({"guidance": learnt} if learnt else {}),
    }
