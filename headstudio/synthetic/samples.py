"""Random heads of the synthetic world: what they look like, how they are posed, where they are seen from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstudio.synthetic.vocabulary import CHARACTERS, OPTIONS, Attributes, consistent

if TYPE_CHECKING:
    import torch

HELD_OUT = 10  # one of so many pairs of skin and hair colour never stands in a training sentence


def random_attributes(rng: np.random.Generator) -> Attributes:
    """Looks drawn so that every option is common enough to be learnt."""

    def draw(name: str, **weights: float) -> str:
        options = OPTIONS[name]
        probability = np.array([weights.get(option, 1.0) for option in options])
        return options[rng.choice(len(options), p=probability / probability.sum())]

    hair_color = draw("hair_color")
    return consistent(
        Attributes(
            skin=draw("skin", pale=2.5),
            hair_style=draw("hair_style", short=3.0),
            hair_color=hair_color,
            beard=draw("beard", none=5.0),
            beard_color=hair_color if rng.random() < 0.6 else draw("beard_color"),
            lips=draw("lips", natural=4.0),
            eyes=draw("eyes"),
            age=draw("age", adult=4.0, old=1.5),
            gender=draw("gender", person=2.0),
            paint=draw("paint", none=9.0),
            hat=draw("hat", none=9.0),
            hat_color=draw("hat_color"),
            mouth=draw("mouth", normal=15.0),
        )
    )


def is_held_out(attributes: Attributes) -> bool:
    """Whether training leaves this pair of skin and hair colour out."""
    skin, hair = OPTIONS["skin"].index(attributes.skin), OPTIONS["hair_color"].index(attributes.hair_color)
    return (3 * skin + 7 * hair) % HELD_OUT == 4 and attributes.hair_style != "bald"


def training_attributes(rng: np.random.Generator) -> Attributes:
    """Random looks outside the held-out pairs."""
    while is_held_out(attributes := random_attributes(rng)):
        pass
    return attributes


def random_character(rng: np.random.Generator) -> tuple[str, Attributes]:
    """One of the well-known characters."""
    name = list(CHARACTERS)[rng.integers(len(CHARACTERS))]
    return name, CHARACTERS[name]


@dataclass(frozen=True, kw_only=True)
class ShapeSampler:
    """Random shape coefficients: age and gender as the looks say, the face's own variation around them.

    Args:
        age_step, gender_step: coefficient of an old (young: minus) or a female (male: minus) head.
        spread: standard deviation of every other coefficient.
    """

    age_step: float
    gender_step: float
    spread: float

    def __call__(self, attributes: Attributes, num_shape: int, rng: np.random.Generator) -> torch.Tensor:
        """Coefficients (S,) of the open head, whose first two directions are age and gender."""
        import torch

        shape = rng.normal(0.0, self.spread, num_shape)
        shape[0] = {"adult": 0.0, "young": -1.0, "old": 1.0}[attributes.age] * self.age_step + 0.1 * shape[0]
        shape[1] = {"person": 0.0, "man": -1.0, "woman": 1.0}[attributes.gender] * self.gender_step + 0.1 * shape[1]
        shape[2] *= 0.3
        return torch.from_numpy(shape).float()
