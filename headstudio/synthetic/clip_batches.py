"""Training batches of the tiny CLIP: softened and shifted pictures, their sentences, and slightly wrong ones."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate

from headstudio.errors import UserError
from headstudio.synthetic.captions import caption, character_caption
from headstudio.synthetic.dataset import block_path, decode_attributes, encode_attributes
from headstudio.synthetic.vocabulary import CHARACTERS, OPTIONS, Attributes, consistent

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class ClipBatch:
    """B augmented pictures, their B sentences followed by the hard negatives, and the looks that each one means."""

    pictures: Float[Tensor, "B 3 H W"]  # in [0, 1]
    sentences: list[str]
    codes: Tensor  # (len(sentences), attributes) option indices


@dataclass(frozen=True)
class ClipPictures:
    """Pictures (n, H, W, 3) uint8 with attribute codes, character numbers (-1: none) and camera angles."""

    pictures: NDArray[Any]
    attributes: NDArray[Any]
    characters: NDArray[Any]
    angles_deg: NDArray[Any]  # (n, 2): azimuth, elevation

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, part: slice | NDArray[Any]) -> ClipPictures:
        return ClipPictures(*(getattr(self, field.name)[part] for field in fields(self)))


def read_pictures(folder: Path, blocks: int) -> ClipPictures:
    """The first blocks of a folder without their control maps.

    Raises:
        UserError: fewer blocks are there.
    """
    columns: dict[str, list[NDArray[Any]]] = {field.name: [] for field in fields(ClipPictures)}
    for number in range(blocks):
        path = block_path(folder, number)
        if not path.exists():
            options = f"seed=1 held_out=include camera.crop_fraction=0 count={blocks}000"
            command = f"python -m headstudio.synthetic.dataset {folder} {options}"
            raise UserError(f"blocks={blocks}, but {path} is missing; draw it with: {command}")
        with np.load(path) as file:
            for name, column in columns.items():
                column.append(file[name])
    return ClipPictures(**{name: np.concatenate(column) for name, column in columns.items()})


def altered(attributes: Attributes, rng: np.random.Generator, names: tuple[str, ...] = tuple(OPTIONS)) -> Attributes:
    """The same looks but for one attribute of `names`, which must hold one that can be seen."""
    while True:
        name = names[rng.integers(len(names))]
        options = OPTIONS[name]
        other = consistent(replace(attributes, **{name: options[rng.integers(len(options))]}))
        if other != attributes:
            return other


def is_visible(attributes: Attributes, name: str) -> bool:
    """Whether another value of this attribute would be other looks."""
    return any(consistent(replace(attributes, **{name: option})) != attributes for option in OPTIONS[name])


class ClipBatches:
    """Batches by step number, so that a training that goes on sees what an uninterrupted one sees."""

    def __init__(self, data: ClipPictures, training: Any, augment: Any, *, seed: int) -> None:
        self.data, self.training, self.augment, self.seed = data, training, augment, seed

    def __call__(self, step: int) -> ClipBatch:
        rng = np.random.default_rng([self.seed, 3, step])
        rows = rng.integers(len(self.data), size=self.training.batch_size)
        looks = [decode_attributes(self.data.attributes[row]) for row in rows]
        sentences = [self.sentence(int(row), rng) for row in rows]
        wrong = [altered(look, rng) for look in looks for _ in range(self.training.hard_negatives)]
        sentences += [self._caption(look, rng) for look in wrong]
        pictures = torch.from_numpy(self.data.pictures[rows]).permute(0, 3, 1, 2) / 255.0
        return ClipBatch(
            augmented(pictures, self.augment, rng),
            sentences,
            torch.tensor([encode_attributes(look) for look in looks + wrong]),
        )

    def sentence(self, row: int, rng: np.random.Generator) -> str:
        """A random sentence for picture `row`."""
        character = int(self.data.characters[row])
        if character >= 0 and rng.random() < self.training.character_name:
            return character_caption(list(CHARACTERS)[character], rng)
        return self._caption(decode_attributes(self.data.attributes[row]), rng)

    def _caption(self, look: Attributes, rng: np.random.Generator) -> str:
        return caption(look, rng, mention_default=float(rng.uniform(*self.training.mention_default_range)))


def augmented(pictures: Float[Tensor, "B 3 H W"], settings: Any, rng: np.random.Generator) -> Float[Tensor, "B 3 H W"]:
    """Mirrored, zoomed, shifted, blurred, tinted and noisy versions; what comes in from outside is grey (0.5)."""
    count, _, height, width = pictures.shape

    def draw(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, count)).float()

    matrix = torch.zeros(count, 2, 3)
    zoom = 1 / draw(*settings.zoom_range)
    matrix[:, 0, 0] = zoom * torch.from_numpy(rng.choice([-1.0, 1.0], count)).float()
    matrix[:, 1, 1] = zoom
    matrix[:, 0, 2], matrix[:, 1, 2] = draw(-settings.shift, settings.shift), draw(-settings.shift, settings.shift)
    grid = affine_grid(matrix, [count, 3, height, width], align_corners=False)
    pictures = grid_sample(pictures - 0.5, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    factor = int(rng.choice([2, 2, 3, 4]))
    soft = interpolate(avg_pool2d(pictures, factor), size=(height, width), mode="bilinear", align_corners=False)
    share = (draw(0, 1) < settings.blur).float() * draw(0.3, 1.0)
    pictures = torch.lerp(pictures, soft, share[:, None, None, None])
    grey = pictures.mean(1, keepdim=True)
    pictures = grey + (pictures - grey) * draw(*settings.saturation_range)[:, None, None, None]
    pictures = pictures * draw(*settings.contrast_range)[:, None, None, None]
    pictures = pictures + draw(-settings.brightness, settings.brightness)[:, None, None, None]
    fine = torch.from_numpy(rng.standard_normal((count, 3, height // 2, width // 2), dtype=np.float32))
    noise = interpolate(fine, size=(height, width), mode="bilinear", align_corners=False)
    return (pictures + noise * draw(0, settings.noise)[:, None, None, None] + 0.5).clamp(0, 1)
