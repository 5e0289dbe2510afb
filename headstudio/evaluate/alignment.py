"""Whether an avatar looks as its sentence says, in the regions where that shows, and stays so when it moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headstudio.evaluate import Judgement
from headstudio.evaluate.truth import truth
from headstudio.motion.evaluation import evaluation_poses
from headstudio.synthetic.candidates import Candidates, Verdict

if TYPE_CHECKING:
    from headstudio.evaluate.framing import Framing
    from headstudio.render import SceneRenderer


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
        rest_azimuths_deg, animation_azimuths_deg: the views at rest, and of each of the other evaluation poses (none:
            only rest is judged).
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
        was wanted and what is seen, or why nothing is measured: the sentence names nothing that a picture could show,
        or the head is not one that the world can paint.
        """
        from headstudio.synthetic.world import World

        wanted = truth(avatar, prompt)
        if isinstance(wanted, str):
            return Judgement(details={"not_measured": wanted})
        red, green, blue = (float(value) for value in self.framing.background)
        candidates = Candidates(World(wanted.head, background=(red, green, blue)), **self.comparison)
        verdicts: dict[str, dict[str, Verdict]] = {}
        for name, pose in evaluation_poses(wanted.head).items():
            cameras = self.rest if name == "rest" else self.animation
            if len(cameras):
                pictures = self.framing.photograph(avatar, renderer, pose, cameras).rgb.float().cpu()
                looks = (wanted.attributes, wanted.names)
                verdicts[name] = candidates.judge(pictures, *looks, wanted.shape, pose, cameras)
        moving = [found for name, found in verdicts.items() if name != "rest"]
        scores = _shares("alignment_rest", wanted.names, [verdicts["rest"]])
        scores |= _shares("alignment_animation", wanted.names, moving)
        told = {pose: {name: _told(verdict) for name, verdict in found.items()} for pose, found in verdicts.items()}
        return Judgement(scores, told)


def _told(verdict: Verdict) -> dict[str, str]:
    return {"wanted": verdict.wanted, "seen": verdict.nearest}


def _shares(key: str, names: Sequence[str], poses: list[dict[str, Verdict]]) -> dict[str, float]:
    """Share of right verdicts, in all and per attribute; nothing for what no pose shows."""
    right = {name: [float(pose[name].right) for pose in poses if name in pose] for name in names}
    everything = [value for values in right.values() for value in values]
    shares = {key: everything, **{f"{key}/{name}": values for name, values in right.items()}}
    return {name: round(sum(values) / len(values), 4) for name, values in shares.items() if values}
