"""Sweeps that nobody ran: directories as runs leave them, with scores that are known."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from tempfile import mkdtemp

import torch

from headstudio import claim
from headstudio.export.video import write_mp4
from headstudio.prompts import quoted
from headstudio.runstate import RunPaths
from headstudio.sweep.engine import Seen
from headstudio.sweep.record import Command, Entry, Sweep


@dataclass(frozen=True)
class Waiting:
    """An engine whose scheduler knows these jobs, all of them waiting."""

    jobs: Sequence[str]

    def ask(self, sweep: Sweep, command: Command) -> Mapping[str, Seen]:
        return {job: Seen("PENDING", True) for job in self.jobs}

    def log(self, sweep: Sweep, job: str) -> Path:
        return sweep.jobs / f"{job}_0_log.out"


Settings = Mapping[str, str]
PROMPTS = ("a bald man", "an old woman with white hair", "a portrait of Joker")
HOSTILE = '<script>window.hacked = 1</script></script><img src=x onerror="window.hacked=1"> '
HOSTILE += "& 'it' \"is\" `x` $(y) <b>bold</b> \u2028 é"
REGS = ("none", "strict", "scaled")


def three_by_three_by_two() -> list[dict[str, str]]:
    """reg x prompt x seed."""
    return [{"reg": reg, "prompt": prompt, "seed": seed} for reg, prompt, seed in product(REGS, PROMPTS, ("0", "1"))]


def scores_of(settings: Settings, noise: random.Random) -> dict[str, float]:
    """CLIP scores that rise with reg=strict and reg=scaled, by 0.02 and 0.05; alignment that does not care."""
    better = {"none": 0.0, "strict": 0.02, "scaled": 0.05}.get(settings.get("reg", "none"), 0.0)
    clip = 0.7 + better + 0.01 * len(settings.get("prompt", "")) / 10 + noise.gauss(0, 0.003)
    return {
        "clip_score": clip,
        "clip_score_front": clip + 0.02,
        "clip_r_precision": round(0.5 + better * 5, 2),
        "clip_rank": float(noise.randint(1, 12)),
        "alignment_rest": round(noise.uniform(0.7, 1.0), 2),
        "alignment_animation": round(noise.uniform(0.6, 1.0), 2),
        "alignment_rest/lips": 1.0,
        "color_bleeding": 0.2 - better,
        "gaussians": 19000.0 + noise.randint(0, 300),
        "seconds": 70.0 + noise.uniform(0, 9),
        "peak_memory_gb": 1.3,
    }


def sweep(
    root: Path,
    runs: Sequence[Settings],
    *,
    state: Callable[[int], str] = lambda number: "finished",
    films: int = 64,
    steps: int = 40,
) -> Sweep:
    """A sweep of these runs.

    Args:
        root: its directory.
        runs: what each sets.
        state: of each; finished, failed, killed, stopped, running, or queued.
        films: how many pixels wide those of finished runs are; 0 leaves them out.
        steps: how many lines each logged.
    """
    made = Sweep(root)
    made.prepare()
    names = [f"run-{number:03d}" for number in range(len(runs))]
    engine = Waiting([name for number, name in enumerate(names) if state(number) == "queued"])
    entries = [
        Entry(name, tuple(f"{k}={quoted(v) if k == 'prompt' else v}" for k, v in given.items()), "c0de", name)
        for name, given in zip(names, runs, strict=True)
    ]
    command = Command.now(engine, entries)  # type: ignore[arg-type]
    made.save(command)
    for number, (name, given) in enumerate(zip(names, runs, strict=True)):
        if state(number) != "queued":
            run(root / name, given, state=state(number), films=films, steps=steps, noise=random.Random(number))
    return made


def run(root: Path, given: Settings, *, state: str, films: int, steps: int, noise: random.Random) -> None:
    """One run's directory."""
    paths = RunPaths(root)
    root.mkdir(parents=True, exist_ok=True)
    reg = given.get("reg", "none")
    config = {
        "prompt": given.get("prompt", "a head"),
        "seed": int(given.get("seed", 0)),
        "trainer": {"steps": 450},
        "reg": {"lambda_pos": REGS.index(reg) if reg in REGS else 0, "scaled": reg == "scaled"},
    } | {key: value for key, value in given.items() if key not in ("prompt", "seed", "reg")}
    paths.config.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    done = steps if state == "finished" else steps // 2
    lines = [
        {
            "step": 10 * n,
            "seconds": 1.5 * n,
            "guidance": 500 * math.exp(-n / 9) + noise.uniform(0, 9),
            "gaussians": 18412 + n,
        }
        for n in range(done)
    ]
    paths.steps.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    log = root / "run.log"
    log.write_text("training\nZeroDivisionError: <b>by zero</b> & more\n", encoding="utf-8")
    if state == "running":
        claim.Attempt.begin(root, log=str(log), steps=450)
        return
    (root / claim.FOLDER).mkdir(exist_ok=True)
    claim.Attempt.begin(root, log=str(log), steps=450).end(state, "" if state == "finished" else f"it {state}")
    if state != "finished":
        return
    if films:
        shutil.copy(film(films), paths.turntable)
        shutil.copy(film(films), paths.animation)
        paths.avatar.write_bytes(b"ply")
    scores = scores_of(given, noise)
    front = [azimuth in (0, 1, 7) for _ in range(3) for azimuth in range(8)]
    cosine = [scores["clip_score"] + 0.01 * (n - 11.5) / 12 for n in range(24)]
    details = {"clip": {"front": front, "clip": {"cosine": cosine}}}
    told = {"signature": f"{abs(hash(str(root))):016x}"[:16], "prompt": config["prompt"], **scores}
    paths.finish(str(told["signature"]), {**told, "phase_seconds": {"head": 0.01}, "details": details})


@lru_cache(maxsize=2)
def film(size: int) -> Path:
    """An mp4 of three seconds: a spotted disc, about as hard to pack as a head, and a red square that travels right."""
    generator = torch.Generator().manual_seed(0)
    spots = torch.nn.functional.interpolate(
        torch.rand(1, 3, 48, 48, generator=generator), (size, size), mode="bilinear"
    )
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    disc = (rows**2 + columns**2 * 2 < 0.6).float()

    def picture(number: int, of: int = 72) -> torch.Tensor:
        image = disc * spots[0].roll(number * size // of, -1) + 1 - disc
        image[1:, : size // 8, number * (size - size // 8) // of :][..., : size // 8] = 0.1
        return image

    path = Path(mkdtemp()) / "film.mp4"
    write_mp4((picture(number) for number in range(72)), path, 24)
    return path
