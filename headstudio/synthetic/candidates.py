"""Which looks a picture shows, by analysis through synthesis: paint every option and see which comes nearest.

The same rule judges the tiny prior's samples and finished avatars. Gender is not measured: it shows in the shape
alone, and the shape is given here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from headstudio.synthetic.vocabulary import OPTIONS, Attributes

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.synthetic.reading import Reading
    from headstudio.synthetic.world import World
    from headstudio.types import Cameras, Pose

MEASURED = tuple(name for name in OPTIONS if name != "gender")


def measured(reading: Reading) -> tuple[str, ...]:
    """The attributes that a sentence names and that a picture of them could show, in the order of `MEASURED`."""
    looks = reading.attributes
    shows = {
        "hair_color": looks.hair_style != "bald",
        "beard_color": looks.beard != "none",
        "hat_color": looks.hat not in ("none", "crown"),
    }
    return tuple(name for name in MEASURED if name in reading.named and shows.get(name, True))


@dataclass(frozen=True)
class Verdict:
    """How far pictures are from each option of one attribute, on the pixels where the options differ."""

    wanted: str
    errors: dict[str, float]  # summed absolute difference per option
    pixels: int  # over all pictures; too few decide nothing

    @property
    def nearest(self) -> str:
        """The option that the pictures show; what was wanted wins a tie."""
        return min(self.errors, key=lambda option: (self.errors[option], option != self.wanted))

    @property
    def right(self) -> bool:
        return self.nearest == self.wanted


class Candidates:
    """Compares pictures with the world's own pictures of every option.

    Args:
        world: paints the candidates; its background must be that of the pictures.
        noticeable: a pixel decides where two candidates differ by more than this in a channel, RGB in [0, 1].
            Where none do (wrinkles on dark skin), half of the largest difference takes its place.
        min_pixels: an attribute with fewer deciding pixels in all pictures together is hidden and gets no verdict.
    """

    def __init__(self, world: World, *, noticeable: float, min_pixels: int, visible: float = 0.01) -> None:
        self.world = world
        self.noticeable, self.min_pixels, self.visible = noticeable, min_pixels, visible

    def judge(
        self,
        pictures: Float[Tensor, "B 3 H W"],
        attributes: Attributes,
        names: Sequence[str],
        shape: Float[Tensor, " S"],
        pose: Pose,
        cameras: Cameras,
    ) -> dict[str, Verdict]:
        """A verdict for each of `names` that can be seen in B pictures of one head.

        Args:
            pictures: RGB in [0, 1] on the CPU, of the cameras' size.
            attributes: the looks that were asked for; candidates differ from them in one attribute.
            names: of the attributes to judge.
            shape, pose, cameras: of the head in the pictures; one pose for all of them or one each.
        """
        looks = {name: {option: replace(attributes, **{name: option}) for option in OPTIONS[name]} for name in names}
        distinct = list(dict.fromkeys(look for options in looks.values() for look in options.values()))
        painted = self.world.render_each(distinct, shape, pose, cameras)
        rgb = {look: picture.rgb for look, picture in zip(distinct, painted, strict=True)}
        verdicts = {
            name: self._compare(pictures, getattr(attributes, name), {o: rgb[look] for o, look in options.items()})
            for name, options in looks.items()
        }
        return {name: verdict for name, verdict in verdicts.items() if verdict.pixels >= self.min_pixels}

    def _compare(
        self, pictures: Float[Tensor, "B 3 H W"], wanted: str, candidates: dict[str, Float[Tensor, "B 3 H W"]]
    ) -> Verdict:
        low = high = candidates[wanted]
        for candidate in candidates.values():
            low, high = torch.minimum(low, candidate), torch.maximum(high, candidate)
        spread = (high - low).amax(1)
        threshold = max(min(self.noticeable, 0.5 * float(spread.max())), self.visible)
        deciding = spread > threshold
        errors = {
            option: float((pictures - candidate).abs().sum(1)[deciding].sum())
            for option, candidate in candidates.items()
        }
        return Verdict(wanted, errors, int(deciding.sum()))
