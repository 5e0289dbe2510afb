"""Train the tiny CLIP that judges avatars, on pictures of the world that the tiny prior has not seen.

    python -m headstudio.synthetic.dataset training/world_clip seed=1 held_out=include camera.crop_fraction=0 \\
        count=16000
    python -m headstudio.synthetic.train_clip training/world_clip training/clip [key=value ...]

The same command again goes on from the last checkpoint. The result, `training/clip/export`, is a folder that
`open_clip.create_model("local-dir:training/clip/export")` reads; it ships as `headstudio/assets/tiny_clip`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize

from headstudio.synthetic.captions import caption
from headstudio.synthetic.clip_batches import ClipBatch, ClipBatches, ClipPictures, altered, is_visible, read_pictures
from headstudio.synthetic.dataset import decode_attributes
from headstudio.synthetic.settings import load_settings
from headstudio.synthetic.vocabulary import OPTIONS

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

GROUP = 64  # sentences that the retrieval test chooses from


def report(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def build_model_config(settings: Any, tokenizer: Any) -> dict[str, Any]:
    """`model_cfg` of open_clip for this tokenizer: the sentence's embedding is read at its end token."""
    from omegaconf import OmegaConf

    config: dict[str, Any] = OmegaConf.to_container(settings.model)  # type: ignore[assignment]
    words = {"vocab_size": len(tokenizer), "pool_type": "eos", "eos_id": tokenizer.eos_token_id}
    # open_clip takes any name here as "read the tokenizer from the model's own folder".
    config["text_cfg"] |= {**words, "pad_id": tokenizer.pad_token_id, "hf_tokenizer_name": "tiny_clip"}
    return config


def build_model(config: dict[str, Any]) -> Any:
    """An untrained open_clip CLIP."""
    from open_clip.model import CLIP

    shape = dict(config)
    text = {key: value for key, value in shape.pop("text_cfg").items() if key != "hf_tokenizer_name"}
    return CLIP(**shape, text_cfg=text)


def contrastive_loss(
    images: Float[Tensor, "B D"], texts: Float[Tensor, "T D"], codes: Int[Tensor, "T A"], scale: Tensor
) -> Tensor:
    """CLIP's loss with more sentences than pictures: sentence i belongs to picture i, those after B to none.

    Sentences that mean the same looks as the right one are no negatives and are left out of the sum.
    """
    count = len(images)
    logits = scale * images @ texts.T
    same = (codes[:count, None] == codes[None]).all(-1)
    same[torch.arange(count), torch.arange(count)] = False
    logits = logits.masked_fill(same, -math.inf)
    own = torch.arange(count)
    return (cross_entropy(logits, own) + cross_entropy(logits[:, :count].T, own)) / 2


class ClipTraining:
    """The model, the layer that names attributes (a training aid, not exported) and their optimiser."""

    def __init__(self, settings: Any, tokenizer: Any) -> None:
        self.settings, self.tokenizer = settings, tokenizer
        self.model_config = build_model_config(settings, tokenizer)
        torch.manual_seed(settings.seed)
        self.model = build_model(self.model_config)
        self.model.visual.to(memory_format=torch.channels_last)
        self.sizes = [len(options) for options in OPTIONS.values()]
        self.naming = torch.nn.Linear(settings.model.embed_dim, sum(self.sizes))
        t = settings.training
        self.parameters = [*self.model.parameters(), *self.naming.parameters()]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters if p.ndim > 1]},
            {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=t.learning_rate, weight_decay=t.weight_decay, betas=(0.9, 0.98))
        self.mean = torch.tensor(tuple(settings.preprocess.mean))[None, :, None, None]
        self.std = torch.tensor(tuple(settings.preprocess.std))[None, :, None, None]
        self.step, self.seconds = 0, 0.0

    def images(self, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Embeddings, not normalised."""
        normal = ((pictures - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return self.model.encode_image(normal).float()  # type: ignore[no-any-return]

    def texts(self, sentences: list[str]) -> Float[Tensor, "T D"]:
        """Embeddings, not normalised."""
        length = self.settings.model.text_cfg.context_length
        ids = self.tokenizer(
            sentences, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).input_ids
        return self.model.encode_text(ids).float()  # type: ignore[no-any-return]

    def rate(self) -> float:
        """The learning rate of the next step: up along a cosine, flat, and down along a cosine to zero at the end."""
        t = self.settings.training

        def eased(part: float) -> float:
            return (1 - math.cos(math.pi * min(1.0, part))) / 2

        up = 0.04 + 0.96 * eased(self.step / t.warmup_steps)
        return float(t.learning_rate * up * eased((t.steps - self.step) / t.decay_steps))

    def update(self, batch: ClipBatch) -> dict[str, float]:
        """One optimiser step; returns the two losses."""
        self.model.train()
        with torch.autocast("cpu", torch.bfloat16):
            images, texts = self.images(batch.pictures), self.texts(batch.sentences)
        scale = self.model.logit_scale.exp().clamp(max=100.0)
        contrastive = contrastive_loss(normalize(images, dim=-1), normalize(texts, dim=-1), batch.codes, scale)
        both = self.naming(torch.cat((images, texts))).split(self.sizes, dim=-1)
        labels = torch.cat((batch.codes[: len(images)], batch.codes))
        naming = torch.stack([cross_entropy(logits, labels[:, i]) for i, logits in enumerate(both)]).mean()
        self.optimizer.zero_grad(set_to_none=True)
        (contrastive + self.settings.training.naming * naming).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.step()
        self.step += 1
        return {"contrastive": float(contrastive.detach()), "naming": float(naming.detach())}

    @torch.no_grad()
    def retrieval(self, data: ClipPictures) -> float:
        """Share of single pictures whose own sentence comes first among GROUP, groups in the order of the data."""
        self.model.eval()
        batches = ClipBatches(data, self.settings.training, None, seed=self.settings.seed)
        rng = np.random.default_rng([self.settings.seed, 4])
        right = []
        for first in range(0, len(data) - GROUP + 1, GROUP):
            part = data[first : first + GROUP]
            pictures = torch.from_numpy(part.pictures).permute(0, 3, 1, 2) / 255.0
            sentences = [batches.sentence(first + row, rng) for row in range(GROUP)]
            scores = normalize(self.images(pictures), dim=-1) @ normalize(self.texts(sentences), dim=-1).T
            codes = torch.from_numpy(part.attributes).long()
            same = (codes[:, None] == codes[None]).all(-1) & ~torch.eye(GROUP, dtype=torch.bool)
            right.append(scores.masked_fill(same, -math.inf).argmax(1) == torch.arange(GROUP))
        return float(torch.cat(right).float().mean())

    @torch.no_grad()
    def told_apart(self, data: ClipPictures) -> dict[str, float]:
        """Per attribute, the share of front views that prefer their sentence to one with it altered (chance: 0.5)."""
        self.model.eval()
        data = data[np.abs(data.angles_deg[:, 0]) <= 45]
        images = normalize(self.images(torch.from_numpy(data.pictures).permute(0, 3, 1, 2) / 255.0), dim=-1)
        rng = np.random.default_rng([self.settings.seed, 5])
        looks = [decode_attributes(codes) for codes in data.attributes]
        right = normalize(self.texts([caption(look, rng) for look in looks]), dim=-1)
        shares = {}
        for name in OPTIONS:
            rows = [row for row, look in enumerate(looks) if is_visible(look, name)]
            wrong = self.texts([caption(altered(looks[row], rng, (name,)), rng) for row in rows])
            better = (images[rows] * right[rows]).sum(1) > (images[rows] * normalize(wrong, dim=-1)).sum(1)
            shares[name] = round(float(better.float().mean()), 3)
        return shares

    def save(self, path: Path) -> None:
        """Write the whole state in one move."""
        state = {name: getattr(self, name).state_dict() for name in ("model", "naming", "optimizer")}
        torch.save({**state, "step": self.step, "seconds": self.seconds}, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)

    def load(self, path: Path) -> None:
        """Go on where `save` stopped."""
        state = torch.load(path, weights_only=True)
        for name in ("model", "naming", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]


def export(training: ClipTraining, folder: Path, record: dict[str, Any]) -> None:
    """Write open_clip's folder: config, half-precision weights, tokenizer; and how they came about."""
    from omegaconf import OmegaConf
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    preprocess = OmegaConf.to_container(training.settings.preprocess)
    config = {"model_cfg": training.model_config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in training.model.state_dict().items()
    }
    save_file(state, folder / "open_clip_model.safetensors")
    training.tokenizer.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> None:
    from omegaconf import OmegaConf

    from headstudio.synthetic.text import build_tokenizer

    if len(arguments) < 2 or arguments[0].startswith("-"):
        raise SystemExit(__doc__)
    world, folder = Path(arguments[0]), Path(arguments[1])
    settings = load_settings("train_clip", arguments[2:])
    t = settings.training
    folder.mkdir(parents=True, exist_ok=True)
    data = read_pictures(world, settings.blocks)
    held_back, data = data[: settings.validation], data[settings.validation :]
    training = ClipTraining(settings, build_tokenizer(settings.model.text_cfg.context_length))
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        training.load(checkpoint)
        report(f"going on from step {training.step}")
    batches = ClipBatches(data, t, settings.augment, seed=settings.seed)
    losses: list[dict[str, float]] = []
    while training.step < t.steps:
        start = time.process_time()
        losses.append(training.update(batches(training.step)))
        training.seconds += time.process_time() - start
        recent = {name: round(float(np.mean([row[name] for row in losses[-50:]])), 4) for name in losses[-1]}
        if training.step % 20 == 0:
            report(f"step {training.step} of {t.steps}: {recent}, {training.seconds / training.step:.2f} CPU s a step")
        if training.step % t.checkpoint_every_steps == 0 or training.step == t.steps:
            training.save(checkpoint)
            record = {
                "steps": training.step,
                "pictures": len(data),
                "pictures_seen": training.step * t.batch_size,
                "cpu_minutes": round(training.seconds / 60, 1),
                "losses": recent,
                "retrieval_first_of_64": round(training.retrieval(held_back), 4),
                "retrieval_pictures": len(held_back),
                "told_apart_from_the_front": training.told_apart(held_back),
                "settings": OmegaConf.to_container(settings),
            }
            report(f"right sentence first among {GROUP}: {record['retrieval_first_of_64']}")
            report(f"told apart: {record['told_apart_from_the_front']}")
            export(training, folder / "export", record)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
