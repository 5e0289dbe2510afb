"""How well an avatar fits its sentence in the eyes of a CLIP model, all around the head."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import interpolate, normalize

from headstudio.camera import ring
from headstudio.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Float
    from torch import Tensor

    from headstudio.render import Renderer
    from headstudio.types import Cameras

LOCAL = "local-dir:"


def packaged_clip(*, name: str) -> str:
    """open_clip's name of the model folder `headstudio/assets/<name>` of this installation."""
    from importlib.resources import files

    return f"{LOCAL}{Path(str(files('headstudio'))) / 'assets' / name}"


def distractors(sentence: str, *, count: int, seed: int) -> list[str]:
    """Sentences about random heads of the synthetic world, no two and none of them with the looks of `sentence`."""
    from headstudio.synthetic.captions import caption
    from headstudio.synthetic.reading import parse
    from headstudio.synthetic.samples import random_attributes

    rng = np.random.default_rng([seed, 64])
    seen = {parse(sentence).attributes}
    sentences: list[str] = []
    while len(sentences) < count:
        looks = random_attributes(rng)
        text = caption(looks, rng)
        if looks not in seen:
            seen.add(looks)
            sentences.append(text)
    return sentences


def rank_of_first(image: Float[Tensor, " D"], texts: Float[Tensor, "T D"]) -> int:
    """The place (1 is best) of the first text among all by cosine; a tie counts against it."""
    scores = normalize(texts, dim=-1) @ normalize(image, dim=-1)
    return 1 + int((scores[1:] >= scores[0]).sum())


class ClipScore:
    """Cosine between views of an avatar and its sentence, and the sentence's rank among others.

    Protocol: the head at rest is drawn from `views` evenly spaced azimuths (the first in front of the face) at
    each of `elevations_deg`, on a plain background, at `width` x `height`. Each picture is resized to the model's
    own size (antialiased bilinear) and normalised as the model's folder says. The text is the sentence exactly as
    the user gave it. Nothing is scaled or clamped:

    * `clip_score`: cosine of each view's image embedding and the text embedding, averaged over all views.
    * `clip_score_front`: the same average over the views with |azimuth| <= `front_azimuth_deg`.
    * `clip_rank`: the views' unit embeddings are averaged; the place (1 is best) of the sentence by cosine to that
      average, among itself and `distractors` sentences about other random heads of the synthetic world, always
      drawn from the same `seed`. A sentence that means the same looks is never a distractor.
    * `clip_first`: 1.0 if `clip_rank` is 1, else 0.0.

    Args:
        model: a name that open_clip knows, or `local-dir:` and a folder (see `packaged_clip`).
        pretrained: open_clip's tag of the weights, None where the folder holds them.
        width, height: of the drawn pictures, pixels.
        views: azimuths of a ring.
        elevations_deg: one ring each.
        front_azimuth_deg: what counts as front, degrees to either side.
        distance, fovy_deg, target: of the cameras (world units, degrees, world units).
        background: RGB in [0, 1].
        distractors: other sentences.
        seed: of the distractors.

    Raises:
        UserError: `model` names a folder that is not there.
    """

    def __init__(
        self,
        *,
        model: str,
        pretrained: str | None,
        width: int,
        height: int,
        views: int,
        elevations_deg: Sequence[float],
        front_azimuth_deg: float,
        distance: float,
        fovy_deg: float,
        target: Sequence[float],
        background: Sequence[float],
        distractors: int,
        seed: int,
    ) -> None:
        if model.startswith(LOCAL) and not (Path(model.removeprefix(LOCAL)) / "open_clip_config.json").is_file():
            raise UserError(f"metrics.clip.model={model} must name a folder that holds an open_clip_config.json.")
        self.model_name, self.pretrained = model, pretrained
        framing: dict[str, Any] = {"distance": distance, "fovy_deg": fovy_deg, "width": width, "height": height}
        self.rings: list[Cameras] = [
            ring(views, elevation_deg=elevation, target=target, **framing) for elevation in elevations_deg
        ]
        self.front = torch.cat([cameras.azimuth_deg.abs() <= front_azimuth_deg + 1e-3 for cameras in self.rings])
        self.background = torch.tensor([float(value) for value in background])
        self.distractors, self.seed = distractors, seed
        self._loaded: tuple[Any, Any, Tensor, Tensor] | None = None

    @torch.no_grad()
    def __call__(self, avatar: Any, renderer: Renderer, prompt: str, generator: torch.Generator) -> dict[str, float]:
        """{"clip_score", "clip_score_front", "clip_rank", "clip_first"} of the avatar at rest."""
        device = avatar.means.device
        _, _, gaussians = avatar.pose(avatar.head.neutral_pose().to(device))
        background = self.background.to(device)
        pictures = [renderer(gaussians, cameras.to(device), background).rgb for cameras in self.rings]
        return self.judge(torch.cat(pictures), self.front.to(device), prompt)

    @torch.no_grad()
    def judge(self, pictures: Float[Tensor, "V 3 H W"], front: Bool[Tensor, " V"], prompt: str) -> dict[str, float]:
        """The four numbers for V pictures (RGB in [0, 1]) of one head, of which some are `front` views."""
        images = self.encode_pictures(pictures)
        texts = self.encode_sentences([prompt, *distractors(prompt, count=self.distractors, seed=self.seed)])
        cosine = images @ texts[0].to(images.device)
        rank = rank_of_first(images.mean(0), texts.to(images.device))
        return {
            "clip_score": float(cosine.mean()),
            "clip_score_front": float(cosine[front].mean()) if bool(front.any()) else float("nan"),
            "clip_rank": float(rank),
            "clip_first": float(rank == 1),
        }

    def encode_pictures(self, pictures: Float[Tensor, "V 3 H W"], *, chunk: int = 16) -> Float[Tensor, "V D"]:
        """Unit image embeddings of pictures in [0, 1] of any size."""
        model, _, mean, std = self._load(pictures.device)
        size = model.visual.image_size
        size = (size, size) if isinstance(size, int) else tuple(size)
        embeddings = []
        for part in pictures.float().clamp(0, 1).split(chunk):
            if part.shape[-2:] != size:
                part = interpolate(part, size=size, mode="bilinear", align_corners=False, antialias=True)
            embeddings.append(model.encode_image((part - mean) / std, normalize=True))
        return torch.cat(embeddings).float()

    def encode_sentences(self, sentences: list[str]) -> Float[Tensor, "T D"]:
        """Unit text embeddings, on the device of the pictures seen last."""
        model, tokenizer, mean, _ = self._load(None)
        return model.encode_text(tokenizer(sentences).to(mean.device), normalize=True).float()  # type: ignore[no-any-return]

    def _load(self, device: torch.device | None) -> tuple[Any, Any, Tensor, Tensor]:
        """The model, read when it is first asked for; loading takes seconds and no run needs it before its end."""
        if self._loaded is None:
            import open_clip

            model = open_clip.create_model(self.model_name, pretrained=self.pretrained).eval().requires_grad_(False)
            preprocess = open_clip.get_model_preprocess_cfg(model)
            mean, std = (torch.tensor(preprocess[name])[None, :, None, None] for name in ("mean", "std"))
            self._loaded = model, open_clip.get_tokenizer(self.model_name), mean, std
        model, tokenizer, mean, std = self._loaded
        if device is not None and mean.device != device:
            self._loaded = model.to(device), tokenizer, mean.to(device), std.to(device)
        return self._loaded
