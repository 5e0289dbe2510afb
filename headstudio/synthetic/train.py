"""Train the tiny prior on the synthetic world: codec, text encoder, UNet and ControlNet.

    python -m headstudio.synthetic.dataset training/world
    python -m headstudio.synthetic.train training/world training/prior [key=value ...]

The same command again goes on from the last checkpoint. The result, `training/prior/export`, is a diffusers folder.
With `start_from=FOLDER` a finished prior (the shipped one: headstudio/assets/prior_tiny) trains on, where no checkpoint
is left: its codec and its words stay, its networks start from its weights.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstudio.errors import UserError
from headstudio.synthetic.batches import Batches
from headstudio.synthetic.dataset import read_block
from headstudio.synthetic.learner import Training, Worker, build_models
from headstudio.synthetic.settings import load_settings


def report(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def prepare(world: Path, folder: Path, settings: Any) -> tuple[Any, Any, Any]:
    """Codec, tokenizer and text encoder: fitted and trained once, then read back from the folder."""
    from transformers import AutoTokenizer, CLIPTextModel

    from headstudio.guidance.linear_codec import LinearCodec
    from headstudio.synthetic import text

    if settings.start_from and not (folder / "vae").is_dir():
        source = Path(settings.start_from)
        record = json.loads((source / "training.json").read_text())
        text_record = {k: v for k, v in record.items() if k.startswith("text_")}
        tokenizer = AutoTokenizer.from_pretrained(source / "tokenizer")
        encoder = CLIPTextModel.from_pretrained(source / "text_encoder", torch_dtype=torch.float32)
        t = settings.text
        options = {"steps": t.new_word_steps, "batch_size": t.batch_size, "learning_rate": t.learning_rate}
        tokenizer, new = text.learn_new_words(encoder, tokenizer, seed=settings.seed, report=report, **options)
        tokenizer.save_pretrained(folder / "tokenizer")
        encoder.save_pretrained(folder / "text_encoder")
        (folder / "text.json").write_text(json.dumps(text_record | new))
        shutil.copytree(source / "vae", folder / "vae")
    if not (folder / "vae").is_dir():
        pictures = read_block(world, 0).pictures[: settings.codec.pictures]
        codec = LinearCodec.fit(
            torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1, latent_channels=settings.codec.latent_channels
        )
        codec.save_pretrained(folder / "vae")
    if not (folder / "text_encoder").is_dir():
        t = settings.text
        tokenizer = text.build_tokenizer(t.max_tokens)
        torch.manual_seed(settings.seed)
        encoder = text.build_encoder(tokenizer, width=t.width, layers=t.layers, heads=t.heads)
        options = {"steps": t.steps, "batch_size": t.batch_size, "learning_rate": t.learning_rate}
        record = text.train_encoder(encoder, tokenizer, seed=settings.seed, report=report, **options)
        tokenizer.save_pretrained(folder / "tokenizer")
        (folder / "text.json").write_text(json.dumps(record))
        encoder.save_pretrained(folder / "text_encoder")
    codec = LinearCodec.from_pretrained(folder / "vae")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").eval().requires_grad_(False)
    return codec, AutoTokenizer.from_pretrained(folder / "tokenizer"), encoder


def export(training: Training, folder: Path, tokenizer: Any, record: dict[str, Any]) -> Path:
    """Write the averaged weights in half precision as a diffusers pipeline folder with a vocabulary and a record."""
    from omegaconf import OmegaConf

    from headstudio.guidance.components import save_components
    from headstudio.guidance.vocabulary import COLORS_FILE, VOCABULARY_FILE
    from headstudio.synthetic.captions import colors, vocabulary

    out = folder / "export"
    out.mkdir(exist_ok=True)
    training_settings = record.pop("settings")
    models = build_models(training_settings)
    for name, model in models.items():
        prefix = f"{name}."
        model.load_state_dict({k.removeprefix(prefix): v for k, v in training.average.items() if k.startswith(prefix)})
    save_components(
        out,
        **{name: model.half() for name, model in models.items()},
        vae=training.codec,
        text_encoder=training.encoder,
        tokenizer=tokenizer,
        scheduler=training.scheduler,
    )
    (out / VOCABULARY_FILE).write_text("\n".join(vocabulary()) + "\n")
    (out / COLORS_FILE).write_text(json.dumps(colors()) + "\n")
    record["settings"] = OmegaConf.to_container(training_settings)
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    return out


def log_progress(training: Training, errors: list[float], pictures: int) -> None:
    """One line on the terminal: error over the last 200 steps, pace, time left."""
    pace = training.seconds / training.step
    left_min = pace * (training.settings.steps - training.step) / 60
    report(
        f"step {training.step} of {training.settings.steps}: error {np.mean(errors[-200:]):.4f}, {pace:.2f} s a step, "
        f"{pictures} pictures, {left_min:.0f} min left"
    )


def started_from(settings: Any) -> dict[str, Any] | None:
    """The record of the prior that this training began with, None where it began with random networks."""
    if not settings.start_from:
        return None
    record: dict[str, Any] = json.loads((Path(settings.start_from) / "training.json").read_text())
    return record


def fit(training: Training, batches: Batches, folder: Path, tokenizer: Any, settings: Any) -> None:
    """Train to the last step, with a checkpoint and an export now and then; goes on from the folder's checkpoint."""
    d, leads = settings.diffusion, training.worker.leads
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        training.load(checkpoint)
        if leads:
            report(f"going on from step {training.step}")
    elif settings.start_from:
        training.load_weights(Path(settings.start_from))
    errors: list[float] = []
    while training.step < d.steps:
        start = time.monotonic()
        errors.append(training.update(batches(training.step)))
        training.seconds += time.monotonic() - start
        if not leads:
            continue
        if training.step % 50 == 0:
            log_progress(training, errors, len(batches))
        if training.step % d.checkpoint_every_steps == 0 or training.step == d.steps:
            training.save(checkpoint)
            record = {
                "settings": settings,
                "started_from": started_from(settings),
                "steps": training.step,
                "pictures_seen": training.pictures_seen,
                "pictures": len(batches),
                "hours": round(training.seconds / 3600, 3),
                "error": float(np.mean(errors[-200:])),
                **json.loads((folder / "text.json").read_text()),
            }
            export(training, folder, tokenizer, record)


def work(rank: int, world: Path, folder: Path, overrides: list[str], meeting: str) -> None:
    """What each process does; `meeting` is a file by which they find each other."""
    settings = load_settings("train", overrides)
    worker = Worker(rank, settings.diffusion.workers)
    torch.set_num_threads(max(1, torch.get_num_threads() // worker.count))
    if worker.count > 1:
        torch.distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=worker.count)
    codec, tokenizer, encoder = prepare(world, folder, settings)
    training = Training(settings, codec, encoder, worker)
    fit(
        training, Batches(world, tokenizer, settings.diffusion, worker, seed=settings.seed), folder, tokenizer, settings
    )
    if worker.count > 1:
        torch.distributed.destroy_process_group()


def main(arguments: list[str]) -> None:
    if len(arguments) < 2 or arguments[0].startswith("-"):
        raise SystemExit(__doc__)
    world, folder = Path(arguments[0]), Path(arguments[1])
    settings = load_settings("train", arguments[2:])
    d = settings.diffusion
    if d.workers < 1 or d.batch_size % d.workers:
        raise UserError(f"diffusion.workers={d.workers} must divide diffusion.batch_size={d.batch_size}.")
    folder.mkdir(parents=True, exist_ok=True)
    prepare(world, folder, settings)
    with tempfile.TemporaryDirectory() as place:
        rest = (world, folder, arguments[2:], str(Path(place) / "meeting"))
        if d.workers == 1:
            work(0, *rest)
        else:
            torch.multiprocessing.spawn(work, rest, nprocs=d.workers)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(sys.argv[1:])
