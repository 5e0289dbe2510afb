"""Blocks of world pictures on disk, for training the tiny prior and the tiny CLIP.

    python -m headstudio.synthetic.dataset training/world count=60000

Picture i depends on the seed and i alone, so an interrupted command goes on where it stopped and a larger count
keeps what is there.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstudio.errors import UserError
from headstudio.synthetic.vocabulary import CHARACTERS, OPTIONS, Attributes

Array = NDArray[Any]
BLOCK = 1000
HELD_OUT_CHOICES = ("exclude", "include")
NAMES = tuple(field.name for field in fields(Attributes))


def encode_attributes(attributes: Attributes) -> list[int]:
    """Option indices in the order of the fields."""
    return [OPTIONS[name].index(getattr(attributes, name)) for name in NAMES]


def decode_attributes(codes: Array) -> Attributes:
    """The inverse of `encode_attributes`."""
    return Attributes(**{name: OPTIONS[name][int(code)] for name, code in zip(NAMES, codes, strict=True)})


@dataclass(frozen=True)
class Block:
    """BLOCK pictures: RGB and landmark map (n, H, W, 3) uint8, normals and region of the bare head (n, H, W, 4) uint8,
    attribute codes, character (-1: none), camera angles, region of a close view ("": the whole head)."""

    pictures: Array
    controls: Array
    surfaces: Array
    attributes: Array
    characters: Array
    angles_deg: Array  # (n, 2): azimuth, elevation
    crops: Array


@dataclass(frozen=True)
class Drawn:
    """One picture and what a block says of it."""

    picture: Array
    control: Array
    surface: Array
    attributes: Attributes
    character: int
    angles_deg: tuple[float, float]
    crop: str


class WorldSampler:
    """Draws single pictures of the world as `world.yaml` says."""

    def __init__(self, settings: Any) -> None:
        from hydra.utils import instantiate

        from headstudio.head.anny import load_anny
        from headstudio.synthetic.world import World

        self.head = load_anny(num_shape=settings.num_shape)
        self.world = World(self.head, background=tuple(settings.background))
        self.camera = instantiate(settings.camera)
        self.motion = instantiate(settings.motion)(self.head)
        self.control = instantiate(settings.control)
        self.normals = instantiate(settings.normals)
        self.controls = {"controlnet": self.control, "controlnet_normals_regions": self.normals}
        self.shape = instantiate(settings.shape)
        self.character_fraction = settings.character_fraction
        self.held_out = settings.held_out
        if self.held_out not in HELD_OUT_CHOICES:
            raise UserError(f"held_out={self.held_out} must be one of {', '.join(HELD_OUT_CHOICES)}.")
        self.seed = settings.seed

    def __call__(self, index: int) -> Drawn:
        """Picture `index`."""
        import torch

        from headstudio.synthetic.samples import random_attributes, random_character, training_attributes

        rng = np.random.default_rng([self.seed, index])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        character = -1
        attributes = random_attributes(rng) if self.held_out == "include" else training_attributes(rng)
        if rng.random() < self.character_fraction:
            name, attributes = random_character(rng)
            character = list(CHARACTERS).index(name)
        shape = self.shape(attributes, self.head.num_shape, rng)
        pose = self.motion.sample(1, generator)
        cameras = self.camera(0, generator)
        picture = self.world.render(attributes, shape, pose, cameras)
        posed = self.head(shape, pose)
        return Drawn(
            picture=to_bytes(picture.rgb[0]),
            control=to_bytes(self.control.draw(posed, self.head, cameras)[0]),
            surface=pack_surface(*self.normals.surface(posed, self.head, cameras))[0],
            attributes=attributes,
            character=character,
            angles_deg=(float(cameras.azimuth_deg[0]), float(cameras.elevation_deg[0])),
            crop=cameras.crops[0] if cameras.crops else "",
        )


def to_bytes(picture: Any) -> Array:
    """(3, H, W) in [0, 1] to (H, W, 3) uint8."""
    return (picture.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)


def pack_surface(normals: Any, regions: Any) -> Array:
    """Normals (..., 3) and regions (...) of `NormalsRegionsControl.surface` as bytes (..., 4); region 0 is nothing."""
    turned = (normals.numpy() * 127.5 + 128).astype(np.uint8)
    return np.concatenate([turned, (regions.numpy() + 1)[..., None].astype(np.uint8)], -1)


def unpack_surface(packed: Array) -> tuple[Any, Any]:
    """The inverse of `pack_surface`, up to rounding."""
    import torch

    return torch.from_numpy(packed[..., :3].astype(np.float32) / 127.5 - 1), torch.from_numpy(
        packed[..., 3].astype(np.int64) - 1
    )


def block_path(folder: Path, block: int) -> Path:
    return folder / f"block_{block:04d}.npz"


def write_block(sampler: WorldSampler, folder: Path, block: int) -> None:
    """Draw one block and put it in place in one move."""
    rows = [sampler(index) for index in range(block * BLOCK, (block + 1) * BLOCK)]
    partial = block_path(folder, block).with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(
            file,
            pictures=np.stack([row.picture for row in rows]),
            controls=np.stack([row.control for row in rows]),
            surfaces=np.stack([row.surface for row in rows]),
            attributes=np.array([encode_attributes(row.attributes) for row in rows], np.uint8),
            characters=np.array([row.character for row in rows], np.int8),
            angles_deg=np.array([row.angles_deg for row in rows], np.float32),
            crops=np.array([row.crop for row in rows]),
        )
    partial.replace(block_path(folder, block))


def read_block(folder: Path, number: int) -> Block:
    """One block of a folder."""
    with np.load(block_path(folder, number)) as file:
        return Block(**{name: file[name] for name in file.files})


def main(arguments: list[str]) -> None:
    import torch

    from headstudio.synthetic.settings import load_settings

    if not arguments or arguments[0].startswith("-"):
        raise SystemExit(__doc__)
    torch.set_num_threads(1)
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    settings = load_settings("world", arguments[1:])
    sampler = WorldSampler(settings)
    blocks = settings.count // BLOCK
    missing = [block for block in range(blocks) if not block_path(folder, block).exists()]
    start = time.monotonic()
    for done, block in enumerate(missing, start=1):
        write_block(sampler, folder, block)
        left_min = (time.monotonic() - start) / done * (len(missing) - done) / 60
        print(f"{blocks - len(missing) + done} of {blocks} blocks, {left_min:.1f} min left", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
