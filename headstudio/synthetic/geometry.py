"""Hair, beards and hats as meshes that ride on the open head.

Everything is built once at rest as offsets from skin vertices or as loose parts fixed to the skull, and posed
with the head's own skinning: a patch's vertex turns with the joints of the skin vertex under it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstudio.head.bake_landmarks import lip_rims
from headstudio.head.bake_regions import beard_amount, scalp_height

Array = NDArray[Any]
SKULL = np.array([0.0, 0.22, -0.06])  # middle of the cranium, world units
DOWN = np.array([0.0, -1.0, 0.0])
COVERED_ABOVE = {"cap": 0.31, "beanie": 0.26, "top_hat": 0.30}  # height at rest from which a closed hat hides the head


@dataclass(frozen=True)
class Part:
    """A mesh at rest: `anchor` (n,) is the skin vertex that carries each vertex, `offset` (n, 3) from it."""

    anchor: Array
    offset: Array
    faces: Array  # (m, 3) into this part's own vertices


def smoothstep(value: Array, low: float, high: float) -> Array:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def patch(mask: Array, faces: Array, offset: Array) -> Part:
    """The skin triangles whose vertices all lie in `mask` (V,), lifted by `offset` (V, 3)."""
    kept = faces[mask[faces].all(1)]
    used = np.unique(kept)
    return Part(used, offset[used], np.searchsorted(used, kept))


def loose(vertices: Array, faces: Array, anchor: int, skin: Array) -> Part:
    """A rigid part (world units at rest) fixed to one skin vertex."""
    return Part(np.full(len(vertices), anchor), vertices - skin[anchor], faces)


def grid_faces(rows: int, columns: int, wrap: bool = True) -> Array:
    """Triangles of a (rows, columns) grid of vertices; `wrap` joins the last column to the first."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns if wrap else columns - 1), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])


def lathe(profile: Array, centre: Array, squash: tuple[float, float] = (1.0, 1.0), segments: int = 32) -> Array:
    """Vertices of a surface of revolution about y: profile (n, 2) of radius and height above `centre`."""
    angle = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    x = profile[:, :1] * np.sin(angle) * squash[0]
    z = profile[:, :1] * np.cos(angle) * squash[1]
    y = np.broadcast_to(profile[:, 1:], x.shape)
    return (np.stack([x, y, z], -1) + centre).reshape(-1, 3)


def _between(x: Array, turn: int) -> Array:
    """Triangles (n - 2, 3) that fill a ring of n vertices at `x`, which grows up to vertex `turn` and then falls."""
    low, high = 0, len(x)  # `high` counts down from the ring's start again
    faces = []
    while high - low > 1:
        ahead, behind = low + 1, high - 1
        if ahead == behind:
            break
        if low < turn and (behind <= turn or x[ahead] <= x[behind]):
            faces.append([low, ahead, high % len(x)])
            low = ahead
        else:
            faces.append([low, behind, high % len(x)])
            high = behind
    return np.array(faces)


class Wardrobe:
    """Builds the parts of every style for one head at rest: vertices (V, 3), unit normals, triangles, the lips' own."""

    def __init__(self, skin: Array, normals: Array, faces: Array, outer: Array, lips: Array) -> None:
        self.skin, self.normals, self.faces = skin, normals, faces
        self.lips = lips  # (n, 3) triangles
        self.outer = outer  # (V,) bool: skin that hair can cover, so neither eyes nor mouth
        self.height = scalp_height(skin)
        self.top = int(np.where(outer, skin[:, 1], -9).argmax())

    def hair(self, style: str, hat: str) -> list[Part]:
        """Meshes of a hair style; under a hat it stays flat where the hat sits."""
        builders = {
            "bald": list,
            "short": lambda: [self._shell(0.045)],
            "long": lambda: [self._long()],
            "afro": lambda: [self._afro()],
            "mohawk": lambda: [self._mohawk()],
            "bun": lambda: [self._shell(0.04), self._ball(np.array([0.0, 0.73, -0.26]), 0.21)],
            "spiky": lambda: [self._spiky()],
        }
        parts = builders[style]()
        return parts if hat == "none" else [self._under_hat(part) for part in parts if style != "mohawk"]

    def _lifted(self, thickness: Array | float) -> Array:
        """Offsets along the normals that sink under the skin at the hairline."""
        rise = smoothstep(self.height, 0.0, 0.09)
        return self.normals * (thickness * rise - 0.012 * (1 - rise))[:, None]

    def _scalp(self, margin: float = -0.06) -> Array:
        return self.outer & (self.height > margin)

    def _shell(self, thickness: float) -> Part:
        return patch(self._scalp(), self.faces, self._lifted(thickness))

    def _long(self) -> Part:
        x, z = self.skin[:, 0], self.skin[:, 2]
        sideways = np.stack([x, np.zeros_like(x), z + 0.1], -1)
        sideways /= np.linalg.norm(sideways, axis=1, keepdims=True) + 1e-9
        falls = smoothstep(-self.height, -0.22, 0.0) * smoothstep(-z, -0.26, -0.12)
        fall = DOWN * 0.62 + sideways * 0.16
        # Behind, the hairline is already low; keep the hem level with the neck's cut.
        length = np.clip((self.skin[:, 1] + 0.74) / 0.62, 0, 1)
        return patch(self._scalp(), self.faces, self._lifted(0.07) + (falls * length)[:, None] * fall)

    def _afro(self) -> Part:
        outward = self.skin - (SKULL + np.array([0, 0.08, -0.04]))
        radius = np.linalg.norm(outward, axis=1, keepdims=True)
        ball = SKULL + np.array([0, 0.08, -0.04]) + outward / radius * 0.73
        rise = smoothstep(self.height, 0.0, 0.16)[:, None]
        return patch(self._scalp(), self.faces, (ball - self.skin) * rise - 0.012 * self.normals * (1 - rise))

    def _spiky(self) -> Part:
        # Every other vertex sticks out: a fixed hash of the vertex id, so the style is the same everywhere.
        spike = (np.arange(len(self.skin)) * 2654435761 % 1000) / 1000.0
        return patch(self._scalp(), self.faces, self._lifted(0.03 + 0.24 * spike**2))

    def _mohawk(self, sections: int = 18) -> Part:
        angle = np.linspace(np.deg2rad(38), np.deg2rad(205), sections)  # from the forehead over the crown
        direction = np.stack([np.zeros(sections), np.sin(angle), np.cos(angle)], -1)
        ridge = SKULL + direction * self._radius(direction)[:, None]
        swell = np.sin(np.linspace(0.25, np.pi - 0.25, sections))[:, None]
        crest = ridge + direction * (0.12 + 0.2 * swell)
        rows = []
        for base, tip in zip(ridge - direction * 0.03, crest, strict=True):
            half, tip_half = np.array([0.085, 0, 0]), np.array([0.045, 0, 0])
            rows.append([base - half, tip - tip_half, tip + tip_half, base + half])
        return loose(np.array(rows).reshape(-1, 3), grid_faces(sections, 4, wrap=False), self.top, self.skin)

    def _radius(self, direction: Array) -> Array:
        """Distance of the outer skin from SKULL along unit directions (n, 3), from the nearest vertices."""
        offset = self.skin[self._scalp()] - SKULL
        length = np.linalg.norm(offset, axis=1)
        nearest = (direction @ (offset / length[:, None]).T).argsort(1)[:, -3:]
        return length[nearest].mean(1)

    def _ball(self, centre: Array, radius: float) -> Part:
        polar = np.linspace(0.02, np.pi - 0.02, 12)
        profile = np.stack([radius * np.sin(polar), radius * np.cos(polar)], -1)
        return loose(lathe(profile, centre, segments=20), grid_faces(12, 20), self.top, self.skin)

    def _under_hat(self, part: Part) -> Part:
        flat = self.normals[part.anchor] * 0.02
        covered = smoothstep(self.skin[part.anchor, 1], 0.20, 0.34)[:, None]
        return Part(part.anchor, part.offset * (1 - covered) + flat * covered, part.faces)

    def beard(self, style: str) -> list[Part]:
        """Meshes of a beard; moustache and goatee are painted on the skin only."""
        amount = beard_amount(self.skin)
        grown = self.outer & (amount > 0)
        if style == "full":
            return [patch(grown, self.faces, self.normals * (0.06 * smoothstep(amount, 0.0, 1.0) - 0.008)[:, None])]
        if style == "long":
            x, z = self.skin[:, 0], self.skin[:, 2]
            hang = smoothstep(z, 0.22, 0.46) * smoothstep(-np.abs(x), -0.34, -0.10)
            hang = hang * smoothstep(-self.skin[:, 1], 0.44, 0.60)
            offset = self.normals * (0.07 * smoothstep(amount, 0.0, 1.0) - 0.008)[:, None]
            return [patch(grown, self.faces, offset + hang[:, None] * (DOWN * 0.50 + np.array([0, 0, 0.06])))]
        return []

    def mouth(self, kind: str) -> list[Part]:
        """A skin that joins upper and lower lip where there is no mouth; it stretches as the jaw falls."""
        if kind == "normal":
            return []
        _, rim = lip_rims(self.skin, self.lips)
        rim = np.roll(rim, -int(self.skin[rim, 0].argmin()))  # from one corner ...
        turn = int(self.skin[rim, 0].argmax())  # ... to the other and back
        return [Part(rim, np.zeros((len(rim), 3)), _between(self.skin[rim, 0], turn))]

    def hat(self, kind: str) -> list[Part]:
        """Meshes of a hat, fixed to the skull."""
        if kind == "none":
            return []
        base = np.array([0.0, 0.33, -0.06])
        polar = np.linspace(0.02, np.pi / 2, 10)
        dome = np.stack([0.55 * np.sin(polar), 0.53 * np.cos(polar)], -1)
        squash = (0.93, 1.14)
        if kind == "beanie":
            profile = np.concatenate([dome, [[0.57, -0.02], [0.57, -0.10], [0.54, -0.10]]])
        elif kind == "cap":
            profile = np.concatenate([dome, [[0.55, -0.05]]])
        elif kind == "top_hat":
            radius = [0.01, 0.45, 0.43, 0.47, 0.72, 0.72, 0.47]
            height = [0.62, 0.62, 0.30, 0.0, 0.03, 0.0, -0.02]
            profile = np.stack([radius, height], -1)
        else:
            return [self._crown(base, squash)]
        part = loose(lathe(profile, base, squash), grid_faces(len(profile), 32), self.top, self.skin)
        return [part, self._brim(base)] if kind == "cap" else [part]

    def _brim(self, base: Array) -> Part:
        angle = np.linspace(-1.1, 1.1, 13)
        inner = np.stack([0.51 * np.sin(angle), np.full(13, -0.03), 0.62 * np.cos(angle)], -1)
        reach = 0.30 * np.cos(angle * 0.9)[:, None]
        outer = inner + np.stack([np.sin(angle), np.full(13, -0.12), np.cos(angle)], -1) * reach
        return loose(np.concatenate([inner, outer]) + base, grid_faces(2, 13, wrap=False), self.top, self.skin)

    def _crown(self, base: Array, squash: tuple[float, float], points: int = 8) -> Part:
        segments = points * 4
        profile = np.array([[0.53, -0.04], [0.54, 0.12], [0.56, 0.22]])
        vertices = lathe(profile, base, squash, segments).reshape(3, segments, 3)
        zigzag = np.abs((np.arange(segments) % 4) - 2) / 2
        vertices[2, :, 1] += 0.16 * zigzag - 0.02
        return loose(vertices.reshape(-1, 3), grid_faces(3, segments), self.top, self.skin)
