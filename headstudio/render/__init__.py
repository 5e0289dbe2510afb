"""Drawing Gaussians: one function, three ways to compute it.

`cuda.CudaRenderer` (gsplat), `cpu.CpuRenderer` (our kernels) and `reference.ReferenceRenderer` (slow, dense,
float64, the oracle of the tests) all draw the picture that these rules define; they are gsplat's "classic" mode.

1. A Gaussian is skipped by a camera when its centre's depth z is below `NEAR_PLANE` (world units).
2. Its 2D covariance is J W S W' J' + `BLUR_PX2` I, where J is the Jacobian of the pinhole projection at the
   centre; the centre's x/z and y/z enter J (and only J) clamped to 1.3 fields of view, as in gsplat.
3. Gaussians are drawn front to back by z rounded to float32; equal z keep the order of their index.
4. alpha = min(`MAX_ALPHA`, opacity * exp(-d' C^-1 d / 2)) at the pixel's centre. Below `MIN_ALPHA` it is skipped.
5. A pixel is finished by the first Gaussian that would bring its transmittance to `MIN_TRANSMITTANCE` or less;
   that Gaussian itself is not drawn.
6. rgb = sum(weight * colour) + transmittance * background, depth = sum(weight * z), alpha = sum(weight),
   where weight = alpha * transmittance in front of the Gaussian.

Rules 1 and 3-5 have no gradient of their own: a clamped or skipped alpha passes none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.types import Cameras, Gaussians, Render

NEAR_PLANE = 0.01  # world units
BLUR_PX2 = 0.3  # pixels squared, added to both variances
JACOBIAN_MARGIN = 0.3  # fraction of half the field of view beyond the picture's edge
MAX_ALPHA = 0.999
MIN_ALPHA = 1.0 / 255.0
MIN_TRANSMITTANCE = 1e-4


class Renderer(Protocol):
    """Anything that draws Gaussians at P poses (P is 1 or B) with B cameras.

    `device` is where it wants its inputs, as torch spells it.
    """

    device: str

    def __call__(
        self, gaussians: Gaussians, cameras: Cameras, background: Float[Tensor, "3"] | Float[Tensor, "B 3"]
    ) -> Render:
        """Draw; gradients reach means, quats, scales, opacities, colours and the returned `means2d`.

        `background` is RGB in [0, 1], one for all cameras or one each. The cameras get no gradient.
        """
        ...


class SceneRenderer(Protocol):
    """What draws a representation's own scenes: Gaussians for a `Renderer`, a mesh for `render.mesh.MeshRenderer`."""

    device: str

    def __call__(
        self, scene: Any, cameras: Cameras, background: Float[Tensor, "3"] | Float[Tensor, "B 3"], /
    ) -> Render:
        """As `Renderer.__call__`; gradients reach what of the scene is learned."""
        ...
