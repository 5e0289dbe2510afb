"""What is optimised: Gaussians (or other matter) that a head carries.

A representation draws and changes by the parts that `run.py` made for it, and says itself which of them fit it: a mesh
has no Gaussians to clone, an unrigged Gaussian no triangle to stay on. So one setting serves all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor

    from headstudio.avatar.densify import Densification
    from headstudio.avatar.frames import Frames
    from headstudio.head.model import HeadModel
    from headstudio.optim import Adam
    from headstudio.reg import Regularisation
    from headstudio.render import Renderer, SceneRenderer
    from headstudio.types import Gaussians, Pose, PosedHead, PosedMesh


class Representation(Protocol):
    """What an option of the group `representation` makes: a torch module whose parameters are learned.

    `shape` (S,) is the head's; a representation without a rig has zeros that nobody learns. `num_gaussians` is 0 for
    what has none.
    """

    head: HeadModel

    @property
    def shape(self) -> Float[Tensor, " S"]: ...

    @property
    def num_gaussians(self) -> int: ...

    def pose(self, pose: Pose) -> tuple[PosedHead, Frames, Gaussians | PosedMesh]:
        """The head as it is drawn at P poses, its triangles' frames, and what a renderer draws."""
        ...

    def renderer(self, given: Renderer) -> SceneRenderer:
        """What draws this representation: `given`, or something else where that draws Gaussians only."""
        ...

    def regularisation(self, given: Regularisation) -> Regularisation:
        """What keeps it in shape: `given`, or what takes its place here."""
        ...

    def densification(self, given: Densification) -> Densification:
        """What changes its number of Gaussians: `given`, or nothing."""
        ...

    def optimisation(self, given: Adam) -> Adam:
        """`given` with one rate for each parameter that this representation has."""
        ...

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...
