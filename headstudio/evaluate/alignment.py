"""Whether an avatar looks as its sentence says, in the regions where that shows, and stays so when it moves."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headstudio.evaluate import Judgement
from headstudio.motion.evaluation import evaluation_poses
from headstudio.synthetic.candidates import Candidates, Verdict, measured
from headstudio.synthetic.reading import parse

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.evaluate.framing import Framing
    from headstudio.head.model import HeadModel
    from headstudio.render import SceneRenderer

log = logging.getLogger(__name__)
REGIONS = ("sclera", "iris", "teeth", "tongue", "mouth", "socket", "lips")  # what the synthetic world paints by


class Alignment:
    """Attribute alignment against the synthetic world's ground truth, at rest and under animation.

    Protocol: the sentence is read (`synthetic.reading.parse`); for each attribute that it names, the world paints
    the head once per option with the other attributes as the sentence has them, with the avatar's own shape, at the
    same pose and from the same cameras. The attribute is right when the avatar's pictures are nearer to the named
    option than to any other, each pair compared on the pixels where those two differ, summed over the views of a
    pose (`synthetic.candidates`). So lips are judged on lips, and long hair against short where long hair would hang.
    Attributes that a pose hides (eyes in a blink) are left out there. Gender shows in the shape only and is not
    measured.

    Args:
        framing: how avatar and world are pictured: the framing that the prior has seen, before a colour that nothing in
            the world has.
        elevation_deg: of the cameras.
        rest_azimuths_deg, animation_azimuths_deg: the views at rest, and of each of the other evaluation poses.
        noticeable, min_pixels, soften_px: as in `synthetic.candidates.Candidates`.
    """

    def __init__(
        self,
        *,
        framing: Framing,
        elevation_deg: float,
        rest_azimuths_deg: Sequence[float],
        animation_azimuths_deg: Sequence[float],
        noticeable: float,
        min_pixels: int,
        soften_px: int,
    ) -> None:
        self.framing = framing
        self.rest = framing.cameras(rest_azimuths_deg, elevation_deg)
        self.animation = framing.cameras(animation_azimuths_deg, elevation_deg)
        self.comparison: dict[str, Any] = {
            "noticeable": noticeable,
            "min_pixels": min_pixels,
            "soften_px": soften_px,
        }

    def __call__(self, avatar: Any, renderer: SceneRenderer, prompt: str) -> Judgement:
        """{"alignment_rest": ..., "alignment_rest/lips": ..., "alignment_animation": ..., ...}.

        `alignment_rest` is the share of the named attributes that are right, `alignment_animation` that of the pairs
        of attribute and pose; the entries with a name are the same for one attribute. The details say per pose what
        was wanted and what is seen. Empty, with a note in the log, where the sentence names nothing that can be
        measured or the head is not one that the world can paint.
        """
        from headstudio.synthetic.world import World

        reading = parse(prompt)
        names = measured(reading)
        if not names:
            log.info("Alignment is not measured: the prompt names no attribute of the synthetic world.")
            return Judgement()
        if not set(REGIONS) <= set(avatar.head.region_names):
            log.info("Alignment is not measured: the synthetic world can't paint this head.")
            return Judgement()
        head, shape = _on_cpu(avatar)
        red, green, blue = (float(value) for value in self.framing.background)
        candidates = Candidates(World(head, background=(red, green, blue)), **self.comparison)
        verdicts: dict[str, dict[str, Verdict]] = {}
        for name, pose in evaluation_poses(head).items():
            cameras = self.rest if name == "rest" else self.animation
            pictures = self.framing.photograph(avatar, renderer, pose, cameras).rgb.float().cpu()
            verdicts[name] = candidates.judge(pictures, reading.attributes, names, shape, pose, cameras)
        moving = [found for name, found in verdicts.items() if name != "rest"]
        scores = _shares("alignment_rest", names, [verdicts["rest"]]) | _shares("alignment_animation", names, moving)
        told = {pose: {name: _told(verdict) for name, verdict in found.items()} for pose, found in verdicts.items()}
        return Judgement(scores, told)


def _told(verdict: Verdict) -> dict[str, str]:
    return {"wanted": verdict.wanted, "seen": verdict.nearest}


def _on_cpu(avatar: Any) -> tuple[HeadModel, Float[Tensor, " S"]]:
    """The avatar's head and its shape coefficients, apart from the avatar."""
    head: HeadModel = copy.deepcopy(avatar.head).float().cpu()
    return head, avatar.shape.detach().float().cpu()


def _shares(key: str, names: Sequence[str], poses: list[dict[str, Verdict]]) -> dict[str, float]:
    """Share of right verdicts, in all and per attribute; nothing for what no pose shows."""
    right = {name: [float(pose[name].right) for pose in poses if name in pose] for name in names}
    everything = [value for values in right.values() for value in values]
    shares = {key: everything, **{f"{key}/{name}": values for name, values in right.items()}}
    return {name: round(sum(values) / len(values), 4) for name, values in shares.items() if values}
