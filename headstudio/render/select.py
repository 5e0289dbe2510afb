"""`renderer=auto`: the GPU where it can be used, else the CPU."""

from __future__ import annotations

import logging
from functools import cache

from headstudio.render import Renderer
from headstudio.render.cpu import CpuRenderer
from headstudio.render.cuda import CudaRenderer, missing

log = logging.getLogger(__name__)


def auto_renderer() -> Renderer:
    """What a run draws with: `best_renderer`, and a line, once, that says why it is not the GPU."""
    renderer = best_renderer()
    if isinstance(renderer, CpuRenderer):
        _tell(missing())
    return renderer


@cache
def _tell(lacking: str) -> None:
    log.info("Rendering on the CPU, for want of %s", lacking)


def best_renderer() -> Renderer:
    """A `CudaRenderer` when torch sees a GPU and gsplat has its kernels, else a `CpuRenderer` on all cores.

    The former is unpacked and has signed gradients, as the CPU's has; renderer=cuda offers the choice.
    """
    return CpuRenderer() if missing() else CudaRenderer(packed=False, absgrad=False)
