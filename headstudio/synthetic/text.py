"""The tiny prior's tokenizer and text encoder: whole words, and a small CLIP text transformer.

The encoder first learns to name the attributes of captions, which takes minutes; the diffusion model then reads
finished embeddings instead of having to learn language from pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from headstudio.synthetic.captions import CROPS, NEGATIVE, VIEWS, caption, character_caption, vocabulary
from headstudio.synthetic.dataset import encode_attributes
from headstudio.synthetic.samples import random_character, training_attributes
from headstudio.synthetic.vocabulary import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaxtyping import Float, Int
    from torch import Tensor

SEEN = (*VIEWS, *CROPS.values())  # what a sentence may say of the picture's framing
NEGATIVE_WORDS = tuple(part.strip() for part in NEGATIVE.split(","))


def build_tokenizer(max_tokens: int, known: dict[str, int] | None = None) -> Any:
    """One token a word, lower case, punctuation dropped; unknown words share one token.

    Words of an earlier tokenizer's vocabulary (`known`) keep their ids; new ones follow.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<start>", "<end>"]
    ids = dict(known or {})
    for word in (*special, *vocabulary()):
        ids.setdefault(word, len(ids))
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
        return degraded_caption(rng), [-1] * len(OPTIONS) + [len(SEEN), 1]
    if rng.random() < 0.1:
        name, attributes = random_character(rng)
        text = character_caption(name, rng)
    else:
        attributes = training_attributes(rng)
        text = caption(attributes, rng)
    view = int(rng.integers(len(SEEN) + 1))
    if view < len(SEEN):
        text = f"{text}, {SEEN[view]}"
    return text, [*encode_attributes(attributes), view, 0]


def share_right(logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> Float[Tensor, ""]:
    """Share of rows named right, of those that have a label (not -1)."""
    return (logits.argmax(1) == labels)[labels >= 0].float().mean()


def learn_new_words(
    encoder: Any,
    tokenizer: Any,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    report: Callable[[str], None],
) -> tuple[Any, dict[str, float]]:
    """Give a finished encoder the words that captions have gained; what it makes of old sentences stays the same.

    Only the new words' embeddings learn, so whoever reads the encoder need not learn the old words again.

    Returns:
        The tokenizer that knows them all, and what is worth keeping of the training; empty if there is no new word.
    """
    known = tokenizer.get_vocab()
    full = build_tokenizer(tokenizer.model_max_length, dict(sorted(known.items(), key=lambda item: item[1])))
    if len(full) == len(known):
        return full, {}
    torch.manual_seed(seed)
    encoder.resize_token_embeddings(len(full), mean_resizing=False)
    encoder.requires_grad_(False)
    words = encoder.get_input_embeddings().weight.requires_grad_(True)
    words.register_hook(lambda gradient: gradient.index_fill(0, torch.arange(len(known)), 0.0))
    record = train_encoder(
        encoder,
        full,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        report=report,
        learns=[words],
    )
    return full, {f"new_words_{name.removeprefix('text_')}": value for name, value in record.items()}


def train_encoder(
    encoder: Any,
    tokenizer: Any,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    report: Callable[[str], None],
    learns: Sequence[torch.nn.Parameter] | None = None,
) -> dict[str, float]:
    """Teach the encoder to name every attribute from the state of the end token; returns final loss and accuracy.

    `learns` are the encoder's parameters that change; None: all of them.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    own = list(encoder.parameters()) if learns is None else list(learns)
    sizes = [*(len(options) for options in OPTIONS.values()), len(SEEN) + 1, 2]
    heads = torch.nn.ModuleList(torch.nn.Linear(encoder.config.hidden_size, size) for size in sizes)
    parameters = [*own, *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01 if learns is None else 0.0)
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
