"""The tiny prior's tokenizer and text encoder: whole words, and a small CLIP text transformer.

The encoder first learns to name the attributes of captions, which takes minutes; the diffusion model then reads
finished embeddings instead of having to learn language from pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from headstudio.synthetic.captions import NEGATIVE, VIEWS, caption, character_caption, vocabulary
from headstudio.synthetic.dataset import encode_attributes
from headstudio.synthetic.samples import random_character, training_attributes
from headstudio.synthetic.vocabulary import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float, Int
    from torch import Tensor

NEGATIVE_WORDS = tuple(part.strip() for part in NEGATIVE.split(","))


def build_tokenizer(max_tokens: int) -> Any:
    """One token a word, lower case, punctuation dropped; unknown words share one token."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<start>", "<end>"]
    ids = {word: index for index, word in enumerate([*special, *vocabulary()])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\p{L}\p{N}]+"), behavior="removed")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", ids["<start>"]), ("<end>", ids["<end>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_tokens,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
    )


def build_encoder(tokenizer: Any, *, width: int, layers: int, heads: int) -> Any:
    """An untrained CLIPTextModel for this tokenizer."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=tokenizer.model_max_length,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def tokens(tokenizer: Any, sentences: list[str]) -> Int[Tensor, "B T"]:
    """Token ids padded to the tokenizer's length."""
    padded = tokenizer(sentences, padding="max_length", truncation=True, return_tensors="pt")
    return padded.input_ids  # type: ignore[no-any-return]


def degraded_caption(rng: np.random.Generator) -> str:
    """Some of the negative prompt's words, in its order or shuffled; half the time all of them."""
    if rng.random() < 0.5:
        return NEGATIVE
    count = int(rng.integers(1, len(NEGATIVE_WORDS) + 1))
    return ", ".join(rng.permutation(NEGATIVE_WORDS)[:count])


def labelled_caption(rng: np.random.Generator) -> tuple[str, list[int]]:
    """A caption and what it says: attribute codes, then the view (last: none), then 1 for a spoilt picture."""
    if rng.random() < 0.04:
        return degraded_caption(rng), [-1] * len(OPTIONS) + [len(VIEWS), 1]
    if rng.random() < 0.1:
        name, attributes = random_character(rng)
        text = character_caption(name, rng)
    else:
        attributes = training_attributes(rng)
        text = caption(attributes, rng)
    view = int(rng.integers(len(VIEWS) + 1))
    if view < len(VIEWS):
        text = f"{text}, {VIEWS[view]}"
    return text, [*encode_attributes(attributes), view, 0]


def share_right(logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> Float[Tensor, ""]:
    """Share of rows named right, of those that have a label (not -1)."""
    return (logits.argmax(1) == labels)[labels >= 0].float().mean()


def train_encoder(
    encoder: Any,
    tokenizer: Any,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    report: Callable[[str], None],
) -> dict[str, float]:
    """Teach the encoder to name every attribute from the state of the end token; returns final loss and accuracy."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    sizes = [*(len(options) for options in OPTIONS.values()), len(VIEWS) + 1, 2]
    heads = torch.nn.ModuleList(torch.nn.Linear(encoder.config.hidden_size, size) for size in sizes)
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    encoder.train()
    loss, accuracy = torch.tensor(0.0), 0.0
    for step in range(steps):
        rows = [labelled_caption(rng) for _ in range(batch_size)]
        labels = torch.tensor([row[1] for row in rows])
        ids = tokens(tokenizer, [row[0] for row in rows])
        pooled = encoder(ids).pooler_output
        logits = [head(pooled) for head in heads]
        losses = [
            torch.nn.functional.cross_entropy(logit, labels[:, i], ignore_index=-1) for i, logit in enumerate(logits)
        ]
        loss = torch.stack(losses).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            accuracy = float(torch.stack([share_right(logit, labels[:, i]) for i, logit in enumerate(logits)]).mean())
            report(f"text step {step + 1} of {steps}: loss {float(loss.detach()):.4f}, attributes right {accuracy:.3f}")
    encoder.eval().requires_grad_(False)
    return {"text_loss": float(loss.detach()), "text_accuracy": accuracy}
