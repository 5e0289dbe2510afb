"""Against a face on every side (the Janus problem): three published remedies, all off unless a setting names them.

* Perp-Neg (Armandpour et al. 2023, "Re-imagine the Negative Prompt Algorithm"): `PerpNeg`, `perp_neg`.
* Prompt debiasing (Hong et al. 2023, "Debiasing Scores and Prompts of 2D Diffusion"): `WordRemoval`.
* Score debiasing (the same paper): `clipped`.

Where the papers leave a choice, the one of threestudio is taken and named.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headstudio.errors import UserError
from headstudio.findings import Finding, State
from headstudio.guidance.sds import Latents

log = logging.getLogger(__name__)

VIEWS = ("front", "side", "back", "overhead")
FRONT, SIDE, BACK, OVERHEAD = range(len(VIEWS))


def perpendicular(x: Latents, y: Latents, *, eps: float = 1e-6) -> Latents:
    """The part of each row of `x` at right angles to that row of `y`."""
    along = (x * y).sum(dim=(1, 2, 3), keepdim=True) / (y * y).sum(dim=(1, 2, 3), keepdim=True).clamp_min(eps)
    return x - along * y


def perp_neg(e_text: Latents, e_null: Latents, e_opposed: Sequence[Latents], weights: Float[Tensor, "B K"]) -> Latents:
    """What takes the place of `e_text`: null + d + sum of w_k times the part of d_k at right angles to d.

    Here d = text - null and d_k = opposed_k - null. Guided by s this is Perp-Neg's null + s (d + sum ...), so every
    rule of `sds.py` goes with it. A view that pulls the way of the prompt itself takes nothing away from it. Source:
    Armandpour et al. 2023; threestudio, stable_diffusion_guidance.py (`use_perp_neg`).

    Args:
        e_text, e_null: as in `sds.py`.
        e_opposed: K predictions, for the views that the picture must not show.
        weights: of each of them by row, 0 or less.
    """
    direction = e_text - e_null
    pushes = [
        weight[:, None, None, None] * perpendicular(e_view - e_null, direction)
        for e_view, weight in zip(e_opposed, weights.unbind(1), strict=True)
    ]
    return e_null + direction + torch.stack(pushes).sum(0)


@dataclass(frozen=True)
class Opposition:
    """For B cameras: the weight of each view's prompt in theirs, two views not to show, and the weights of these."""

    mixture: Float[Tensor, "B 4"]
    views: Int[Tensor, "B 2"]
    weights: Float[Tensor, "B 2"]


@dataclass(frozen=True, kw_only=True)
class PerpNeg:
    """Which views a camera is pushed away from, and how strongly: functions of its azimuth.

    Between front and side (r = 1 at the front, 0 at 90 degrees) the prompt is r front + (1 - r) side and both views
    are opposed; between side and back (r = 1 at the side, 0 at the back) it is r side + (1 - r) back, and side and
    front are opposed. Each strength is a exp(-b r) + c of its own triple (a, b, c). From overhead nothing is opposed.
    Source: Armandpour et al. 2023; threestudio, prompt_processors/base.py (`get_text_embeddings_perp_neg`).

    Args:
        front_in_front, side_in_front: strengths against front and side between them; the latter reads 1 - r.
        side_behind, front_behind: strengths against side and front between side and back.

    Raises:
        UserError: a strength that is no triple.
    """

    front_in_front: Sequence[float]
    side_in_front: Sequence[float]
    side_behind: Sequence[float]
    front_behind: Sequence[float]

    def __post_init__(self) -> None:
        for name, triple in vars(self).items():
            if len(triple) != 3:
                raise UserError(f"prompts.perp_neg.{name}={list(triple)} must be three numbers a, b, c.")

    def __call__(self, azimuth_deg: Float[Tensor, " B"], overhead: Bool[Tensor, " B"]) -> Opposition:
        """Blending and opposing by camera; azimuths in (-180, 180], 0 in front of the face."""
        turn = azimuth_deg.abs() / 90  # 0 in front, 1 at the side, 2 behind
        ahead, zero = turn < 1, torch.zeros_like(turn)
        r = torch.where(ahead, 1 - turn, 2 - turn)
        mixture = torch.stack([torch.where(ahead, r, zero), torch.where(ahead, 1 - r, r), zero, zero], dim=1)
        mixture[:, BACK] = torch.where(ahead, zero, 1 - r)
        mixture = torch.where(overhead[:, None], _one_hot(OVERHEAD, mixture), mixture)
        near = torch.where(ahead, _decay(self.front_in_front, r), _decay(self.side_behind, r))
        far = torch.where(ahead, _decay(self.side_in_front, 1 - r), _decay(self.front_behind, r))
        weights = -torch.stack([near, far], dim=1)
        first = torch.full_like(turn, SIDE, dtype=torch.long).masked_fill(ahead, FRONT)
        return Opposition(
            mixture=mixture,
            views=torch.stack([first, FRONT + SIDE - first], dim=1),
            weights=weights.masked_fill(overhead[:, None], 0.0),
        )


def _decay(triple: Sequence[float], r: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    a, b, c = triple
    return a * torch.exp(-b * r) + c


def _one_hot(view: int, like: Float[Tensor, "B 4"]) -> Float[Tensor, "B 4"]:
    return (torch.arange(like.shape[1], device=like.device) == view).to(like).expand_as(like)


def clipped(gradient: Latents, limit: float) -> Latents:
    """Every number of the gradient within `limit` of 0.

    With a limit that grows linearly with the step this is score debiasing: early scores, which put faces where none
    belong, are cut short. Source: Hong et al. 2023; what is clipped is the gradient with its w(t), not the bare score,
    as in threestudio (`grad_clip`).
    """
    return gradient.clamp(-limit, limit)


@dataclass(frozen=True, kw_only=True)
class WordRemoval:
    """Prompt debiasing: a word that makes a view less likely is left out of that view's prompt.

    A masked language model says how likely each view is in "This image is depicting a [MASK] view of <prompt>", with
    the word and without it. The word goes where P(view | with) / P(view) < `threshold`, the views' pointwise mutual
    information with the word before the logarithm; P(view) is the mean of with and without. So "smiling" leaves the
    back view alone. Source: Hong et al. 2023; sentence, marginal and threshold are those of threestudio,
    prompt_processors/base.py (`get_debiased_prompt`), with bert-base-uncased and 0.95.

    Args:
        model: folder or hub id of a masked language model and its tokenizer. None ships with this package.
        threshold: below which a word goes; 0 keeps all.
        candidates: the words that may go; None is all. Words are what spaces separate.

    Raises:
        UserError: a model that can't be read, or to which a view's name is no single token.
    """

    model: str
    threshold: float
    candidates: Sequence[str] | None

    def __call__(self, prompt: str) -> dict[str, str]:
        """The prompt for each view; what is left out is logged."""
        prompts = without_conflicts(prompt, self._view_probabilities(), self.threshold, self.candidates)
        for view, text in prompts.items():
            if text != prompt:
                log.info("Prompt for the %s view, without the words that speak against it: %r", view, text)
        return prompts

    @staticmethod
    def look(*, model: str, **_: object) -> Iterator[Finding]:
        """What the doctor says of the language model."""
        from headstudio.guidance.hub import in_cache, is_offline

        what = f"Masked language model {model}"
        if Path(model).is_dir() or in_cache(model, "")("config.json"):
            yield Finding(what=what, state=State.READY)
        elif is_offline():
            yield Finding(what=what, state=State.LACKING, detail="no folder", remedy="prompts.debias.model=FOLDER")
        else:
            remedy = "the run downloads it where the hub can be reached; or prompts.debias.model=FOLDER"
            yield Finding(what=what, state=State.FETCHED, detail="from the Hugging Face hub", remedy=remedy)

    def _view_probabilities(self) -> Callable[[str], Mapping[str, float]]:
        tokenizer, model = self._load()
        tokens = {view: tokenizer(f" {view}", add_special_tokens=False).input_ids for view in VIEWS}
        if broken := [view for view, ids in tokens.items() if len(ids) != 1 or ids[0] == tokenizer.unk_token_id]:
            raise UserError(f"prompts.debias.model={self.model!r} has no token for {', '.join(broken)}; use another.")

        @torch.no_grad()
        def probabilities(prompt: str) -> dict[str, float]:
            sentence = f"This image is depicting a {tokenizer.mask_token} view of {prompt}"
            read = tokenizer(sentence, truncation=True, return_tensors="pt")
            where = int((read.input_ids[0] == tokenizer.mask_token_id).nonzero()[0])
            chances = model(**read).logits[0, where].softmax(-1)[[tokens[view][0] for view in VIEWS]]
            return dict(zip(VIEWS, (chances / chances.sum()).tolist(), strict=True))

        return probabilities

    def _load(self) -> tuple[Any, Any]:
        from transformers import AutoModelForMaskedLM, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.model)
            return tokenizer, AutoModelForMaskedLM.from_pretrained(self.model).eval()
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"prompts.debias.model={self.model!r} can't be read as a masked language model; name a folder with one,"
                " or a hub id such as bert-base-uncased where the hub or its cache can be reached."
            ) from error


def without_conflicts(
    prompt: str,
    view_probabilities: Callable[[str], Mapping[str, float]],
    threshold: float,
    candidates: Sequence[str] | None,
) -> dict[str, str]:
    """The rule of `WordRemoval`, whatever says how likely each view is for a prompt."""
    words, whole = prompt.split(), view_probabilities(prompt)
    kept: dict[str, list[str]] = {view: [] for view in whole}
    for index, word in enumerate(words):
        free = candidates is None or word in candidates
        part = view_probabilities(" ".join(words[:index] + words[index + 1 :])) if free else whole
        for view, chance in whole.items():
            if not free or chance >= threshold * (chance + part[view]) / 2:
                kept[view].append(word)
    return {view: " ".join(left) for view, left in kept.items()}
