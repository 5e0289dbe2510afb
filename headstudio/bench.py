"""`python -m headstudio.bench`: how fast the parts are on this machine, as absolute numbers and as ratios.

Times are medians over repetitions after a warm-up; ratios say how many times faster than the named alternative.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from headstudio.errors import UserError

if TYPE_CHECKING:
    from headstudio.render import Renderer
    from headstudio.types import Cameras, Gaussians

HEAD_RADII = (0.5, 0.75, 0.6)  # world units: an ellipsoid of a head's size stands in for a head
DISTANCE, FOVY_DEG = 1.75, 60.0
SHORT_RUN = ("scale.steps=40", "densify.grow.first=20", "scale.gallery_seconds=0.1", "metrics=none", "logger=none")


@dataclass(frozen=True)
class Measurement:
    """One line of the report. `ratio` is None where nothing is compared; `versus` names what is."""

    name: str
    seconds: float
    ratio: float | None = None
    versus: str = ""
    note: str = ""

    def line(self) -> str:
        ratio = f"{self.ratio:8.1f} x {self.versus}" if self.ratio is not None else ""
        return f"{self.name:58s} {1e3 * self.seconds:9.1f} ms   {self.note:9s}{ratio}".rstrip()


def measure(work: Callable[[], object], *, at_least_s: float = 1.5, at_least_times: int = 3) -> float:
    """Median seconds of `work` after one call that doesn't count."""
    work()
    seconds: list[float] = []
    while len(seconds) < at_least_times or sum(seconds) < at_least_s:
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def covered_ellipsoid(count: int) -> Gaussians:
    """`count` half-transparent Gaussians on an ellipsoid, one deviation about as large as their spacing."""
    import torch

    from headstudio.types import Gaussians

    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(1, count, 3, generator=generator), dim=-1)
    spacing = math.sqrt(4 * math.pi * 0.61**2 / count)
    return Gaussians(
        means=directions * torch.tensor(HEAD_RADII),
        quats=torch.randn(1, count, 4, generator=generator),
        scales=spacing * torch.exp(0.3 * torch.randn(1, count, 3, generator=generator)),
        opacities=torch.sigmoid(torch.randn(count, generator=generator)),
        colors=torch.rand(count, 3, generator=generator),
    )


def turned_cameras(count: int, size: int) -> Cameras:
    """`count` square pictures from a ring around the origin."""
    import torch

    from headstudio.types import Cameras

    turn = torch.arange(count) * (2 * math.pi / max(count, 1))
    view = torch.eye(4).repeat(count, 1, 1)
    view[:, 0, 0], view[:, 0, 2], view[:, 2, 0], view[:, 2, 2] = turn.cos(), turn.sin(), -turn.sin(), turn.cos()
    view[:, 1, 1] = -1.0
    view[:, 0] *= -1.0
    view[:, 2, 3] = DISTANCE
    focal = 0.5 * size / math.tan(math.radians(FOVY_DEG) / 2)
    intrinsics = torch.tensor([[focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]])
    return Cameras(view, intrinsics.repeat(count, 1, 1), turn.rad2deg(), torch.zeros(count), size, size)


def _draw(renderer: Renderer, gaussians: Gaussians, cameras: Cameras, backward: bool) -> Callable[[], object]:
    """What to time: a render, with its gradient to every input if `backward`."""
    import torch

    background = torch.ones(3)
    if not backward:

        def forward() -> None:
            with torch.no_grad():
                renderer(gaussians, cameras, background)

        return forward
    names = ("means", "quats", "scales", "opacities", "colors")
    inputs = replace(gaussians, **{name: getattr(gaussians, name).clone().requires_grad_() for name in names})

    def both() -> None:
        renderer(inputs, cameras, background).rgb.square().mean().backward()

    return both


def bench_renderer() -> Iterator[Measurement]:
    """The CPU renderer against itself on one thread and against the dense reference on a scene it can hold."""
    from headstudio.render.cpu import CpuRenderer
    from headstudio.render.reference import ReferenceRenderer

    cases = (
        ("forward, 1024x1024, 50k Gaussians", 50_000, 1, 1024, False),
        ("forward+backward, 64x64, 20k Gaussians, 4 views", 20_000, 4, 64, True),
        ("forward+backward, 128x128, 18k Gaussians, 4 views", 18_000, 4, 128, True),
    )
    for name, count, views, size, backward in cases:
        scene = covered_ellipsoid(count), turned_cameras(views, size), backward
        all_cores, one = measure(_draw(CpuRenderer(), *scene)), measure(_draw(CpuRenderer(threads=1), *scene))
        note = f"{1 / all_cores:.1f} fps" if not backward else ""
        yield Measurement(f"render {name}", all_cores, one / all_cores, "one thread", note)
    scene = covered_ellipsoid(1_000), turned_cameras(1, 64), True
    ours = measure(_draw(CpuRenderer(), *scene))
    dense = measure(_draw(ReferenceRenderer(), *scene), at_least_s=0.0)
    yield Measurement(
        "render forward+backward, 64x64, 1k Gaussians, 1 view", ours, dense / ours, "dense torch, all cores"
    )
    dense = _with_one_torch_thread(lambda: measure(_draw(ReferenceRenderer(), *scene), at_least_s=0.0))
    yield Measurement("  the same", ours, dense / ours, "dense torch, one thread")


def _with_one_torch_thread(work: Callable[[], float]) -> float:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return work()
    finally:
        torch.set_num_threads(before)


def bench_step() -> Iterator[Measurement]:
    """Where the seconds of a training step go: a short run of the default scale, read from its metrics.

    Raises:
        UserError: when that run fails; its last line of output is quoted.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, "-m", "headstudio.run", *SHORT_RUN, f"hydra.run.dir={folder}/run"],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            last = (run.stderr or run.stdout).strip().splitlines()[-1:] or ["no output"]
            raise UserError(f"The run that the benchmark measures failed: {last[0]}")
        phases: dict[str, float] = json.loads(Path(folder, "run", "metrics.json").read_text())["phase_seconds"]
    total = sum(phases.values())
    yield Measurement("step of a default run", total)
    for phase, seconds in phases.items():
        yield Measurement(f"  {phase}", seconds, note=f"{100 * seconds / total:.0f} %")


def bench_help() -> Iterator[Measurement]:
    """Cold start of the command line, beside that of bare Python."""

    def started(*arguments: str) -> float:
        command = [sys.executable, *arguments]
        return measure(lambda: subprocess.run(command, capture_output=True, check=True), at_least_s=0.0)

    bare, usage = started("-c", "pass"), started("-m", "headstudio.run", "--help")
    yield Measurement("python -m headstudio.run --help", usage, bare / usage, "as fast as python -c pass")


def bench_sweep() -> Iterator[Measurement]:
    """What a thousand runs cost beside their own work."""
    from headstudio.sweep.bench import measurements

    for name, seconds, runs in measurements():
        yield Measurement(name, seconds / runs)


def bench_logging() -> Iterator[Measurement]:
    """What a logged row costs, spread over the steps between two rows."""
    from headstudio.log_bench import logging_cost

    for name, wandb in (("its own files", False), ("W&B's files as well, offline", True)):
        cost = logging_cost(wandb=wandb)
        yield Measurement(f"logging to {name}, per step", cost.step_s)
        yield Measurement("  a row, in the run's process", cost.row_s)
        yield Measurement("  a row, in W&B's process", cost.beside_s)
        yield Measurement("  start", cost.start_s)


def bench_animate(run: Path | None = None) -> Iterator[Measurement]:
    """How fast a head is deformed and drawn; `bench_animate.py` has the protocol."""
    from headstudio import bench_animate as animate

    yield from animate.bench_animate(run)


PARTS: dict[str, Callable[[], Iterator[Measurement]]] = {
    "renderer": bench_renderer,
    "step": bench_step,
    "help": bench_help,
    "sweep": bench_sweep,
    "logging": bench_logging,
    "animate": bench_animate,
}


def machine() -> dict[str, str | int | float]:
    """What the numbers depend on."""
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "processor": _processor(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else -1.0,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> int:
    """Print the report; exit code 1 when a part could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m headstudio.bench", description="Measure this machine.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--run", type=Path, help="animate this finished run's head instead of a made-up one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to this file")
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part called {unknown[0]}; there are {', '.join(PARTS)}")
    about = machine()
    print(f"{about['processor']}, cores: {about['cores']}, torch {about['torch']}, load {about['load_before']:.1f}")
    measurements: list[Measurement] = []
    failed = False
    parts = PARTS if arguments.run is None else PARTS | {"animate": partial(bench_animate, arguments.run)}
    for part in arguments.parts or parts:
        try:
            for measurement in parts[part]():
                measurements.append(measurement)
                print(measurement.line(), flush=True)
        except UserError as error:
            failed = True
            print(error, file=sys.stderr)
    if arguments.json:
        content = {"machine": about, "measurements": [asdict(measurement) for measurement in measurements]}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
