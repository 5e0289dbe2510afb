"""Whether an avatar looks as its sentence says, in the regions where that shows, and stays so when it moves."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from headstudio.camera import cameras_from_orbit
from headstudio.motion.evaluation import evaluation_poses
from headstudio.synthetic.candidates import Candidates, Verdict, measured
from headstudio.synthetic.reading import parse

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.head.model import HeadModel
    from headstudio.render import Renderer
    from headstudio.types import Cameras, Pose

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
        width, height: of the pictures, pixels.
        distance, fovy_deg, elevation_deg, target: of the cameras; the framing that the prior has seen.
        rest_azimuths_deg, animation_azimuths_deg: the views at rest, and of each of the other evaluation poses.
        background: RGB in [0, 1] behind the avatar and the world, a colour that nothing in the world has.
        noticeable, min_pixels, soften_px: as in `synthetic.candidates.Candidates`.
    """

    def __init__(
        self,
        *,
        width: int,
        height: int,
        distance: float,
        fovy_deg: float,
        elevation_deg: float,
        target: Sequence[float],
        rest_azimuths_deg: Sequence[float],
        animation_azimuths_deg: Sequence[float],
        background: Sequence[float],
        noticeable: float,
        min_pixels: int,
        soften_px: int,
    ) -> None:
        def views(azimuths_deg: Sequence[float]) -> Cameras:
            return cameras_from_orbit(list(azimuths_deg), elevation_deg, distance, fovy_deg, width, height, target)

        self.rest, self.animation = views(rest_azimuths_deg), views(animation_azimuths_deg)
        self.background = (float(background[0]), float(background[1]), float(background[2]))
        self.comparison: dict[str, Any] = {
            "noticeable": noticeable,
            "min_pixels": min_pixels,
            "soften_px": soften_px,
        }

    def __call__(self, avatar: Any, renderer: Renderer, prompt: str, generator: torch.Generator) -> dict[str, float]:
        """{"alignment_rest": ..., "alignment_rest/lips": ..., "alignment_animation": ..., ...}.

        `alignment_rest` is the share of the named attributes that are right, `alignment_animation` that of the pairs
        of attribute and pose; the entries with a name are the same for one attribute. Empty, with a note in the log,
        where the sentence names nothing that can be measured or the head is not one that the world can paint.
        """
        from headstudio.synthetic.world import World

        reading = parse(prompt)
        names = measured(reading)
        if not names:
            log.info("Alignment is not measured: the prompt names no attribute of the synthetic world.")
            return {}
        if not set(REGIONS) <= set(avatar.head.region_names):
            log.info("Alignment is not measured: the synthetic world can't paint this head.")
            return {}
        head, shape = _on_cpu(avatar)
        candidates = Candidates(World(head, background=self.background), **self.comparison)
        verdicts: dict[str, list[dict[str, Verdict]]] = {"rest": [], "animation": []}
        for name, pose in evaluation_poses(head).items():
            kind, cameras = ("rest", self.rest) if name == "rest" else ("animation", self.animation)
            pictures = self._photograph(avatar, renderer, pose, cameras)
            verdicts[kind].append(candidates.judge(pictures, reading.attributes, names, shape, pose, cameras))
        scores: dict[str, float] = {}
        for kind, poses in verdicts.items():
            scores |= _shares(f"alignment_{kind}", names, poses)
        return scores

    @torch.no_grad()
    def _photograph(self, avatar: Any, renderer: Renderer, pose: Pose, cameras: Cameras) -> Float[Tensor, "B 3 H W"]:
        device = avatar.means.device
        _, _, gaussians = avatar.pose(pose.to(device))
        background = torch.tensor(self.background, device=device)
        return renderer(gaussians, cameras.to(device), background).rgb.float().cpu()


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
