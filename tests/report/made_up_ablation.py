"""Runs of an ablation that nobody ran: finished directories with scores that are known."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from headstudio.ablation import Ablation, Arm, Claim, Figure
from headstudio.report.ablation_runs import Planned
from headstudio.runstate import RunPaths

PROMPTS = tuple(f"a head with {colour} skin" for colour in ("green", "blue", "pink", "tan", "white", "brown"))
SEEDS = (0, 1)
Scores = Callable[[str, int, int], dict[str, Any]]
"""Arm, number of the sentence, seed -> what stands in metrics.json."""


def claim(metric: str, *, margin: float = 0.0, prompts: Sequence[str] = PROMPTS) -> Claim:
    """The arm `full` is better than `reg_none`."""
    return Claim(f"The full method has the better {metric}", metric, "full", "reg_none", margin, tuple(prompts))


def ablation(*claims: Claim, prompts: Sequence[str] = PROMPTS, seeds: Sequence[int] = SEEDS) -> Ablation:
    """Two arms that differ in reg."""
    arms = {"full": Arm("full", "full", ()), "reg_none": Arm("reg_none", "no regularisation", ("reg=none",))}
    figure = Figure(tuple(arms))
    return Ablation("made_up", "Made up", "What it says.", (), tuple(prompts), tuple(seeds), arms, figure, claims)


def write_file(folder: Path, made: Ablation) -> Path:
    """The ablation as a user's file, with its list of sentences beside it."""
    prompts = folder / "sentences.txt"
    prompts.write_text("\n".join(made.prompts) + "\n", encoding="utf-8")
    arms = {arm.name: {"label": arm.label, "overrides": list(arm.overrides)} for arm in made.arms.values()}
    claims = [
        {"says": c.says, "metric": c.metric, "better": c.better, "than": c.than, "margin": c.margin}
        for c in made.claims
    ]
    content = {"title": made.title, "paper": made.paper, "base": list(made.base), "prompts": str(prompts)}
    content |= {"seeds": list(made.seeds), "arms": arms, "figure": list(made.figure.arms), "claims": claims}
    path = folder / f"{made.name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def write_runs(folder: Path, planned: Sequence[Planned], scores: Scores, *, changed: Sequence[str] = ()) -> list[Path]:
    """A finished directory for each run; returns them in the same order."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "code.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("code.json", json.dumps({"commit": "0123456789abcdef", "changed": list(changed)}))
    prompts = list(dict.fromkeys(run.prompt for run in planned))
    places = []
    for number, run in enumerate(planned):
        paths = RunPaths(folder / f"run-{number:03d}")
        (paths.root / "frozen").mkdir(parents=True)
        (paths.root / "frozen" / "code.zip").hardlink_to(archive)
        paths.finish(run.signature, {"prompt": run.prompt, **scores(run.arm, prompts.index(run.prompt), run.seed)})
        places.append(paths.root)
    return places
