"""Pictures of procedural heads with ground truth: attributes, shape, pose and cameras in, picture and labels out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from headstudio.camera import project
from headstudio.head.bake_regions import beard_amount, scalp_height
from headstudio.render.mesh import rasterise_pixels
from headstudio.synthetic import paint
from headstudio.synthetic.geometry import COVERED_ABOVE, Part, Wardrobe
from headstudio.synthetic.vocabulary import Attributes
from headstudio.types import Cameras, Pose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, Int
    from torch import Tensor

    from headstudio.head.model import HeadModel

Array = NDArray[Any]


@dataclass(frozen=True)
class Picture:
    """B views of one head: RGB in [0, 1] and a label of `paint.LABELS` per pixel."""

    rgb: Float[Tensor, "B 3 H W"]
    labels: Int[Tensor, "B H W"]


@dataclass(frozen=True)
class _Dress:
    """The parts of one combination of styles, ready to append to the head's mesh."""

    anchor: Array  # (n,) skin vertex of each extra vertex
    offset: Array  # (n, 3) at rest
    faces: Array  # (m, 3) into head and extra vertices
    kinds: Array  # (m,)


@dataclass(frozen=True)
class _Seen:
    """A dressed head, posed and rasterised into B views: all that is left is to paint it."""

    dress: _Dress
    face_index: Array  # (B, h, w)
    weights: Array  # (B, h, w, 3)
    rest: Array  # (n, 3)
    fields: Array  # (n, 4)
    normals: list[Array]  # (n, 3), one for all views or one each


class World:
    """The synthetic world on one head. Nothing here has a gradient; everything runs on the CPU.

    Args:
        head: the open head (its region names decide what each triangle is made of).
        background: RGB in [0, 1].
        supersample: pictures are painted this many times larger and averaged.
    """

    def __init__(
        self, head: HeadModel, *, background: tuple[float, float, float] = (0.5, 0.5, 0.5), supersample: int = 2
    ) -> None:
        self.head = head
        self.background = np.array(background)
        self.supersample = supersample
        self.rest = head.v_template.double().cpu().numpy()
        self.faces = head.faces.cpu().numpy()
        region = head.face_region.cpu().numpy()
        names = head.region_names
        self.kinds = np.full(len(self.faces), paint.SKIN_FACE)
        for name, kind in (
            ("sclera", paint.EYE_FACE),
            ("iris", paint.EYE_FACE),
            ("teeth", paint.TEETH_FACE),
            ("tongue", paint.TONGUE_FACE),
            ("mouth", paint.MOUTH_FACE),
            ("socket", paint.MOUTH_FACE),
        ):
            self.kinds[region == names.index(name)] = kind
        self.fields = self._fields(region, names)
        outer = np.zeros(len(self.rest), bool)
        outer[self.faces[self.kinds == paint.SKIN_FACE]] = True
        outer[self.faces[self.kinds != paint.SKIN_FACE]] = False
        lips = self.faces[region == names.index("lips")]
        self.wardrobe = Wardrobe(self.rest, vertex_normals(self.rest, self.faces), self.faces, outer, lips)
        self._dress = lru_cache(maxsize=256)(self._build_dress)

    def _fields(self, region: Array, names: tuple[str, ...]) -> Array:
        """Per-vertex (V, 4): share of lip triangles, height over the hairline, beard amount, distance to the pupil."""
        lip = np.zeros(len(self.rest))
        count = np.zeros(len(self.rest))
        np.add.at(lip, self.faces, (region == names.index("lips"))[:, None])
        np.add.at(count, self.faces, 1)
        iris = np.unique(self.faces[region == names.index("iris")])
        distance = np.full(len(self.rest), 9.0)
        eyes = np.unique(self.faces[self.kinds == paint.EYE_FACE])
        for side in (-1, 1):
            mine = iris[np.sign(self.rest[iris, 0]) == side]
            pupil = self.rest[mine[self.rest[mine, 2].argmax()]]
            ball = eyes[np.sign(self.rest[eyes, 0]) == side]
            distance[ball] = np.linalg.norm(self.rest[ball] - pupil, axis=1)
        return np.stack([lip / count, scalp_height(self.rest), beard_amount(self.rest), distance], -1)

    def _build_dress(self, hair_style: str, beard: str, hat: str, mouth: str) -> _Dress:
        groups: list[tuple[int, list[Part]]] = [
            (paint.HAIR_FACE, self.wardrobe.hair(hair_style, hat)),
            (paint.BEARD_FACE, self.wardrobe.beard(beard)),
            (paint.HAT_FACE, self.wardrobe.hat(hat)),
            (paint.SKIN_FACE, self.wardrobe.mouth(mouth)),
        ]
        anchor, offset, faces, kinds = [], [], [self.faces], [self.kinds]
        first = len(self.rest)
        for kind, parts in groups:
            for part in parts:
                anchor.append(part.anchor)
                offset.append(part.offset)
                faces.append(part.faces + first)
                kinds.append(np.full(len(part.faces), kind))
                first += len(part.anchor)
        carriers = np.concatenate(anchor) if anchor else np.zeros(0, int)
        away = np.concatenate(offset) if offset else np.zeros((0, 3))
        every, kind_of = np.concatenate(faces), np.concatenate(kinds)
        # What a hat covers is left out: on another skull it would pierce the hat.
        height = np.concatenate([self.rest, self.rest[carriers] + away])[:, 1]
        shown = (height[every].min(1) < COVERED_ABOVE.get(hat, np.inf)) | (kind_of == paint.HAT_FACE)
        return _Dress(carriers, away, every[shown], kind_of[shown])

    def render(self, attributes: Attributes, shape: Float[Tensor, " S"], pose: Pose, cameras: Cameras) -> Picture:
        """Paint B views of a head; `pose` holds one pose for all cameras or one per camera."""
        return self.render_each([attributes], shape, pose, cameras)[0]

    def render_each(
        self, looks: Sequence[Attributes], shape: Float[Tensor, " S"], pose: Pose, cameras: Cameras
    ) -> list[Picture]:
        """The same views of several looks; those that wear the same parts share one rasterisation."""
        seen: dict[tuple[str, str, str, str], _Seen] = {}
        pictures = []
        for attributes in looks:
            worn = (attributes.hair_style, attributes.beard, attributes.hat, attributes.mouth)
            if worn not in seen:
                seen[worn] = self._rasterise(self._dress(*worn), shape, pose, cameras)
            pictures.append(self._paint(seen[worn], attributes, cameras))
        return pictures

    def _rasterise(self, dress: _Dress, shape: Float[Tensor, " S"], pose: Pose, cameras: Cameras) -> _Seen:
        offset = torch.from_numpy(dress.offset).float()[..., None]
        with torch.no_grad():
            skin = self.head(shape, pose).vertices
            turned = self.head.vertex_rotations(pose)[:, dress.anchor] @ offset
            vertices = torch.cat([skin, skin[:, dress.anchor] + turned[..., 0]], 1)
            pixels, depth = project(vertices, cameras)
        scale = self.supersample
        size = (cameras.width * scale, cameras.height * scale)
        buffers = rasterise_pixels(pixels.double().numpy() * scale, depth.double().numpy(), dress.faces, *size)
        return _Seen(
            dress,
            face_index=buffers[0],
            weights=buffers[1],
            rest=np.concatenate([self.rest, self.rest[dress.anchor] + dress.offset]),
            fields=np.concatenate([self.fields, self.fields[dress.anchor]]),
            normals=[vertex_normals(v, dress.faces) for v in vertices.double().numpy()],
        )

    def _paint(self, seen: _Seen, attributes: Attributes, cameras: Cameras) -> Picture:
        colors, switch = paint.palette(attributes), paint.switches(attributes)
        pictures = np.empty((*seen.face_index.shape, 3), np.float32)
        labels = np.empty(seen.face_index.shape, np.int64)
        toward = -cameras.camera_from_world[:, 2, :3].double().numpy()
        mesh = (seen.dress.faces, seen.dress.kinds, seen.rest, seen.fields)
        for b in range(len(cameras)):
            posed = seen.normals[b if len(seen.normals) > 1 else 0]
            view = (seen.face_index[b], seen.weights[b], *mesh, posed, toward[b])
            paint.paint_pixels(*view, colors, switch, self.background, pictures[b], labels[b])
        scale = self.supersample
        rgb = torch.nn.functional.avg_pool2d(torch.from_numpy(pictures).permute(0, 3, 1, 2), scale)
        return Picture(rgb, torch.from_numpy(labels[:, scale // 2 :: scale, scale // 2 :: scale].copy()))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def vertex_normals(vertices: Any, faces: Any) -> Any:
    """Area-weighted unit normals (V, 3)."""
    normals = np.zeros_like(vertices)
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1], vertices[j, 2] - vertices[i, 2]
        vx, vy, vz = vertices[k, 0] - vertices[i, 0], vertices[k, 1] - vertices[i, 1], vertices[k, 2] - vertices[i, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for vertex in (i, j, k):
            normals[vertex, 0] += nx
            normals[vertex, 1] += ny
            normals[vertex, 2] += nz
    for v in range(vertices.shape[0]):
        length = np.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2) + 1e-12
        for c in range(3):
            normals[v, c] /= length
    return normals
