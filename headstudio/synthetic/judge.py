"""Judge a tiny prior: are the named attributes right, and does the head follow its landmarks?

    python -m headstudio.synthetic.judge PRIOR_FOLDER [key=value ...] [--out FOLDER]

Draws heads that training never saw (their own random numbers; half of them with a held-out pair of colours), samples
each from its sentence and its control map, and compares the sample with the world's pictures of every option
(`candidates`) and with the world's silhouette. The world's own pictures, sent through the prior's codec, are judged
beside them: no prior can do better. Writes judge.json and judge.png (each world picture above its sample).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from headstudio.errors import UserError
from headstudio.synthetic.batches import view_words
from headstudio.synthetic.candidates import MEASURED, Candidates, Verdict, measured
from headstudio.synthetic.captions import caption
from headstudio.synthetic.dataset import WorldSampler, to_bytes
from headstudio.synthetic.learner import CONTROLNETS
from headstudio.synthetic.reading import parse
from headstudio.synthetic.samples import is_held_out, random_attributes, training_attributes
from headstudio.synthetic.settings import load_settings
from headstudio.synthetic.vocabulary import Attributes
from headstudio.types import Cameras, Pose

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headstudio.guidance.prior import Prior

FIRST = 10**9  # training's and the tiny CLIP's pictures have smaller numbers


@dataclass(frozen=True)
class Scene:
    """One head that the prior is asked for."""

    attributes: Attributes
    sentence: str  # with the view
    shape: Float[Tensor, " S"]
    pose: Pose
    cameras: Cameras  # one
    picture: Float[Tensor, "3 H W"]
    head: NDArray[np.bool_]  # (H, W) where the head is
    control: Float[Tensor, "K H W"]

    @property
    def held_out(self) -> bool:
        return is_held_out(self.attributes)


def draw_scene(sampler: WorldSampler, index: int, seed: int, controlnet: str) -> Scene:
    """Scene `index`, the whole head in view; the odd ones have a held-out pair of skin and hair colour."""
    rng = np.random.default_rng([seed, FIRST + index])
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    attributes = training_attributes(rng)
    while index % 2 == 1 and not is_held_out(attributes):
        attributes = random_attributes(rng)
    shape = sampler.shape(attributes, sampler.head.num_shape, rng)
    pose, cameras = sampler.motion.sample(1, generator), sampler.camera.views(0, generator)
    picture = sampler.world.render(attributes, shape, pose, cameras)
    view = view_words(float(cameras.azimuth_deg[0]), float(cameras.elevation_deg[0]))
    return Scene(
        attributes=attributes,
        sentence=f"{caption(attributes, rng)}, {view}",
        shape=shape,
        pose=pose,
        cameras=cameras,
        picture=picture.rgb[0],
        head=(picture.labels[0] > 0).numpy(),
        control=sampler.controls[controlnet].draw(sampler.head(shape, pose), sampler.head, cameras)[0],
    )


@torch.no_grad()
def sample(prior: Prior, scenes: list[Scene], settings: Any, generator: torch.Generator) -> Float[Tensor, "B 3 H W"]:
    """DDIM with classifier-free guidance from noise, conditioned on sentences and landmark maps."""
    from headstudio.guidance.sampling import GuidedNoise, denoise

    control = torch.stack([scene.control for scene in scenes])
    latents = torch.zeros_like(prior.encode_images(torch.stack([scene.picture for scene in scenes])))
    noise = torch.randn(latents.shape, generator=generator)
    start = torch.full((len(scenes),), prior.num_timesteps - 1)
    predict = GuidedNoise(
        prior,
        prior.encode_prompts([scene.sentence for scene in scenes]),
        prior.encode_prompts([settings.negative] * len(scenes)),
        control,
        guidance_scale=settings.guidance_scale,
        conditioning_scale=settings.conditioning_scale,
    )
    return prior.decode_latents(denoise(predict, noise, start, steps=settings.steps))


def silhouette(picture: Float[Tensor, "3 H W"], background: Any, threshold: float) -> NDArray[np.bool_]:
    """Pixels (H, W) that differ from the background, holes filled."""
    from scipy.ndimage import binary_fill_holes

    away = (picture - torch.tensor(list(background))[:, None, None]).abs().amax(0) > threshold
    return binary_fill_holes(away.numpy())  # type: ignore[no-any-return]


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union; 1 for two empty masks."""
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 1.0


@dataclass(frozen=True)
class Finding:
    """What one picture shows of one scene; the overlap only where the face is in view."""

    held_out: bool
    verdicts: dict[str, Verdict]
    overlap: float | None


class Judge:
    """Compares pictures with the scenes that they should show."""

    def __init__(self, sampler: WorldSampler, settings: Any) -> None:
        comparison = {key: settings[key] for key in ("noticeable", "min_pixels", "soften_px")}
        self.candidates = Candidates(sampler.world, **comparison)
        self.background = sampler.world.background
        self.settings = settings

    def __call__(self, scene: Scene, picture: Float[Tensor, "3 H W"]) -> Finding:
        names = measured(parse(scene.sentence))
        pictured = (scene.shape, scene.pose, scene.cameras)
        verdicts = self.candidates.judge(picture[None], scene.attributes, names, *pictured)
        shared = None
        if abs(float(scene.cameras.azimuth_deg[0])) < self.settings.face_azimuth_deg:
            shared = overlap(silhouette(picture, self.background, self.settings.silhouette), scene.head)
        return Finding(scene.held_out, verdicts, shared)


def summary(findings: list[Finding]) -> dict[str, Any]:
    """Shares of attributes that are right (overall, seen and held-out pairs, per attribute) and the mean overlap."""
    overlaps = [finding.overlap for finding in findings if finding.overlap is not None]
    return {
        "attributes_right": _share(findings),
        "seen_pairs": _share(finding for finding in findings if not finding.held_out),
        "held_out_pairs": _share(finding for finding in findings if finding.held_out),
        "per_attribute": {name: _share(findings, name) for name in MEASURED},
        "mistakes": _mistakes(findings),
        "overlap": {"mean": round(float(np.mean(overlaps)), 4) if overlaps else None, "pictures": len(overlaps)},
    }


def _share(findings: Iterable[Finding], only: str | None = None) -> dict[str, float | int | None]:
    pairs = [pair for finding in findings for pair in finding.verdicts.items()]
    right = [verdict.right for name, verdict in pairs if only in (None, name)]
    return {"share": round(float(np.mean(right)), 4) if right else None, "of": len(right)}


def _mistakes(findings: list[Finding]) -> dict[str, int]:
    """How often which option was taken for which, the most frequent first."""
    counts: dict[str, int] = {}
    for finding in findings:
        for name, verdict in finding.verdicts.items():
            if not verdict.right:
                key = f"{name}: {verdict.wanted} looks like {verdict.nearest}"
                counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1])[:20])


def write_sheet(path: Path, truth: list[Tensor], samples: list[Tensor], columns: int) -> None:
    """Rows of world pictures, each row above the row of its samples."""
    from PIL import Image

    blank = np.zeros_like(to_bytes(truth[0]))
    rows = []
    for first in range(0, len(truth), columns):
        for pictures in (truth, samples):
            row = [to_bytes(picture) for picture in pictures[first : first + columns]]
            rows.append(np.concatenate(row + [blank] * (columns - len(row)), 1))
    Image.fromarray(np.concatenate(rows)).save(path)


def judge_prior(prior: Prior, settings: Any, sampler: WorldSampler, sheet: Path) -> dict[str, Any]:
    """Sample and judge `settings.count` scenes; the sheet shows the first of them."""
    judge, generator = Judge(sampler, settings), torch.Generator().manual_seed(settings.seed)
    found: list[Finding] = []
    best: list[Finding] = []
    shown: list[tuple[Tensor, Tensor]] = []
    start = time.monotonic()
    for first in range(0, settings.count, settings.batch_size):
        indices = range(first, min(first + settings.batch_size, settings.count))
        scenes = [draw_scene(sampler, index, settings.seed, settings.controlnet) for index in indices]
        pictures = sample(prior, scenes, settings, generator)
        through_codec = prior.decode_latents(prior.encode_images(torch.stack([scene.picture for scene in scenes])))
        found += [judge(scene, picture) for scene, picture in zip(scenes, pictures, strict=True)]
        best += [judge(scene, picture) for scene, picture in zip(scenes, through_codec, strict=True)]
        shown += [(scene.picture, picture) for scene, picture in zip(scenes, pictures, strict=True)]
        shown = shown[: settings.sheet]
        print(f"{len(found)} of {settings.count}, {time.monotonic() - start:.0f} s", flush=True)
    write_sheet(sheet, [truth for truth, _ in shown], [picture for _, picture in shown], settings.columns)
    return {"samples": summary(found), "world_through_codec": summary(best)}


def main(arguments: list[str]) -> None:
    from omegaconf import OmegaConf

    from headstudio.guidance.load import load_prior

    command = ["python", "-m", "headstudio.synthetic.judge", *arguments]
    out = None
    if "--out" in arguments[:-1]:
        at = arguments.index("--out")
        out = Path(arguments[at + 1])
        arguments = arguments[:at] + arguments[at + 2 :]
    if not arguments or arguments[0].startswith("-"):
        raise SystemExit(__doc__)
    settings = load_settings("judge", arguments[1:])
    if settings.count < 1 or settings.batch_size < 1 or settings.steps < 1:
        raise UserError("count, batch_size and steps must be at least 1.")
    if settings.controlnet not in CONTROLNETS:
        raise UserError(f"controlnet={settings.controlnet!r} must be one of {', '.join(CONTROLNETS)}.")
    folder = Path(arguments[0])
    prior = load_prior(
        path=str(folder),
        vae_path=None,
        controlnet_path=None,
        controlnet_subfolder=settings.controlnet,
        dtype="float32",
        vae_dtype="float32",
    )
    out = out or folder
    out.mkdir(parents=True, exist_ok=True)
    result = judge_prior(prior, settings, WorldSampler(load_settings("world", [])), out / "judge.png")
    record = {"command": " ".join(command), "settings": OmegaConf.to_container(settings), **result}
    training = folder / "training.json"
    if training.is_file():
        record["prior_steps"] = json.loads(training.read_text(encoding="utf-8")).get("steps")
    (out / "judge.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: result["samples"][key] for key in ("attributes_right", "held_out_pairs", "overlap")}))


if __name__ == "__main__":
    main(sys.argv[1:])
