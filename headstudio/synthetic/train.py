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
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from headstudio.synthetic.batches import Batches
from headstudio.synthetic.dataset import read_blocks
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
        for name in ("tokenizer", "text_encoder", "vae"):
            shutil.copytree(source / name, folder / name)
        record = json.loads((source / "training.json").read_text())
        (folder / "text.json").write_text(json.dumps({k: v for k, v in record.items() if k.startswith("text_")}))
    if not (folder / "vae").is_dir():
        pictures = read_blocks(world)[0].pictures[: settings.codec.pictures]
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


def build_models(settings: Any) -> tuple[Any, Any]:
    """UNet and its ControlNet, seeded."""
    from diffusers import ControlNetModel, UNet2DConditionModel
    from omegaconf import OmegaConf

    torch.manual_seed(settings.seed)
    shape: dict[str, Any] = OmegaConf.to_container(settings.unet)  # type: ignore[assignment]
    shape = {key: tuple(value) if isinstance(value, list) else value for key, value in shape.items()}
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=settings.codec.latent_channels,
        out_channels=settings.codec.latent_channels,
        cross_attention_dim=settings.text.width,
        **shape,
    )
    channels = tuple(settings.controlnet.conditioning_embedding_out_channels)
    return unet, ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=channels)


def build_scheduler() -> Any:
    """The noise schedule of Stable Diffusion, predicting v."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


class Training:
    """UNet, ControlNet, their optimiser and their moving average, with an atomic checkpoint."""

    def __init__(self, settings: Any, codec: Any, encoder: Any) -> None:
        self.settings, self.codec, self.encoder = settings.diffusion, codec, encoder
        unet, controlnet = build_models(settings)
        self.models = torch.nn.ModuleDict({"unet": unet, "controlnet": controlnet})
        self.models.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: value.clone() for name, value in self.models.state_dict().items()}
        self.optimizer = torch.optim.AdamW(self.models.parameters(), lr=1.0, weight_decay=0.01, betas=(0.9, 0.99))
        self.scheduler = build_scheduler()
        self.step, self.pictures_seen, self.seconds = 0, 0, 0.0

    def rate(self) -> float:
        """Warm-up, plateau, linear fall to zero at the end."""
        s = self.settings
        ramp = min(1.0, (self.step + 1) / s.warmup_steps)
        return float(s.learning_rate * ramp * min(1.0, (s.steps - self.step) / s.decay_steps))

    def update(self, batch: dict[str, torch.Tensor], generator: torch.Generator) -> float:
        """One optimiser step on pictures, token ids, controls and the mask of controls that are dropped."""
        alpha_bar = self.scheduler.alphas_cumprod
        clean = self.codec.encode(batch["pictures"]).latent_dist.mean * self.codec.config.scaling_factor
        noise = torch.randn(clean.shape, generator=generator)
        t = torch.randint(len(alpha_bar), (len(clean),), generator=generator)
        alpha, sigma = alpha_bar[t].sqrt()[:, None, None, None], (1 - alpha_bar[t]).sqrt()[:, None, None, None]
        # For sequences this short the plain attention is faster than the fused one.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            prediction = self.predict(alpha * clean + sigma * noise, t, batch)
        error = (prediction.float() - (alpha * noise - sigma * clean)).pow(2).mean((1, 2, 3))
        snr = (alpha_bar / (1 - alpha_bar))[t]
        loss = (error * snr.clamp(max=self.settings.min_snr_gamma) / (snr + 1)).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.models.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.step()
        self._follow()
        self.step += 1
        self.pictures_seen += len(clean)
        return float(error.mean().detach())

    def predict(self, noisy: torch.Tensor, t: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The UNet's v; pictures whose control is dropped get no residuals, as a run without ControlNet does."""
        with torch.no_grad():
            embeddings = self.encoder(batch["ids"]).last_hidden_state
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        keep = batch["keep_control"].to(noisy.dtype)[:, None, None, None]
        down, middle = self.models["controlnet"](noisy, t, embeddings, batch["controls"], return_dict=False)
        return self.models["unet"](  # type: ignore[no-any-return]
            noisy,
            t,
            embeddings,
            down_block_additional_residuals=[residual * keep for residual in down],
            mid_block_additional_residual=middle * keep,
            return_dict=False,
        )[0]

    @torch.no_grad()
    def _follow(self) -> None:
        # A young average forgets its random start quickly.
        decay = min(self.settings.ema_decay, (self.step + 1) / (self.step + 10))
        for name, value in self.models.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)

    def save(self, path: Path, generator: torch.Generator) -> None:
        state = {
            "models": self.models.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "generator": generator.get_state(),
            "step": self.step,
            "pictures_seen": self.pictures_seen,
            "seconds": self.seconds,
        }
        torch.save(state, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)

    def load_weights(self, folder: Path) -> None:
        """Start from the networks of a finished prior instead of random ones."""
        from diffusers import ControlNetModel, UNet2DConditionModel

        for name, kind in (("unet", UNet2DConditionModel), ("controlnet", ControlNetModel)):
            weights = kind.from_pretrained(folder, subfolder=name, torch_dtype=torch.float32).state_dict()
            self.models[name].load_state_dict(weights)
        self.average = {name: value.clone() for name, value in self.models.state_dict().items()}

    def load(self, path: Path, generator: torch.Generator) -> None:
        state = torch.load(path, weights_only=True)
        self.models.load_state_dict(state["models"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        self.step, self.pictures_seen, self.seconds = state["step"], state["pictures_seen"], state["seconds"]


def export(training: Training, folder: Path, tokenizer: Any, record: dict[str, Any]) -> Path:
    """Write the averaged weights in half precision as a diffusers pipeline folder with a vocabulary and a record."""
    from omegaconf import OmegaConf

    from headstudio.guidance.components import save_components
    from headstudio.synthetic.captions import vocabulary

    out = folder / "export"
    out.mkdir(exist_ok=True)
    training_settings = record.pop("settings")
    unet, controlnet = build_models(training_settings)
    for name, model in (("unet", unet), ("controlnet", controlnet)):
        prefix = f"{name}."
        model.load_state_dict({k.removeprefix(prefix): v for k, v in training.average.items() if k.startswith(prefix)})
    save_components(
        out,
        unet=unet.half(),
        controlnet=controlnet.half(),
        vae=training.codec,
        text_encoder=training.encoder,
        tokenizer=tokenizer,
        scheduler=training.scheduler,
    )
    (out / "vocabulary.txt").write_text("\n".join(vocabulary()) + "\n")
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


def fit(training: Training, batches: Batches, folder: Path, tokenizer: Any, settings: Any) -> None:
    """Train to the last step, with a checkpoint and an export now and then; goes on from the folder's checkpoint."""
    d = settings.diffusion
    generator = torch.Generator().manual_seed(settings.seed)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        training.load(checkpoint, generator)
        report(f"going on from step {training.step}")
    elif settings.start_from:
        training.load_weights(Path(settings.start_from))
    errors: list[float] = []
    while training.step < d.steps:
        start = time.monotonic()
        errors.append(training.update(batches(training.step), generator))
        training.seconds += time.monotonic() - start
        if training.step % 50 == 0:
            log_progress(training, errors, len(batches))
        if training.step % d.checkpoint_every_steps == 0 or training.step == d.steps:
            training.save(checkpoint, generator)
            record = {
                "settings": settings,
                "started_from": settings.start_from,
                "steps": training.step,
                "pictures_seen": training.pictures_seen,
                "pictures": len(batches),
                "hours": round(training.seconds / 3600, 3),
                "error": float(np.mean(errors[-200:])),
                **json.loads((folder / "text.json").read_text()),
            }
            export(training, folder, tokenizer, record)


def main(arguments: list[str]) -> None:
    if len(arguments) < 2 or arguments[0].startswith("-"):
        raise SystemExit(__doc__)
    world, folder = Path(arguments[0]), Path(arguments[1])
    settings = load_settings("train", arguments[2:])
    folder.mkdir(parents=True, exist_ok=True)
    codec, tokenizer, encoder = prepare(world, folder, settings)
    training = Training(settings, codec, encoder)
    batches = Batches(world, tokenizer, settings.diffusion, seed=settings.seed)
    fit(training, batches, folder, tokenizer, settings)


if __name__ == "__main__":
    main(sys.argv[1:])
