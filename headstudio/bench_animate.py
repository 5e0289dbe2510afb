"""How fast a finished head is animated: `python -m headstudio.bench animate [--run RUN]`.

Protocol. Frames are made one at a time, as a viewer makes them: a new pose of a talking face, one camera in front, a
white background; no batches, no film is written. *Deform* is the head's mesh with its expression and joints, its
triangles' frames and every Gaussian in the world; *draw* is the picture of the deformed Gaussians; *both* is one after
the other. Medians after a warm-up. Without a run the avatar is the default's at its first step, made opaque: as many
Gaussians as triangles times two, as wide as they begin. A finished one has about as many, smaller ones. On a GPU the
clock stops when the picture is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from headstudio import cli
from headstudio.bench import Measurement, measure
from headstudio.camera import cameras_from_orbit
from headstudio.device import wait_for
from headstudio.opened import open_run
from headstudio.run import make, register_resolvers
from headstudio.types import Cameras, Pose

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from headstudio.render import Renderer, SceneRenderer

SIZES = (256, 512, 1024)
FRAMES = 48
ELEVATION_DEG, DISTANCE, FOVY_DEG, TARGET = 6.0, 1.85, 68.0, (0.0, 0.05, 0.0)  # of a run's own films


def bench_animate(run: Path | None = None) -> Iterator[Measurement]:
    """Deform, draw, both, on every renderer that works here.

    Args:
        run: a finished run's directory.

    Raises:
        UserError: as `opened.open_run`.
    """
    config = _default() if run is None else open_run(run).config
    for name, renderer in renderers().items():
        avatar, draw = _first(config, renderer) if run is None else open_run(run).drawn_by(renderer)
        film = make(config.motion)(avatar.head).sequence(FRAMES / 24, 24.0, torch.Generator().manual_seed(0))
        yield from _measured(name, avatar, draw, film)


def renderers() -> dict[str, Renderer]:
    """The CPU's, and the GPU's where there is one."""
    from headstudio.render.cpu import CpuRenderer
    from headstudio.render.cuda import CudaRenderer, missing

    found: dict[str, Renderer] = {"CPU": CpuRenderer()}
    if not missing():
        found["GPU"] = CudaRenderer(packed=False, absgrad=False)
    return found


def _default() -> DictConfig:
    """The setting of a default run."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(cli.conf_dir()), version_base="1.3"):
        return compose("config")


def _first(config: DictConfig, renderer: Renderer) -> tuple[Any, SceneRenderer]:
    """Its avatar before the first step, but opaque."""
    generator = torch.Generator().manual_seed(0)
    avatar = make(config.representation)(make(config.head), generator, init=make(config.init)).to(renderer.device)
    with torch.no_grad():
        avatar.opacity_logits.fill_(2.0)
    return avatar, avatar.renderer(renderer)


@torch.no_grad()
def _measured(name: str, avatar: Any, draw: SceneRenderer, film: Pose) -> Iterator[Measurement]:
    device = avatar.head.v_template.device
    film = film.to(device)
    poses = cycle([Pose(film.expression[n : n + 1], film.joints[n : n + 1]) for n in range(len(film))])

    def deform() -> Any:
        return avatar.pose(next(poses))[2]

    scene, background = deform(), torch.ones(3, device=device)
    yield _line(f"{name}: deform {avatar.num_gaussians} Gaussians", deform, device)
    for size in SIZES:
        camera = cameras_from_orbit(0.0, ELEVATION_DEG, DISTANCE, FOVY_DEG, size, size, TARGET).to(device)

        def both(camera: Cameras = camera) -> Any:
            return draw(deform(), camera, background)

        yield _line(f"{name}: draw {size}x{size}", partial(draw, scene, camera, background), device)
        yield _line(f"{name}: both {size}x{size}", both, device)


def _line(name: str, work: Callable[[], Any], device: torch.device) -> Measurement:
    def finished() -> None:
        work()
        wait_for(device)

    seconds = measure(finished)
    return Measurement(name, seconds, note=f"{1 / seconds:.1f} fps")
