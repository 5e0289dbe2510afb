"""`renderer=auto`: the GPU where it can be used, else the CPU."""

from __future__ import annotations

import logging

from headstudio.render import Renderer
from headstudio.render.cpu import CpuRenderer
from headstudio.render.cuda import CudaRenderer, missing

log = logging.getLogger(__name__)


def auto_renderer() -> Renderer:
    """A `CudaRenderer` when torch sees a GPU and gsplat has its kernels, else a `CpuRenderer` on all cores.

    The former is unpacked and has signed gradients, as the CPU's has; renderer=cuda offers the choice.
    """
    lacking = missing()
    if not lacking:
        return CudaRenderer(packed=False, absgrad=False)
    log.info("Rendering on the CPU: renderer=cuda would need %s", lacking)
    return CpuRenderer()
