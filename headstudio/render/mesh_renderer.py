"""A textured mesh, drawn so that its texels and its vertices can be learned.

Which triangle a pixel sees comes from the z-buffer of `render.mesh` and has no gradient. Everything else is torch:

1. Pictures are drawn `supersample` times larger and averaged.
2. A pixel's place on its triangle is computed again from the projected corners, and its colour from the texels around
   that place. So the colour has a gradient for the texels, and for the corners: moving them moves the texture.
3. Where a surface ends between two neighbouring pixels' centres, it either covers a part of the farther pixel or leaves
   a part of its own to what is behind: that pixel is blended with the other by this share. Steep edges are looked for
   between neighbours in a row, flat ones in a column, so each counts once. So the picture changes smoothly as an
   outline moves, and the vertices of the outline learn from it.

Source of 3: Laine et al. 2020, Modular primitives for high-performance differentiable rendering, section 3.4, on our
own code; unlike there, the outline is looked for beyond the triangle that the nearer pixel sees, as those at an outline
are often thinner than a pixel. What is thinner than a pixel altogether has no outline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from headstudio.avatar.texture import interpolation
from headstudio.camera import project
from headstudio.render.mesh import rasterise_pixels
from headstudio.types import Cameras, PosedMesh, Render

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class MeshRenderer:
    """Draws `PosedMesh` where `Renderer` draws Gaussians.

    `Render.means2d` and `radii` are empty. `alpha` and `depth` have no gradient: an opaque surface cannot fade, so the
    trainer's loss of sparsity does not reach it. Depth is that of the pixel's own surface, averaged, zero where
    nothing is hit.

    The z-buffer is filled on the CPU whatever the device is: on a GPU every call copies the projected vertices there
    and three pictures back, and waits for them. There gradients are added in no fixed order, as by any GPU renderer.

    Args:
        device: where it wants its inputs.
        supersample: pictures are drawn this many times larger and averaged; 1: as they are.
    """

    def __init__(self, device: str, *, supersample: int = 2) -> None:
        self.device, self.supersample = device, supersample

    def __call__(
        self, scene: PosedMesh, cameras: Cameras, background: Float[Tensor, "3"] | Float[Tensor, "B 3"], /
    ) -> Render:
        """See `headstudio.render.SceneRenderer`; gradients reach vertices and texels only."""
        seen = _see(scene, _larger(cameras, self.supersample))
        behind = background.detach().to(scene.vertices).expand(len(cameras), 3)[:, None, None]
        picture = antialiased(shaded(scene, seen, behind), scene, seen)
        rgb, alpha = self._smaller(picture).split((3, 1), 1)
        depth = torch.where(seen.face >= 0, seen.depth, 0.0)[..., None]
        none = rgb.new_zeros(len(cameras), 0)
        return Render(
            rgb=rgb.clamp(0, 1),
            alpha=alpha.detach().clamp(0, 1),
            depth=self._smaller(depth),
            means2d=none[..., None].expand(-1, -1, 2),
            radii=none.to(torch.int32),
        )

    def _smaller(self, picture: Float[Tensor, "B h w C"]) -> Float[Tensor, "B C H W"]:
        return avg_pool2d(picture.permute(0, 3, 1, 2), self.supersample)


@dataclass(frozen=True)
class _Seen:
    """What B cameras see of a mesh."""

    screen: Float[Tensor, "B V 3"]  # pixels x, y and camera-space depth of the vertices, with their gradient
    face: Int[Tensor, "B h w"]  # -1: none
    depth: Float[Tensor, "B h w"]  # inf: none

    def corners(self, faces: Int[Tensor, "F 3"], view: Int[Tensor, " K"], face: Int[Tensor, " K"]) -> Tensor:
        """(K, 3, 3): x, y and depth of the corners of K triangles, each in one view."""
        ids = faces.index_select(0, face) + (view * self.screen.shape[1])[:, None]
        return self.screen.flatten(0, 1).index_select(0, ids.flatten()).unflatten(0, (-1, 3))


def _see(scene: PosedMesh, cameras: Cameras) -> _Seen:
    pixels, depth = project(scene.vertices, cameras)
    face, _, zbuffer = rasterise_pixels(
        pixels.detach().cpu().double().numpy(),
        depth.detach().cpu().double().numpy(),
        scene.faces.cpu().numpy(),
        cameras.width,
        cameras.height,
    )
    return _Seen(
        screen=torch.cat((pixels, depth[..., None]), -1),
        face=torch.from_numpy(face).to(pixels.device, torch.int64),
        depth=torch.from_numpy(zbuffer).to(pixels),
    )


def _larger(cameras: Cameras, factor: int) -> Cameras:
    """The same views with so many times more pixels along each side."""
    intrinsics = cameras.intrinsics.clone()
    intrinsics[:, :2] *= factor
    return replace(cameras, intrinsics=intrinsics, width=cameras.width * factor, height=cameras.height * factor)


def shaded(scene: PosedMesh, seen: _Seen, behind: Float[Tensor, "B 1 1 3"]) -> Float[Tensor, "B h w 4"]:
    """RGB and coverage at the pixels' centres, jagged at the outlines."""
    hit = (seen.face >= 0).flatten().nonzero()[:, 0]
    view, centre = _places(hit, seen.face.shape, seen.screen)
    face = seen.face.flatten()[hit]
    corners = seen.corners(scene.faces, view, face)
    # linear in the picture; divided by the depth they are linear on the triangle
    weights = screen_weights(corners[..., :2], centre) / corners[..., 2]
    points, shares = interpolation(weights / weights.sum(-1, keepdim=True), scene.subdivisions)
    texels = scene.texel_ids.index_select(0, face).gather(1, points)
    colors = scene.texels.index_select(0, texels.flatten()).unflatten(0, (-1, 3))
    colors = (shares[..., None] * colors).sum(1)
    picture = torch.cat((behind.expand(*seen.face.shape, 3), torch.zeros_like(seen.depth)[..., None]), -1)
    found = torch.cat((colors, torch.ones_like(colors[:, :1])), -1)
    return picture.flatten(0, 2).index_copy(0, hit, found).unflatten(0, seen.face.shape)


def antialiased(picture: Float[Tensor, "B h w 4"], scene: PosedMesh, seen: _Seen) -> Float[Tensor, "B h w 4"]:
    """The picture with the pixels on outlines blended with their neighbours, across and down."""
    outline = _outline_edges(scene, seen)
    flat = picture.flatten(0, 2)
    smooth = flat
    number = torch.arange(seen.face.numel(), device=flat.device).reshape(seen.face.shape)
    pairs = ((0, number[:, :, :-1], number[:, :, 1:]), (1, number[:, :-1], number[:, 1:]))
    for axis, first, second in pairs:
        near, far, covered = _crossings(axis, first.flatten(), second.flatten(), scene, seen, outline)
        difference = flat.index_select(0, far) - flat.index_select(0, near)
        smooth = smooth.index_add(0, near, (0.5 - covered).clamp(min=0)[:, None] * difference)
        smooth = smooth.index_add(0, far, (covered - 0.5).clamp(min=0)[:, None] * -difference)
    return smooth.unflatten(0, seen.face.shape[:3])


def _crossings(
    axis: int, first: Int[Tensor, " K"], second: Int[Tensor, " K"], scene: PosedMesh, seen: _Seen, outline: Tensor
) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"], Float[Tensor, " M"]]:
    """Pairs of pixels between whose centres a surface ends: nearer and farther one, and how far it reaches (0 to 1).

    `axis` is that along which the pixels of a pair are neighbours: 0 for x.
    """
    face, depth = seen.face.flatten(), seen.depth.flatten()
    chosen = _may_end(face[first], face[second], scene.faces)
    first, second = first[chosen], second[chosen]
    swap = depth[second] < depth[first]
    near, far = torch.where(swap, second, first), torch.where(swap, first, second)
    mine, edge = _walk(near, far, face[near], scene, seen, outline)
    near, far, mine, edge = (values[edge >= 0] for values in (near, far, mine, edge))
    reach, corners = _reach(near, far, mine, scene, seen)
    along = (corners.roll(-1, 1) - corners.roll(-2, 1)).detach().abs()  # of the edge opposite to each corner
    steep = (along[..., 1] >= along[..., 0]).gather(1, edge[:, None])[:, 0]
    judged = steep if axis == 0 else ~steep
    covered = reach.gather(1, edge[:, None])[:, 0]
    return near[judged], far[judged], covered[judged].clamp(0, 1)


def _may_end(first: Int[Tensor, " K"], second: Int[Tensor, " K"], faces: Int[Tensor, "F 3"]) -> Int[Tensor, " M"]:
    """The pairs of faces between whose pixels a surface may end: not one triangle, nor two that touch."""
    different = (first != second).nonzero()[:, 0]
    first, second = first[different], second[different]
    both = (first >= 0) & (second >= 0)
    corners, others = faces[first.clamp(min=0)], faces[second.clamp(min=0)]
    touching = both & (corners[:, :, None] == others[:, None]).flatten(1).any(1)
    return different[~touching]


@torch.no_grad()
def _walk(
    near: Int[Tensor, " K"],
    far: Int[Tensor, " K"],
    face: Int[Tensor, " K"],
    scene: PosedMesh,
    seen: _Seen,
    outline: Tensor,
    *,
    hops: int = 8,
) -> tuple[Int[Tensor, " K"], Int[Tensor, " K"]]:
    """From the nearer pixel's centre straight towards the other's, from triangle to triangle, until the surface ends.

    Returns the last triangle, and which of its edges the outline is (by the opposite corner): -1 where the surface
    goes on to the other pixel's centre, or for more than `hops` triangles.
    """
    view = near // seen.face[0].numel()
    face, found = face.clone(), torch.full_like(face, -1)
    going = torch.arange(len(near), device=near.device)
    for _ in range(hops):
        reach, _ = _reach(near[going], far[going], face[going], scene, seen)
        covered, edge = reach.min(-1)
        going, edge = going[covered <= 1], edge[covered <= 1]
        ends = outline[view[going], face[going], edge]
        found[going[ends]] = edge[ends]
        going, edge = going[~ends], edge[~ends]
        face[going] = scene.neighbours[face[going], edge]
    return face, found


def _reach(
    near: Int[Tensor, " K"], far: Int[Tensor, " K"], face: Int[Tensor, " K"], scene: PosedMesh, seen: _Seen
) -> tuple[Float[Tensor, "K 3"], Float[Tensor, "K 3 2"]]:
    """Where the line from centre to centre leaves a triangle through each of its edges (0: near, 1: far), and corners.

    2 for edges through which it does not leave.
    """
    view, start = _places(near, seen.face.shape, seen.screen)
    corners = seen.corners(scene.faces, view, face)[..., :2]
    before = screen_weights(corners, start)
    falls = before - screen_weights(corners, _places(far, seen.face.shape, seen.screen)[1])
    return torch.where(falls > 0, before / torch.where(falls > 0, falls, 1.0), 2.0), corners


def _outline_edges(scene: PosedMesh, seen: _Seen) -> Tensor:
    """(B, F, 3): whether the surface ends, for the eye, at the edge opposite to each corner: open, or folded back."""
    corners = seen.screen.detach()[..., :2].index_select(1, scene.faces.flatten()).unflatten(1, (-1, 3))
    one, two = (corners[:, :, k] - corners[:, :, 0] for k in (1, 2))
    front = one[..., 0] * two[..., 1] - one[..., 1] * two[..., 0] > 0
    across = front[:, scene.neighbours.clamp(min=0)]
    return (scene.neighbours < 0) | (across != front[..., None])


def screen_weights(corners: Float[Tensor, "K 3 2"], point: Float[Tensor, "K 2"]) -> Float[Tensor, "K 3"]:
    """Barycentric weights of points in the picture; all of them are 0 or more inside the triangle."""
    (xa, ya), (xb, yb), (xc, yc) = (corner.unbind(-1) for corner in (corners - point[:, None]).unbind(1))
    parts = torch.stack((xb * yc - xc * yb, xc * ya - xa * yc, xa * yb - xb * ya), -1)
    total = parts.sum(-1, keepdim=True)
    return parts / torch.where(total == 0, 1.0, total)


def _places(number: Int[Tensor, " K"], shape: torch.Size, like: Tensor) -> tuple[Int[Tensor, " K"], Tensor]:
    """The view of each pixel that is numbered through (B, h, w), and its centre (K, 2): x, y."""
    _, height, width = shape
    column, row = number % width, number // width % height
    return number // (height * width), torch.stack((column, row), -1).to(like) + 0.5
