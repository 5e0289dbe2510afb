"""What a sentence asks of an avatar in the synthetic world, the ground truth of the metrics that know the answer."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstudio.synthetic.candidates import measured
from headstudio.synthetic.reading import parse

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.head.model import HeadModel
    from headstudio.synthetic.vocabulary import Attributes

REGIONS = ("sclera", "iris", "teeth", "tongue", "mouth", "socket", "lips")  # what the synthetic world paints by


@dataclass(frozen=True)
class Truth:
    """One sentence on one avatar's head.

    Attributes:
        attributes: the looks that the sentence asks for; what it leaves out is as usual.
        names: of the attributes that it names and that a picture could show; never empty.
        head, shape: the avatar's, apart from it and on the CPU.
    """

    attributes: Attributes
    names: tuple[str, ...]
    head: HeadModel
    shape: Float[Tensor, " S"]


def truth(avatar: Any, prompt: str) -> Truth | str:
    """What `prompt` asks of `avatar`, or why the synthetic world can't say it."""
    reading = parse(prompt)
    names = measured(reading)
    if not names:
        return "the prompt names no attribute of the synthetic world"
    if not set(REGIONS) <= set(avatar.head.region_names):
        return "the synthetic world can't paint this head"
    head: HeadModel = copy.deepcopy(avatar.head).float().cpu()
    return Truth(reading.attributes, names, head, avatar.shape.detach().float().cpu())
