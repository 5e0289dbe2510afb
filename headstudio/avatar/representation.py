"""What an option of the group `representation` is.

A representation is drawn and changed by the parts that `run.py` made from the setting, and says itself which of them
fit it: a mesh has no Gaussians to clone, an unrigged Gaussian has no triangle to stay on. So one setting serves all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from headstudio.head.model import HeadModel

if TYPE_CHECKING:
    from headstudio.avatar.densify import Densification
    from headstudio.avatar.frames import Frames
    from headstudio.optim import Adam
    from headstudio.reg import Regularisation
    from headstudio.render import Renderer, SceneRenderer
    from headstudio.types import Gaussians, Pose, PosedHead, PosedMesh


class Representation(nn.Module):
    """A module whose parameters are learned, with the head that they belong to.

    Its constructor takes the head, a generator and `init` (`avatar.init`), then the option's own keys. The four methods
    below return the part that they are given; a representation overrides those that do not fit it.
    """

    head: HeadModel
    shape: Any  # (S,), the head's; zeros that nobody learns where the representation has no rig

    def pose(self, pose: Pose) -> tuple[PosedHead, Frames, Gaussians | PosedMesh]:
        """The head as it is drawn at P poses, its triangles' frames, and what a renderer draws."""
        raise NotImplementedError

    @property
    def num_gaussians(self) -> int:
        """0 where there are none."""
        return 0

    def renderer(self, given: Renderer) -> SceneRenderer:
        """What draws it: `given`, or something else where that draws Gaussians only."""
        return given

    def regularisation(self, given: Regularisation) -> Regularisation:
        """What keeps it in shape: `given`, or what takes its place here."""
        return given

    def densification(self, given: Densification) -> Densification:
        """What changes its number of Gaussians: `given`, or nothing."""
        return given

    def optimisation(self, given: Adam) -> Adam:
        """`given` with one rate for each parameter that this representation has."""
        return given
