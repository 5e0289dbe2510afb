"""Whether a model would have found the sentence among others: ranks and R-precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch.nn.functional import normalize

from headstudio.errors import UserError
from headstudio.prompts import read_prompts

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


def other_sentences(sentence: str, *, name: str | None, count: int, seed: int) -> list[str]:
    """Sentences that `sentence` is to be told from, always the same ones for the same sentence.

    Args:
        sentence: is never among them.
        name: draw from this list of `prompts/` (or file); None describes random heads of the synthetic world, no two
            and none of them with the looks of `sentence`.
        count: how many.
        seed: of the draw.

    Raises:
        UserError: there is no such list, or it is too short.
    """
    rng = np.random.default_rng([seed, 64])
    if name is None:
        return _world_sentences(sentence, count, rng)
    listed = [other for other in read_prompts(name) if other.lower() != sentence.strip().lower()]
    if len(listed) < count:
        raise UserError(f"The list of prompts {name} has {len(listed)} other sentences, but others.count={count}.")
    return [listed[index] for index in sorted(rng.choice(len(listed), count, replace=False))]


def _world_sentences(sentence: str, count: int, rng: np.random.Generator) -> list[str]:
    from headstudio.synthetic.captions import caption
    from headstudio.synthetic.reading import parse
    from headstudio.synthetic.samples import random_attributes

    seen = {parse(sentence).attributes}
    sentences: list[str] = []
    while len(sentences) < count:
        looks = random_attributes(rng)
        text = caption(looks, rng)
        if looks not in seen:
            seen.add(looks)
            sentences.append(text)
    return sentences


def ranks_of_first(images: Float[Tensor, "V D"], texts: Float[Tensor, "T D"]) -> Int[Tensor, " V"]:
    """Per image, the place (1 is best) of the first text among all by cosine; a tie counts against it."""
    scores = normalize(images, dim=-1) @ normalize(texts, dim=-1).T
    return 1 + (scores[:, 1:] >= scores[:, :1]).sum(1)
