"""Which looks a picture shows, by analysis through synthesis: paint every option and see which comes nearest.

The same rule judges the tiny prior's samples and finished avatars. Gender is not measured: it shows in the shape
alone, and the shape is given here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch.nn.functional import avg_pool2d

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
    """How pictures compare with each option of one attribute that looks different from the one that was wanted."""

    wanted: str
    margins: dict[str, float]  # per other option: its error minus that of `wanted`, where the two differ; never empty

    @property
    def nearest(self) -> str:
        """The option that the pictures show; what was wanted wins a tie."""
        return self.wanted if self.right else min(self.margins, key=lambda option: self.margins[option])

    @property
    def right(self) -> bool:
        return min(self.margins.values()) >= 0.0


class Candidates:
    """Compares pictures with the world's own pictures of every option.

    The wanted option is right when it is nearer to the pictures than every other one, each pair compared (summed
    absolute difference) on just the pixels where those two differ. Options that can't be told from the wanted one
    in these views (a goatee from behind) don't count.

    Args:
        world: paints the candidates; its background must be that of the pictures.
        noticeable: two candidates differ at a pixel by more than this in a channel, RGB in [0, 1]. Where no pixel
            does (wrinkles on dark skin), half of their largest difference takes its place.
        min_pixels: options that differ at fewer pixels, over all pictures together, can't be told apart.
        soften_px: side (odd) of the box by which pictures and candidates are averaged before they are compared, so
            that a colour counts more than sharpness and a pixel's shift.
    """

    def __init__(
        self, world: World, *, noticeable: float, min_pixels: int, soften_px: int, visible: float = 0.02
    ) -> None:
        self.world = world
        self.noticeable, self.min_pixels, self.visible = noticeable, min_pixels, visible
        self.soften_px = soften_px

    def judge(
        self,
        pictures: Float[Tensor, "B 3 H W"],
        attributes: Attributes,
        names: Sequence[str],
        shape: Float[Tensor, " S"],
        pose: Pose,
        cameras: Cameras,
    ) -> dict[str, Verdict]:
        """A verdict for each of `names` that shows in B pictures of one head.

        Args:
            pictures: RGB in [0, 1] on the CPU, of the cameras' size.
            attributes: the looks that were asked for; candidates differ from them in one attribute.
            names: of the attributes to judge.
            shape, pose, cameras: of the head in the pictures; one pose for all of them or one each.
        """
        looks = {name: {option: replace(attributes, **{name: option}) for option in OPTIONS[name]} for name in names}
        distinct = list(dict.fromkeys(look for options in looks.values() for look in options.values()))
        painted = self.world.render_each(distinct, shape, pose, cameras)
        rgb = {look: self._soft(picture.rgb) for look, picture in zip(distinct, painted, strict=True)}
        softened = self._soft(pictures)
        verdicts = {
            name: self._compare(softened, getattr(attributes, name), {o: rgb[look] for o, look in options.items()})
            for name, options in looks.items()
        }
        return {name: verdict for name, verdict in verdicts.items() if verdict.margins}

    def _soft(self, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        size = self.soften_px
        return avg_pool2d(pictures, size, stride=1, padding=size // 2, count_include_pad=False)

    def _compare(
        self, pictures: Float[Tensor, "B 3 H W"], wanted: str, candidates: dict[str, Float[Tensor, "B 3 H W"]]
    ) -> Verdict:
        right = candidates[wanted]
        own = (pictures - right).abs().sum(1)
        margins = {}
        for option, candidate in candidates.items():
            apart = (candidate - right).abs().amax(1)
            deciding = apart > max(min(self.noticeable, 0.5 * float(apart.max())), self.visible)
            if option != wanted and int(deciding.sum()) >= self.min_pixels:
                other = (pictures - candidate).abs().sum(1)
                margins[option] = float((other - own)[deciding].sum())
        return Verdict(wanted, margins)
