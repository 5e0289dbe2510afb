"""Training batches of the tiny prior: world pictures with fresh sentences, some of them spoilt on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, interpolate

from headstudio.errors import UserError
from headstudio.guidance.control_normals import colored
from headstudio.synthetic.captions import CROPS, caption, character_caption
from headstudio.synthetic.dataset import Block, block_path, decode_attributes, read_block, unpack_surface
from headstudio.synthetic.learner import Worker
from headstudio.synthetic.text import degraded_caption, tokens
from headstudio.synthetic.vocabulary import CHARACTERS


def view_words(azimuth_deg: float, elevation_deg: float) -> str:
    """The view's name, by the sectors of `conf/prompts/paper.yaml`."""
    if elevation_deg > 60:
        return "overhead view"
    return "front view" if abs(azimuth_deg) <= 45 else "back view" if abs(azimuth_deg) >= 135 else "side view"


def spoilt(picture: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A blurred, noisy, flat or dark version of a picture (3, H, W) in [-1, 1]."""
    size = picture.shape[-1]
    kind = rng.integers(4)
    factor = int(rng.choice([4, 8, 16]))
    blurred = interpolate(avg_pool2d(picture[None], factor), size=(size, size), mode="bilinear")[0]
    if kind == 0:
        return blurred
    if kind == 1:
        coarse = torch.from_numpy(rng.normal(0, 0.6, (1, 3, size // 4, size // 4))).float()
        return (picture + interpolate(coarse, size=(size, size), mode="bilinear")[0]).clamp(-1, 1)
    if kind == 2:
        return blurred * float(rng.uniform(0.15, 0.5))
    return (0.5 * picture + 0.5 * blurred + 1) * float(rng.uniform(0.15, 0.5)) - 1


class Batches:
    """One worker's rows of each batch, by step number: the same step gives the same rows for the same blocks on disk.

    Worker r of n draws its rows from the blocks r, r + n, r + 2 n, ..., so that all workers together hold them once.

    Args:
        world: folder of blocks; blocks that appear later are picked up.
        settings: the `diffusion` part of `train.yaml`.
    """

    def __init__(
        self, world: Path, tokenizer: Any, settings: Any, worker: Worker, *, seed: int, look_every: int = 50
    ) -> None:
        self.world, self.tokenizer, self.settings, self.worker, self.seed = world, tokenizer, settings, worker, seed
        self.look_every = look_every
        self.blocks: list[Block] = []
        self._look()
        if not self.blocks:
            raise UserError(f"{world} holds too few blocks of pictures for {worker.count} workers; make them first.")

    def __len__(self) -> int:
        """Pictures on disk that all workers together hold now, if this one has its share."""
        return sum(len(block.pictures) for block in self.blocks) * self.worker.count

    def __call__(self, step: int) -> dict[str, torch.Tensor]:
        """Pictures (B, 3, H, W) in [-1, 1], landmark maps (3 channels) and surfaces (6) in [0, 1], token ids, and which
        controls are kept."""
        if step % self.look_every == 0:
            self._look()
        rngs = [np.random.default_rng([self.seed, 2, step, row]) for row in self.worker.share(self.settings.batch_size)]
        rows = [self._row(rng) for rng in rngs]
        return {
            "pictures": torch.stack([row[0] for row in rows]),
            "controls": torch.stack([row[1] for row in rows]),
            "surfaces": torch.stack([row[2] for row in rows]),
            "ids": tokens(self.tokenizer, [row[3] for row in rows]),
            "keep_control": torch.tensor([row[4] for row in rows]),
        }

    def _look(self) -> None:
        number = self.worker.rank + len(self.blocks) * self.worker.count
        while block_path(self.world, number).exists():
            self.blocks.append(read_block(self.world, number))
            number += self.worker.count

    def _row(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, str, bool]:
        s = self.settings
        block = self.blocks[rng.integers(len(self.blocks))]
        i = int(rng.integers(len(block.pictures)))
        picture = torch.from_numpy(block.pictures[i]).permute(2, 0, 1) / 127.5 - 1
        control = torch.from_numpy(block.controls[i]).permute(2, 0, 1) / 255.0
        normals, regions = unpack_surface(block.surfaces[i])
        surface = colored(normals[None], regions[None])[0]
        if rng.random() < s.degraded:
            text, picture = degraded_caption(rng), spoilt(picture, rng)
        elif block.characters[i] >= 0:
            text = character_caption(list(CHARACTERS)[block.characters[i]], rng)
        else:
            text = caption(decode_attributes(block.attributes[i]), rng)
        if crop := str(block.crops[i]):
            text = f"{text}, {CROPS[crop]}"
        elif rng.random() < s.view_text:
            text = f"{text}, {view_words(*block.angles_deg[i])}"
        if rng.random() < s.drop_text:
            text = ""
        return picture, control, surface, text, bool(rng.random() >= s.drop_control)
