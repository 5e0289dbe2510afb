"""View-dependent prompts: one sentence, four views, embedded once.

Saying from where the head is seen keeps the prior from putting a face on every side (the Janus problem; section 4.4,
Hong et al. 2023). The official code does it with suffixes (prompt_processors/base.py:194-218).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstudio.device import to_device
from headstudio.errors import UserError
from headstudio.guidance.debias import BACK, FRONT, OVERHEAD, SIDE, VIEWS, PerpNeg, WordRemoval
from headstudio.guidance.prior import Prior
from headstudio.guidance.vocabulary import check_vocabulary, require_known_prompt
from headstudio.types import Cameras

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opposed:
    """The prompts of the K views that each of B cameras is pushed away from, and how strongly (0 or less)."""

    texts: Float[Tensor, "B K T D"]
    weights: Float[Tensor, "B K"]


@dataclass(frozen=True)
class PromptEmbeddings:
    """What the UNet reads for B cameras.

    The view's prompt, the empty text, the negative prompt (None if empty), the prompt without a view, and with
    Perp-Neg the views that are opposed.
    """

    text: Float[Tensor, "B T D"]
    null: Float[Tensor, "B T D"]
    negative: Float[Tensor, "B T D"] | None
    plain: Float[Tensor, "B T D"]
    opposed: Opposed | None = None


class ViewPrompts:
    """The prompt's embeddings by camera. All are computed here, once; the prior's text encoder is then freed.

    A camera higher than `overhead_above_deg` sees the head from overhead; otherwise its azimuth decides: front within
    `front_within_deg` of the face's direction on either side, back from `back_beyond_deg` on, else side.

    Args:
        prior: encodes the texts, and knows which words it knows.
        prompt: the user's sentence.
        negative_prompt: what the denoised rules steer away from; the same for every view, as in the official code. An
            empty one costs nothing, because its prediction is the empty text's.
        view_text: the prompt's form for front, side, back and overhead, with `{prompt}` where the sentence goes.
        crop_text: its form for each region that close views show (`camera_crops`); these take no part in Perp-Neg.
        front_within_deg: half width of the front sector.
        back_beyond_deg: azimuth (absolute) from which on the view is a back view.
        overhead_above_deg: elevation above which the view is from overhead.
        perp_neg: blends the views' prompts by azimuth and opposes others; None takes the view's prompt as it is.
        debias: leaves words out of the sentence by view, before it is put into `view_text`; None leaves it alone.

    Raises:
        UserError: an empty prompt, one of which the prior knows no word, a view without text, thresholds out of order.
    """

    def __init__(
        self,
        prior: Prior,
        *,
        prompt: str,
        negative_prompt: str,
        view_text: Mapping[str, str],
        crop_text: Mapping[str, str],
        front_within_deg: float,
        back_beyond_deg: float,
        overhead_above_deg: float,
        perp_neg: PerpNeg | None = None,
        debias: WordRemoval | None = None,
    ) -> None:
        if not 0 <= front_within_deg <= back_beyond_deg <= 180:
            raise UserError(
                f"prompts.front_within_deg={front_within_deg} and prompts.back_beyond_deg={back_beyond_deg} must be"
                " in this order between 0 and 180."
            )
        if set(view_text) != set(VIEWS):
            raise UserError(f"prompts.view_text names {', '.join(sorted(view_text))}; it must name {', '.join(VIEWS)}.")
        require_known_prompt(prompt, prior.vocabulary, file=prior.vocabulary_file, colors=prior.colors)
        self._front, self._back, self._overhead = front_within_deg, back_beyond_deg, overhead_above_deg
        sentences = dict.fromkeys(VIEWS, prompt) if debias is None else debias(prompt)
        self.perp_neg = perp_neg
        self.texts = tuple(view_text[view].replace("{prompt}", sentences[view]) for view in VIEWS)
        _warn_unknown("prompts.negative_prompt", negative_prompt, prior)
        for key, texts in (("view_text", view_text), ("crop_text", crop_text)):
            for view, text in texts.items():
                _warn_unknown(f"prompts.{key}.{view}", text.replace("{prompt}", ""), prior)
        embeddings = prior.encode_prompts([*self.texts, "", negative_prompt])
        self._views, self._null, negative = embeddings.split([len(VIEWS), 1, 1])
        self._negative = negative if negative_prompt.strip() else None
        self._plain = prior.encode_prompts([prompt])
        self._close = {
            name: prior.encode_prompts([text.replace("{prompt}", prompt)])[0] for name, text in crop_text.items()
        }
        prior.free_text_encoder()

    def views(self, cameras: Cameras) -> Int[Tensor, " B"]:
        """The view of each camera as an index into `VIEWS`."""
        sectors = (self._front, self._back, self._overhead)
        return view_indices(cameras.azimuth_deg, cameras.elevation_deg, *sectors)

    def __call__(self, cameras: Cameras) -> PromptEmbeddings:
        """The embeddings for each camera, on the device where the prior was when they were made."""
        count, device = len(cameras), self._views.device
        views, opposed = self.views(cameras).to(device), None
        text = self._views[views]
        if self.perp_neg is not None:
            found = self.perp_neg(cameras.azimuth_deg.to(device), views == OVERHEAD)
            text = torch.einsum("bv,vtd->btd", found.mixture.to(text.dtype), self._views)
            opposed = Opposed(self._views[found.views], found.weights)
        if any(cameras.crops):
            text, opposed = self._with_close_views(text, opposed, cameras.crops)
        return PromptEmbeddings(
            text=text,
            null=self._null.expand(count, -1, -1),
            negative=None if self._negative is None else self._negative.expand(count, -1, -1),
            plain=self._plain.expand(count, -1, -1),
            opposed=opposed,
        )

    def _with_close_views(
        self, text: Float[Tensor, "B T D"], opposed: Opposed | None, crops: Sequence[str]
    ) -> tuple[Float[Tensor, "B T D"], Opposed | None]:
        """Close views read their region's text, and nothing is opposed in them."""
        if unknown := sorted({*crops} - {"", *self._close}):
            raise UserError(
                f"camera.regions names {', '.join(unknown)}, for which prompts.crop_text has no text; "
                f"it has {', '.join(self._close) or 'none'}."
            )
        rows = [row if not name else self._close[name] for row, name in zip(text, crops, strict=True)]
        if opposed is not None:
            whole = to_device(torch.tensor([[not name] for name in crops]), opposed.weights.device)
            opposed = replace(opposed, weights=opposed.weights * whole)
        return torch.stack(rows), opposed


def view_indices(
    azimuth_deg: Float[Tensor, " B"],
    elevation_deg: Float[Tensor, " B"],
    front_within_deg: float,
    back_beyond_deg: float,
    overhead_above_deg: float,
) -> Int[Tensor, " B"]:
    """From where each camera sees the head, as an index into `VIEWS`."""
    azimuth = azimuth_deg.abs()
    view = torch.full(azimuth.shape, SIDE, device=azimuth.device)
    view = view.masked_fill(azimuth <= front_within_deg, FRONT)
    view = view.masked_fill(azimuth >= back_beyond_deg, BACK)
    return view.masked_fill(elevation_deg > overhead_above_deg, OVERHEAD)


def _warn_unknown(key: str, text: str, prior: Prior) -> None:
    """Words of our own YAML that the prior does not know do no harm, but nobody should believe that they help."""
    if prior.vocabulary is not None and (unknown := check_vocabulary(text, prior.vocabulary)):
        log.warning("%s: the prior does not know %s.", key, ", ".join(map(repr, unknown)))
