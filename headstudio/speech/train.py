"""Train the ear that the package ships:  python -m headstudio.speech.train OUT.safetensors

Needs espeak-ng and flite (apt-get install espeak-ng flite); half an hour on one busy core.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from headstudio.progress import Progress
from headstudio.speech import corpus
from headstudio.speech.listener import Ear
from headstudio.speech.sounds import NAMES

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    Example = tuple[Float[Tensor, "T 40"], Int[Tensor, " T"]]

log = logging.getLogger(__name__)


def examples(count: int, seed: int) -> list[Example]:
    """`count` clips as heard, one in twelve without speech."""
    rng = np.random.default_rng(seed)
    made = []
    with Progress(0, count) as progress:
        for i in range(count):
            clip = corpus.no_speech(rng) if i % 12 == 0 else corpus.heard_elsewhere(corpus.random_clip(rng), rng)
            made.append(corpus.example(clip))
            progress.show(i, {"seconds": sum(len(heard) for heard, _ in made) / 100.0} if i % 100 == 0 else {})
    return made


def fit(data: list[Example], steps: int, seed: int, *, batch: int = 16, length: int = 256) -> Ear:
    """An ear that says what it hears in stretches of `length` frames; rare visemes weigh more (frequency ** -0.5)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # layers draw their start from the global generator
        ear = Ear()
    often = torch.bincount(torch.cat([shown for _, shown in data]), minlength=len(NAMES)).float()
    rarity = (often / often.sum()).clamp(min=1e-4) ** -0.5
    rarity = rarity / (rarity * often / often.sum()).sum()
    optimizer = torch.optim.AdamW(ear.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    lengths = torch.tensor([float(len(heard)) for heard, _ in data])
    with Progress(0, steps) as progress:
        for step in range(steps):
            heard, shown = _batch(data, lengths, batch, length, generator)
            loss = torch.nn.functional.nll_loss(ear(heard).flatten(0, 1), shown.flatten(), weight=rarity)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            progress.show(step, {"loss": float(loss.detach())} if step % 50 == 0 else {})
    return ear.eval()


def _batch(
    data: list[Example], lengths: Tensor, batch: int, length: int, generator: torch.Generator
) -> tuple[Float[Tensor, "B T 40"], Int[Tensor, "B T"]]:
    """Random stretches; what is shorter is repeated."""
    rows = []
    for i in torch.multinomial(lengths, batch, replacement=True, generator=generator).tolist():
        heard, shown = data[i]
        first = int(torch.randint(max(len(heard) - length, 0) + 1, (1,), generator=generator))
        where = torch.arange(first, first + length) % len(heard)
        rows.append((heard[where], shown[where]))
    return torch.stack([heard for heard, _ in rows]), torch.stack([shown for _, shown in rows])


def save(ear: Ear, path: Path) -> None:
    """Half precision, in one rename."""
    from safetensors.torch import save as packed

    from headstudio.files import put

    path.parent.mkdir(parents=True, exist_ok=True)
    put(path, packed({name: value.half().contiguous() for name, value in ear.state_dict().items()}))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m headstudio.speech.train", description=(__doc__ or "").split(":")[0]
    )
    parser.add_argument("out", type=Path, help="where the weights go (.safetensors)")
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    save(fit(examples(options.clips, options.seed), options.steps, options.seed), options.out)


if __name__ == "__main__":
    main()
