"""How well an avatar fits its sentence in the eyes of CLIP models, all around the head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from headstudio.evaluate import Judgement
from headstudio.evaluate.framing import Framing
from headstudio.evaluate.retrieval import ranks_of_first
from headstudio.evaluate.statistics import Score, estimate
from headstudio.guidance.prompts import VIEWS, view_indices

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.evaluate.clip_model import ClipModel
    from headstudio.render import SceneRenderer
    from headstudio.types import Cameras


class ClipScore:
    """Cosine between views of an avatar and its sentence, and whether the sentence is found among others.

    Protocol: the head at rest is drawn from `views` evenly spaced azimuths (the first in front of the face) at
    each of `elevations_deg`, and every model reads the same pictures. The text is the sentence exactly as the user gave
    it; a second score adds the words for the view that the guidance adds. Nothing is scaled or clamped. For a model
    called `clip` the scores are

    * `clip_score`: cosine of each view's image embedding and the sentence's, averaged over all views.
    * `clip_score_front`: the same average over the views with |azimuth| <= `front_azimuth_deg`.
    * `clip_score_suffix`: as `clip_score`, each view against the sentence with that view's words.
    * `clip_r_precision`, `clip_r_precision_front`: the share of views (front views) whose sentence comes first by
      cosine, among itself and the sentences of `others`.
    * `clip_rank`: the views' unit embeddings are averaged; the place (1 is best) of the sentence by cosine to that
      average, among the same sentences. `clip_first`: 1.0 if that is 1, else 0.0.

    Args:
        models: those that judge.
        framing: how the pictures are taken.
        views: azimuths of a ring.
        elevations_deg: one ring each.
        front_azimuth_deg: what counts as front, degrees to either side.
        others: the sentences that a sentence is to be told from.
        view_text, front_within_deg, back_beyond_deg, overhead_above_deg: the words for the views, as in
            `guidance.prompts.ViewPrompts`.
    """

    def __init__(
        self,
        *,
        models: Sequence[ClipModel],
        framing: Framing,
        views: int,
        elevations_deg: Sequence[float],
        front_azimuth_deg: float,
        others: Callable[[str], list[str]],
        view_text: Mapping[str, str],
        front_within_deg: float,
        back_beyond_deg: float,
        overhead_above_deg: float,
    ) -> None:
        self.models, self.framing, self.others, self.view_text = tuple(models), framing, others, dict(view_text)
        around = [index * 360.0 / views for index in range(views)]
        self.rings: list[Cameras] = [framing.cameras(around, elevation) for elevation in elevations_deg]
        self.azimuth_deg = torch.cat([cameras.azimuth_deg for cameras in self.rings])
        self.elevation_deg = torch.cat([cameras.elevation_deg for cameras in self.rings])
        self.front = self.azimuth_deg.abs() <= front_azimuth_deg + 1e-3
        self.words = view_indices(
            self.azimuth_deg, self.elevation_deg, front_within_deg, back_beyond_deg, overhead_above_deg
        )

    def prepare(self) -> None:
        """Fetch what the models need. Raises UserError as `ClipModel.prepare`."""
        for model in self.models:
            model.prepare()

    @torch.no_grad()
    def __call__(self, avatar: Any, renderer: SceneRenderer, prompt: str) -> Judgement:
        """The scores named above, per model, of the avatar at rest."""
        pose = avatar.head.neutral_pose()
        pictures = [self.framing.photograph(avatar, renderer, pose, cameras).rgb for cameras in self.rings]
        return self.judge(torch.cat(pictures), prompt)

    @torch.no_grad()
    def judge(self, pictures: Float[Tensor, "V 3 H W"], prompt: str) -> Judgement:
        """The scores for the pictures (RGB in [0, 1]) of one head from the protocol's cameras."""
        others = self.others(prompt)
        scores: dict[str, float] = {}
        details: dict[str, Any] = {
            "azimuth_deg": _rounded(self.azimuth_deg, 2),
            "elevation_deg": _rounded(self.elevation_deg, 2),
            "front": self.front.tolist(),
            "among": 1 + len(others),
        }
        for model in self.models:
            scores_of, details[model.name] = self._judge(model, pictures, prompt, others)
            scores |= {f"{model.name}_{name}": round(value, 6) for name, value in scores_of.items()}
        return Judgement(scores, details)

    def _judge(
        self, model: ClipModel, pictures: Float[Tensor, "V 3 H W"], prompt: str, others: list[str]
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """One model's scores and, per view, what they are means of."""
        images = model.encode_pictures(pictures).cpu()
        texts = model.encode_sentences([prompt, *others]).cpu()
        told = model.encode_sentences([self.view_text[view].replace("{prompt}", prompt) for view in VIEWS]).cpu()
        cosine = images @ texts[0]
        suffix = (images * told[self.words]).sum(1)
        ranks = ranks_of_first(images, texts)
        rank = int(ranks_of_first(images.mean(0, keepdim=True), texts))
        first = (ranks == 1).double()
        scores = {
            "score": float(cosine.double().mean()),
            "score_suffix": float(suffix.double().mean()),
            "r_precision": float(first.mean()),
            "rank": float(rank),
            "first": float(rank == 1),
        }
        if bool(self.front.any()):
            scores["score_front"] = float(cosine[self.front].double().mean())
            scores["r_precision_front"] = float(first[self.front].mean())
        spread = estimate([Score({}, scores["score"], tuple(cosine.tolist()))])
        details = {
            "cosine": _rounded(cosine, 6),
            "cosine_suffix": _rounded(suffix, 6),
            "rank": ranks.tolist(),
            "interval_over_views": [round(spread.low, 6), round(spread.high, 6)],
        }
        return scores, details


def _rounded(values: Tensor, digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]
