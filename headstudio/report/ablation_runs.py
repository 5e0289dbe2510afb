"""The runs of an ablation: which ones it takes, where they lie, and `runs.csv`, what is kept of them.

Runs are found by their signature, so it does not matter which command made them, nor which ablations share them.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from headstudio import ablation, cli
from headstudio.ablation import Ablation
from headstudio.errors import UserError
from headstudio.prompts import quoted
from headstudio.report.glossary import main_metrics
from headstudio.runstate import RunPaths, plain_values, signature, write_atomically
from headstudio.sweep.freeze import SHOWN
from headstudio.sweep.state import read_scores

log = logging.getLogger(__name__)

NAMES = ("arm", "prompt", "seed", "signature", "commit")
"""The columns of runs.csv before its numbers."""
COST = "seconds"
A_PROMPT, A_SEED = "the sentence of a run", 1_000_000_007


@dataclass(frozen=True)
class Planned:
    """One run that an ablation takes."""

    arm: str  # its name
    prompt: str
    seed: int
    signature: str


@dataclass(frozen=True)
class Result:
    """What came of it.

    Attributes:
        commit: of the code that made it, with a plus sign where files had been changed; "" if it is not known.
        scores: its numbers, of six digits each.
        directory: None where only its row is left.
    """

    planned: Planned
    commit: str
    scores: Mapping[str, float]
    directory: Path | None = field(default=None, compare=False)


def plan(name: str, own: Sequence[str] = ()) -> tuple[Ablation, list[Planned]]:
    """An ablation and all its runs, arm by arm.

    Each arm is composed once, with a sentence and a seed that no run has, in whose places the real ones are then put:
    a setting can pass them on, alone or inside a text, and do nothing else with them.

    Args:
        name: as `ablation.load` takes it.
        own: the user's overrides for every arm; seed=0 or seed=0,1 takes these seeds instead of the file's.

    Raises:
        UserError: as `ablation.load`, an arm does not compose, or `own` names sentences.
    """
    of_paper = any(f"experiment={option}" in own for option in ablation.OF_PAPER)
    wanted = _with_seeds(ablation.load(name, "paper" if of_paper else "default"), own)
    more = [word for word in own if not word.startswith("seed=")]
    settings = map(_composed, ablation.runs([name], [[f"prompt={quoted(A_PROMPT)}", f"seed={A_SEED}", *more]]))
    return wanted, [
        Planned(arm, prompt, seed, signature(_filled(setting, {A_PROMPT: prompt, str(A_SEED): str(seed)})))
        for arm, setting in zip(wanted.arms, settings, strict=True)
        for prompt, seed in product(wanted.prompts, wanted.seeds)
    ]


def _with_seeds(wanted: Ablation, own: Sequence[str]) -> Ablation:
    """The ablation over the user's seeds, if there are any; its claims are about its own sentences."""
    for key, _, value in (word.partition("=") for word in own):
        if key == "prompt":
            raise UserError(
                f"prompt={value}: the claims of {wanted.name} are about its own sentences; for others, make a file of "
                "your own from its YAML."
            )
        if key == "seed":
            seeds = value.split(",")
            if not all(seed.isdecimal() for seed in seeds) or len(set(seeds)) < len(seeds):
                raise UserError(f"seed={value} must be whole numbers, each once, with commas between, like seed=0,1.")
            wanted = replace(wanted, seeds=tuple(map(int, seeds)))
    return wanted


def _composed(overrides: Sequence[str]) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from headstudio.run import register_resolvers

    register_resolvers()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(cli.conf_dir()), version_base="1.3"):
            return plain_values(compose("config", list(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(cli.explain(error, overrides) or str(error)) from error


def _filled(node: Any, words: Mapping[str, str]) -> Any:
    """The same with other words inside every text, and inside whole numbers."""
    if isinstance(node, dict):
        return {key: _filled(value, words) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, words) for value in node]
    if isinstance(node, str):
        for word, other in words.items():
            node = node.replace(word, other)
    elif isinstance(node, int) and not isinstance(node, bool):
        return int(words.get(str(node), node))
    return node


def finished(folders: Iterable[Path]) -> dict[str, RunPaths]:
    """The finished runs in some folders of runs, by signature; of equal ones the first."""
    found: dict[str, RunPaths] = {}
    for folder in folders:
        for done in sorted(folder.glob(f"*/{RunPaths(folder).done.name}")):
            found.setdefault(done.read_text(encoding="utf-8").strip(), RunPaths(done.parent))
    return found


def results(planned: Sequence[Planned], runs: Mapping[str, RunPaths], rows: Sequence[Result]) -> list[Result]:
    """What is known of each planned run, in order: from its directory, else from its row of runs.csv.

    Args:
        planned: the runs.
        runs: from `finished`.
        rows: from `read_rows`; those of another signature do not count.
    """
    kept = {row.planned: row for row in rows}
    found = []
    for run in planned:
        if run.signature in runs:
            paths = runs[run.signature]
            scores = {name: float(f"{value:.6g}") for name, value in read_scores(paths).items()}
            if not scores:
                instead = "its row of runs.csv stands for it" if run in kept else "the run does not count"
                log.warning("%s holds no numbers that can be read; %s.", paths.metrics, instead)
            if scores or run in kept:
                found.append(Result(run, _commit(paths.root), scores, paths.root) if scores else kept[run])
        elif run in kept:
            found.append(kept[run])
    return found


def columns(wanted: Ablation, found: Sequence[Result]) -> list[str]:
    """The numbers that are kept and shown: what the claims are about, what every comparison shows, and the time."""
    there = {name for result in found for name in result.scores}
    claimed = [claim.metric for claim in wanted.claims]
    return [*dict.fromkeys([*claimed, *main_metrics(sorted(there))]), COST]


def every_number(found: Sequence[Result], first: Sequence[str]) -> list[str]:
    """All numbers of all runs, these first: what was not claimed can be asked for later, without the directories."""
    there = {name for result in found for name in result.scores}
    return [*first, *sorted(there - set(first))]


def read_rows(path: Path) -> list[Result]:
    """The rows of a runs.csv; none where there is no such file.

    Raises:
        UserError: for a file that `write_rows` did not write.
    """
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_result(row) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error!r}); restore it (git checkout {path}) or remove it.") from error


def write_rows(path: Path, found: Sequence[Result], names: Sequence[str]) -> None:
    """Write runs.csv: a row per run, in the order of the plan, with these of its numbers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*NAMES, *names])
    for result in found:
        run = result.planned
        numbers = (f"{result.scores[name]:.6g}" if name in result.scores else "" for name in names)
        writer.writerow([run.arm, run.prompt, run.seed, run.signature, result.commit, *numbers])
    write_atomically(path, text.getvalue().encode())


def _result(row: Mapping[str, str]) -> Result:
    scores = {name: float(value) for name, value in row.items() if name not in NAMES and value != ""}
    return Result(Planned(row["arm"], row["prompt"], int(row["seed"]), row["signature"]), row["commit"], scores)


def _commit(root: Path) -> str:
    """Seven digits, from the code that the run's directory carries."""
    try:
        with zipfile.ZipFile(root / "frozen" / "code.zip") as archive:
            origin = json.loads(archive.read(SHOWN))
        return f"{origin['commit'][:7]}{'+' if origin['changed'] else ''}"
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ""
