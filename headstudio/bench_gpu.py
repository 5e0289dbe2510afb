"""`python -m headstudio.bench_gpu`: what a GPU does with the paper's sizes, and whether it draws the right picture.

Three parts: the pictures and gradients of gsplat against the dense float64 reference; the seconds of drawing and
posing; and a training loop with networks of Stable Diffusion's real size and random weights, which cost what real ones
cost. Every part takes a device, so that the tests run them small on a CPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstudio.bench import Measurement, covered_ellipsoid, machine, measure, turned_cameras
from headstudio.errors import UserError
from headstudio.log import NoLogger

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from headstudio.render import Renderer
    from headstudio.types import Cameras, Gaussians

INPUTS = ("means", "quats", "scales", "opacities", "colors")
COUNTS, SIZES, BATCH = (20_000, 50_000, 100_000, 400_000), (512, 1024), 8
TRAINING = (
    "scale=paper", "recipe=paper", "prior=rv51", "guidance=fsds_denoised", "control=mediapipe", "metrics=none",
    "logger=none", "renderer=cuda", "scale.steps=41", "scale.log_every_steps=10", "scale.picture_every_steps=0",
    "scale.checkpoint_every_steps=1000", "scale.grow.first=15", "scale.grow.last=15",
)  # fmt: skip
"""The paper's step: 8 views of 1024 x 1024, ten Gaussians on every triangle, one densification on the way."""


def parity(renderer: Renderer, *, count: int = 200, width: int = 64, height: int = 48) -> Iterator[tuple[str, float]]:
    """How far pictures and gradients are from the dense reference on the same device.

    Yields names and numbers: the largest absolute difference of a picture, over pixels where no threshold of the
    rules is near, and the size of each gradient's difference relative to the gradient's own.
    """
    import torch

    from headstudio.render.reference import ReferenceRenderer

    device = torch.device(renderer.device)
    dense = ReferenceRenderer()
    for poses in (1, 2):
        scene = _posed(covered_ellipsoid(count), poses).to(device)
        cameras = replace(turned_cameras(2, width), height=height).to(device)
        background = torch.rand(2, 3, generator=torch.Generator().manual_seed(0)).to(device)
        with torch.no_grad():
            decided = dense.render_with_margin(scene, cameras, background)[1] > 1e-5
        ours, truth = (_with_gradients(r, scene, cameras, background, decided) for r in (renderer, dense))
        for name, expected in truth.items():
            difference = (ours[name].double() - expected).abs()
            if name in ("rgb", "alpha", "depth"):
                yield f"{name}, {poses} pose(s)", float(difference.max())
            else:
                yield f"gradient of {name}, {poses} pose(s)", float(difference.norm() / expected.norm())


def _posed(gaussians: Gaussians, poses: int) -> Gaussians:
    """The scene at several poses, each a little larger than the one before."""
    import torch

    grown = [gaussians.means * (1 + 0.1 * pose) for pose in range(poses)]
    return replace(
        gaussians,
        means=torch.cat(grown),
        quats=gaussians.quats.repeat(poses, 1, 1),
        scales=gaussians.scales.repeat(poses, 1, 1),
    )


def _with_gradients(
    renderer: Renderer, scene: Gaussians, cameras: Cameras, background: Tensor, decided: Tensor
) -> dict[str, Tensor]:
    """Pictures, and the gradients of a fixed function of those pixels that are `decided`."""
    import torch

    inputs = replace(scene, **{name: getattr(scene, name).clone().requires_grad_() for name in INPUTS})
    render = renderer(inputs, cameras, background)
    pictures = torch.cat((render.rgb, render.alpha, render.depth), 1) * decided[:, None]
    weights = torch.rand(pictures.shape, generator=torch.Generator().manual_seed(1)).to(pictures)
    (pictures * (weights - 0.5)).sum().backward()
    found = {name: getattr(inputs, name).grad for name in INPUTS} | {"means2d": render.means2d.grad}
    return {
        "rgb": pictures[:, :3].detach(),
        "alpha": pictures[:, 3].detach(),
        "depth": pictures[:, 4].detach(),
        **found,
    }


def drawing(
    renderer: Renderer,
    *,
    counts: Sequence[int] = COUNTS,
    sizes: Sequence[int] = SIZES,
    batch: int = BATCH,
    at_least_s: float = 1.0,
) -> Iterator[Measurement]:
    """Seconds of drawing: one view of each size, and `batch` views of the last size with gradients."""
    import torch

    device = torch.device(renderer.device)
    for count in counts:
        scene = covered_ellipsoid(count).to(device)
        for size in sizes:
            seconds = _timed(_draws(renderer, scene, turned_cameras(1, size).to(device)), device, at_least_s)
            yield Measurement(f"draw {count:,} Gaussians, {size}x{size}", seconds, note=f"{1 / seconds:.1f} fps")
        cameras = turned_cameras(batch, sizes[-1]).to(device)
        for name, backward in (("forward", False), ("forward+backward", True)):
            seconds = _timed(_draws(renderer, scene, cameras, backward), device, at_least_s)
            yield Measurement(f"  {batch} views, {sizes[-1]}x{sizes[-1]}, {name}", seconds)


def _draws(renderer: Renderer, scene: Gaussians, cameras: Cameras, backward: bool = False) -> Callable[[], object]:
    import torch

    background = torch.ones(3, device=scene.means.device)
    inputs = replace(scene, **{name: getattr(scene, name).clone().requires_grad_(backward) for name in INPUTS})

    def work() -> None:
        with torch.set_grad_enabled(backward):
            rgb = renderer(inputs, cameras, background).rgb
        if backward:
            rgb.square().mean().backward()
            for name in INPUTS:
                getattr(inputs, name).grad = None

    return work


def animating(
    renderer: Renderer, *, per_triangle: int = 10, size: int = 1024, at_least_s: float = 1.0
) -> Iterator[Measurement]:
    """Frames per second of an avatar on the open head: posing it, drawing it, and both, one picture at a time."""
    import torch

    from headstudio.avatar.init import SuperResolution
    from headstudio.avatar.rigged import RiggedGaussians
    from headstudio.head.anny import load_anny

    device = torch.device(renderer.device)
    init = SuperResolution(per_triangle=per_triangle, neighbours=3, distance_power=2)
    look: dict[str, Any] = {"initial_color": (0.5, 0.5, 0.5), "initial_opacity": 0.6}
    head, generator = load_anny(num_shape=10), torch.Generator().manual_seed(0)
    avatar = RiggedGaussians(head, generator, init=init, **look).to(device)
    pose, cameras = head.neutral_pose().to(device), turned_cameras(1, size).to(device)
    with torch.no_grad():
        _, _, still = avatar.pose(pose)

    def both() -> None:
        with torch.no_grad():
            renderer(avatar.pose(pose)[2], cameras, torch.ones(3, device=device))

    def posing() -> None:
        with torch.no_grad():
            avatar.pose(pose)

    work = {"pose": posing, "draw": _draws(renderer, still, cameras), "pose and draw": both}
    for name, one in work.items():
        seconds = _timed(one, device, at_least_s)
        title = f"{name} {avatar.num_gaussians:,} Gaussians, {size}x{size}"
        yield Measurement(title, seconds, note=f"{1 / seconds:.1f} fps")


def _timed(work: Callable[[], object], device: torch.device, at_least_s: float) -> float:
    """Median seconds until the device has done the work."""
    import torch

    def done() -> None:
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize()

    return measure(done, at_least_s=at_least_s)


class _Rows(NoLogger):
    """Keeps the rows that the loop logs."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def values(self, step: int, values: Mapping[str, float]) -> None:
        self.rows.append(dict(values))


def training(overrides: Sequence[str], folder: Path) -> Iterator[Measurement]:
    """The seconds of a training step and of its phases, and the peak memory of a short run.

    Args:
        overrides: the run's options, as on the command line of `headstudio.run`.
        folder: where the run may write.

    Raises:
        UserError: as the run.
    """
    from hydra import compose, initialize_config_dir

    from headstudio import quantities, run
    from headstudio.cli import conf_dir
    from headstudio.record import PeakMemory
    from headstudio.runstate import RunPaths

    run.register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=list(overrides))
    run.check(config)
    memory, logger = PeakMemory(), _Rows()
    parts, paths = run.build(config), RunPaths(folder)
    paths.prepare()
    report = run.make(config.trainer).fit(parts, paths, "bench", logger, None)
    laps = [row[quantities.STEP_SECONDS] for row in logger.rows if quantities.STEP_SECONDS in row]
    step = min(laps[1:] or laps)  # the first lap still fills caches; a densification lies in one of the others
    views = config.scale.batch_size
    size = f"{config.scale.width}x{config.scale.height}"
    title = f"training step, {views} views of {size}, {parts.avatar.num_gaussians:,} Gaussians"
    yield Measurement(title, step, note=f"{1 / step:.2f} it/s")
    for phase, seconds in report.phases.items():
        yield Measurement(f"  {phase}", seconds, note=f"{100 * seconds / sum(report.phases.values()):.0f} %")
    yield Measurement(f"  peak memory {memory.gigabytes():.1f} GB; whole run", report.seconds)


def lines(overrides: Sequence[str]) -> Iterator[tuple[str, Measurement | None]]:
    """The whole report, line by line, with the measurement that a line shows."""
    from headstudio.render.cuda import CudaRenderer
    from headstudio.standins.diffusion import write_prior

    for packed in (False, True):
        renderer = CudaRenderer(packed=packed, absgrad=False)
        yield f"renderer=cuda renderer.packed={str(packed).lower()}", None
        for name, value in parity(renderer):
            yield f"  {name:56s} differs from the reference by {value:.1e}", None
        for part in (drawing, animating):
            for measurement in part(renderer):
                yield measurement.line(), measurement
    with tempfile.TemporaryDirectory() as folder:
        prior = [] if any(o.startswith("prior.path=") for o in overrides) else write_prior(
            Path(folder, "prior"), "rv51", divisor=1, variant="fp16"
        ).overrides()  # fmt: skip
        for measurement in training((*TRAINING, *prior, *overrides), Path(folder, "run")):
            yield measurement.line(), measurement


def main(words: Sequence[str] | None = None) -> int:
    """Print the report; exit code 2 with one sentence where there is no GPU to measure."""
    parser = argparse.ArgumentParser(prog="python -m headstudio.bench_gpu", description="Measure this machine's GPU.")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="options of the training loop, for example "
                        "prior.path=FOLDER for real weights, memory=12gb, scale.batch_size=4")  # fmt: skip
    parser.add_argument("--text", type=Path, metavar="FILE", help="also write the report to this file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to this file")
    chosen = parser.parse_args(words)
    from headstudio.render.cuda import missing

    if lacking := missing():
        sys.stderr.write(f"The GPU benchmark needs {lacking}; python -m headstudio.bench measures a CPU.\n")
        return 2
    import torch

    about = machine() | {"gpu": torch.cuda.get_device_name()}
    printed = [f"{about['gpu']}, {about['processor']}, torch {about['torch']}, load {about['load_before']:.1f}"]
    sys.stdout.write(f"{printed[0]}\n")
    measurements: list[Measurement] = []
    try:
        for line, measurement in lines(chosen.overrides):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
            printed.append(line)
            measurements += [measurement] if measurement else []
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        if chosen.text:
            chosen.text.write_text("\n".join(printed) + "\n", encoding="utf-8")
        if chosen.json:
            content = {"machine": about, "measurements": [asdict(m) for m in measurements]}
            chosen.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
