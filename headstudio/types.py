"""Frozen values that travel between the parts of a training step.

Conventions (one place, everywhere true):

* World: right-handed, x right, y up, z towards the viewer of the face. The subject's left is +x.
  One world unit is what `head.model` documents (the head is centred and scaled by one similarity).
* Cameras: OpenCV (x right, y down, z forward), `camera_from_world`. Pixel (0, 0) has its centre
  at (0.5, 0.5), as in gsplat.
* Quaternions are wxyz. Rotations of joints are axis-angle in radians. Angles of cameras are degrees.
* Images are RGB in [0, 1], `(B, 3, H, W)`.
* Batch letters: B cameras, P poses (1, or one per camera), N Gaussians, V vertices, F faces, J joints,
  S shape and E expression coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

T = TypeVar("T", bound="_Tensors")


@dataclass(frozen=True)
class _Tensors:
    """A frozen record whose tensor fields move together."""

    def to(self: T, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> T:
        """Move every tensor; floating tensors also change dtype."""
        moved = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if hasattr(value, "is_floating_point"):
                moved[field.name] = value.to(device=device, dtype=dtype if value.is_floating_point() else None)
        return replace(self, **moved)


@dataclass(frozen=True)
class Cameras(_Tensors):
    """A batch of B pinhole cameras that share one picture size.

    `azimuth_deg` is 0 in front of the face and grows as the camera moves towards the world's +x (the
    subject's left side), in (-180, 180]; `elevation_deg` is positive above the head's centre. `crops` names the region
    that each close view shows ("": the whole head); empty where all show the whole head.
    """

    camera_from_world: Float[Tensor, "B 4 4"]
    intrinsics: Float[Tensor, "B 3 3"]  # pixels
    azimuth_deg: Float[Tensor, " B"]
    elevation_deg: Float[Tensor, " B"]
    width: int
    height: int
    crops: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.camera_from_world.shape[0])


@dataclass(frozen=True)
class Pose(_Tensors):
    """What animates a head: P expressions (unitless weights) and P sets of joint rotations (axis-angle, rad)."""

    expression: Float[Tensor, "P E"]
    joints: Float[Tensor, "P J 3"]

    def __len__(self) -> int:
        return int(self.expression.shape[0])


@dataclass(frozen=True)
class ArkitMapping(_Tensors):
    """What each of ARKit's 52 weights (`motion.arkit.ARKIT_NAMES`) does to a head without ARKit's shapes, at weight 1.

    Weights add up: a pose's expression is weights times `expression`, its jaw weights times `jaw`.
    """

    expression: Float[Tensor, "52 E"]
    jaw: Float[Tensor, "52 3"]  # axis-angle (rad)


@dataclass(frozen=True)
class PosedHead(_Tensors):
    """A head evaluated at P poses: vertices and joint positions in world units."""

    vertices: Float[Tensor, "P V 3"]
    joints: Float[Tensor, "P J 3"]


@dataclass(frozen=True)
class Gaussians(_Tensors):
    """N world-space Gaussians at P poses, ready to rasterise. Opacities and colours do not depend on the pose.

    `scales` are standard deviations in world units (> 0), `opacities` and `colors` lie in [0, 1].
    """

    means: Float[Tensor, "P N 3"]
    quats: Float[Tensor, "P N 4"]
    scales: Float[Tensor, "P N 3"]
    opacities: Float[Tensor, " N"]
    colors: Float[Tensor, "N 3"]

    @property
    def points(self) -> Float[Tensor, "P N 3"]:
        """Where the matter is that `painted` gives a colour each."""
        return self.means

    def painted(self, colors: Float[Tensor, "N 3"]) -> Gaussians:
        """The same in other colours; any quantity in [0, 1] that a pixel should average can be one."""
        return replace(self, colors=colors)


@dataclass(frozen=True)
class PosedMesh(_Tensors):
    """An opaque mesh at P poses with T texels, ready to rasterise. Texels do not depend on the pose.

    A triangle's texels lie on a lattice that cuts each of its edges in `subdivisions` parts (`avatar.texture`), and
    `texel_ids` says which they are; between them the colour is linear.
    """

    vertices: Float[Tensor, "P V 3"]  # world units
    faces: Int[Tensor, "F 3"]
    neighbours: Int[Tensor, "F 3"]  # the face across the edge opposite to each corner; -1: none, or more than one
    texels: Float[Tensor, "T 3"]  # RGB in [0, 1]
    texel_ids: Int[Tensor, "F L"]  # L = (subdivisions + 1) (subdivisions + 2) / 2
    subdivisions: int

    @property
    def points(self) -> Float[Tensor, "P V 3"]:
        """As `Gaussians.points`."""
        return self.vertices

    def painted(self, colors: Float[Tensor, "V 3"]) -> PosedMesh:
        """The same with one colour per vertex, linear between them."""
        return replace(self, texels=colors, texel_ids=self.faces, subdivisions=1)


@dataclass(frozen=True)
class Render(_Tensors):
    """What a renderer returns for B cameras.

    `depth` is accumulated (sum of weight times z, world units), zero where nothing is hit. `means2d` is the
    tensor whose gradient densification reads: it is a leaf of the compositing graph with `retain_grad`.
    `radii` is 0 for Gaussians that a camera does not see.
    """

    rgb: Float[Tensor, "B 3 H W"]
    alpha: Float[Tensor, "B 1 H W"]
    depth: Float[Tensor, "B 1 H W"]
    means2d: Float[Tensor, "B N 2"]  # pixels
    radii: Int[Tensor, "B N"]  # pixels


@dataclass(frozen=True)
class Landmarks(_Tensors):
    """Posed landmark points: `polylines` says which consecutive points form which named line."""

    points: Float[Tensor, "P L 3"]  # world units
    polylines: tuple[tuple[str, int, int, bool], ...]  # (name, first, one past last, closed)


@dataclass(frozen=True)
class MeshRaster(_Tensors):
    """A z-buffered mesh: per pixel the face (-1: none), its barycentric weights and the camera-space depth."""

    face_index: Int[Tensor, "B H W"]
    barycentric: Float[Tensor, "B H W 3"]
    depth: Float[Tensor, "B H W"]  # inf where nothing is hit

    @property
    def hit(self) -> Bool[Tensor, "B H W"]:
        return self.face_index >= 0
