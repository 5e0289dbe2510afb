"""Ablations by name: `-m +ablation=fig7_f3dgs` becomes runs, one for each arm, sentence and seed.

An ablation is a YAML file that says what is compared and what should come out; CONTRIBUTING.md shows one. An arm lists
only what differs from the base, and nothing of the ablation enters a run's setting: equal settings are one run,
whichever ablation names them.

Anywhere in such a file `{default: X, paper: Y}` stands for X, or for Y with experiment=paper or official. An arm or a
claim that is null there is left out, and so are the claims about such an arm.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from headstudio.ablation_checks import Checks
from headstudio.camera_views import VIEWS
from headstudio.cli import nearest
from headstudio.errors import UserError
from headstudio.prompts import quoted, read_prompts

KEY = "+ablation"
VARIANTS = ("default", "paper")
OF_PAPER = ("paper", "official")
"""The experiments with which a file is read as its variant "paper"."""


@dataclass(frozen=True)
class Arm:
    """One setting of an ablation."""

    name: str
    label: str  # plain words, for tables and figures
    overrides: tuple[str, ...]  # Hydra's, beyond the base's; empty: the base itself


@dataclass(frozen=True)
class Claim:
    """What should come out: one paired test over sentences and seeds."""

    says: str
    metric: str  # a number of metrics.json, a dot going one level down; `report.glossary` knows which way is better
    better: str  # the name of the arm that should be better ...
    than: str  # ... than this one
    margin: float  # ... or at most this much worse, in the metric's unit; 0: it must be better
    prompts: tuple[str, ...]  # the sentences that the claim is about


@dataclass(frozen=True)
class Figure:
    """Which heads stand side by side, and how one sees them."""

    arms: tuple[str, ...]  # their names, in order
    views: tuple[str, ...] = ("front", "front_open")  # of `camera_views.VIEWS`, in each cell
    sentences: int = 4  # so many of the first
    pixels: int = 220  # of one picture at most, each way
    rows: str = "sentences"  # or "arms", where many arms would make narrow columns


@dataclass(frozen=True)
class Ablation:
    """One file of ablations/, read as one of its variants."""

    name: str
    title: str
    paper: str  # what the paper says should happen, in our words
    base: tuple[str, ...]  # overrides of all arms, but where an arm sets the same key
    prompts: tuple[str, ...]  # sentences
    seeds: tuple[int, ...]
    arms: Mapping[str, Arm]
    figure: Figure
    claims: tuple[Claim, ...]

    def overrides(self, arm: str, prompt: str, seed: int) -> tuple[str, ...]:
        """The run of an arm (by name), a sentence and a seed, in the words of a command line."""
        return (*self.setting(self.arms[arm]), f"prompt={quoted(prompt)}", f"seed={seed}")

    def setting(self, arm: Arm, given: Iterable[str] = ()) -> tuple[str, ...]:
        """The base's overrides and the arm's own; of the base without keys that the arm sets or that are `given`."""
        taken = {*map(_key, arm.overrides), *given}
        return (*(word for word in self.base if _key(word) not in taken), *arm.overrides)


def ablations_dir() -> Path:
    """Our ablations: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "ablations"
    return inside if inside.is_dir() else package.parent / "ablations"


def files() -> dict[str, Path]:
    """Name to file of every ablation of ours."""
    return {file.stem: file for file in sorted(ablations_dir().glob("*.yaml"))}


def load(name: str, variant: str = "default") -> Ablation:
    """An ablation of ours by its name, or one of the user's by its file.

    Args:
        name: a name from `ablations/`, or the path of a YAML file.
        variant: "default", or "paper": as it is with experiment=paper or official.

    Raises:
        UserError: there is no such ablation, or its file breaks a rule.
    """
    path = files().get(name) or Path(name).expanduser()
    if not path.is_file():
        known = ", ".join(files())
        raise UserError(f"{KEY}={name} does not exist: name a YAML file or one of {known}.{nearest(name, files())}")
    return _File(path).read(variant)


def named(arguments: Sequence[str]) -> list[str]:
    """The ablations that a command line names, each as `load` takes it."""
    given = [argument.partition("=")[2] for argument in arguments if _key(argument) == KEY]
    return [name for value in given for name in re.split(r"\s*,\s*", value)]


def check(arguments: Sequence[str]) -> None:
    """Refuse a command line whose ablations cannot run, before anything is composed.

    Raises:
        UserError: without -m, or as `load`.
    """
    for name in named(arguments):
        for variant in VARIANTS:
            _refuse_unknown_metrics(load(name, variant))
        if not {"-m", "--multirun"} & set(arguments):
            raise UserError(f"{KEY}={name} makes several runs: add -m.")


def runs(names: Sequence[str], grid: Sequence[Sequence[str]]) -> list[list[str]]:
    """The overrides of every run of some ablations, each run once: base, arm, sentence, seed, then the user's own.

    Seed by seed, so that a sweep that is stopped early has compared all arms.

    Args:
        names: as `load` takes them.
        grid: the user's other overrides, once for each combination of the values that they sweep. A prompt or a seed
            among them replaces the file's, anything else goes with every arm.

    Raises:
        UserError: as `load`, or the user sets what the arms compare.
    """
    found: dict[tuple[str, ...], None] = {}
    read = cache(load)
    for words in grid:
        given = {_key(word).lstrip("+"): word for word in words}
        own = [word for key, word in given.items() if key not in ("prompt", "seed")]
        variant = "paper" if given.get("experiment", "").partition("=")[2] in OF_PAPER else "default"
        for ablation in (read(name, variant) for name in names):
            _refuse_compared(ablation, given)
            prompts = [given["prompt"]] if "prompt" in given else [f"prompt={quoted(p)}" for p in ablation.prompts]
            seeds = [given["seed"]] if "seed" in given else [f"seed={seed}" for seed in ablation.seeds]
            for seed, prompt, arm in itertools.product(seeds, prompts, ablation.arms.values()):
                found[(*ablation.setting(arm, given), prompt, seed, *own)] = None
    return [list(run) for run in found]


def _refuse_unknown_metrics(ablation: Ablation) -> None:
    """Before a night of runs, not after it."""
    from headstudio.report.glossary import metric

    for claim in ablation.claims:
        if metric(claim.metric).better == "neither":
            raise UserError(
                f"The ablation {ablation.name}: the claim {claim.says!r} is about {claim.metric!r}, which is no number "
                "that is known to be better high or low (docs/metrics.md)."
            )


def _refuse_compared(ablation: Ablation, given: Mapping[str, str]) -> None:
    for arm in ablation.arms.values():
        for word in arm.overrides:
            if _key(word) in given:
                raise UserError(
                    f"{given[_key(word)]} would set for every arm of {ablation.name} what it compares "
                    f"({arm.name}: {word}); leave it out."
                )


def _key(override: str) -> str:
    return override.partition("=")[0]


class _File(Checks):
    """Reads one file."""

    def read(self, variant: str) -> Ablation:
        whole = _choose(self._content(), variant)
        top = self._entries(whole, "", "title paper base prompts seeds arms", "figure claims")
        names, arms = self._arms(top["arms"])
        prompts = tuple(read_prompts(self._words(top["prompts"], "prompts")))
        figure = self._figure(top.get("figure", {}), names)
        claims = [
            self._claim(node, f"claims[{number}]", names, prompts)
            for number, node in enumerate(self._list(top.get("claims", []), "claims"))
            if node is not None
        ]
        return Ablation(
            name=self.path.stem,
            title=self._words(top["title"], "title"),
            paper=self._words(top["paper"], "paper"),
            base=self._overrides(top["base"], "base"),
            prompts=prompts,
            seeds=tuple(self._seeds(top["seeds"])),
            arms=arms,
            figure=replace(figure, arms=tuple(name for name in figure.arms if name in arms)),
            claims=tuple(claim for claim in claims if {claim.better, claim.than} <= arms.keys()),
        )

    def _content(self) -> Any:
        from omegaconf import OmegaConf
        from yaml import YAMLError

        try:
            return OmegaConf.to_container(OmegaConf.load(self.path))
        except (YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"The ablation {self.path} is no YAML: {' '.join(str(error).split())}") from None

    def _arms(self, node: Any) -> tuple[list[str], dict[str, Arm]]:
        """The names of all arms, and those arms that this variant has."""
        if not isinstance(node, dict) or not node:
            raise self._wrong("arms", node, "a mapping of names to {label: ..., overrides: [...]}")
        return [str(name) for name in node], {str(k): self._arm(str(k), v) for k, v in node.items() if v is not None}

    def _arm(self, name: str, node: Any) -> Arm:
        key = f"arms.{name}"
        entries = self._entries(node, key, "label overrides")
        label = self._words(entries["label"], f"{key}.label")
        return Arm(name, label, self._overrides(entries["overrides"], f"{key}.overrides"))

    def _figure(self, node: Any, names: Sequence[str]) -> Figure:
        """A list names its arms alone; all of the file's, whatever the variant."""
        node = {"arms": node} if isinstance(node, list) else node
        entries = self._entries(node, "figure", "", " ".join(field.name for field in fields(Figure)))
        read: dict[str, Any] = {"arms": names, **entries}
        read["arms"] = tuple(
            self._arm_name(name, names, "figure.arms") for name in self._list(read["arms"], "figure.arms")
        )
        if "views" in read:
            views = self._list(read["views"], "figure.views")
            read["views"] = tuple(self._one_of(name, VIEWS, f"figure.views: {name}") for name in views)
            if not views:
                raise self._wrong("figure.views", views, f"some of {', '.join(VIEWS)}")
        for name, least in (("sentences", 1), ("pixels", 16)):
            if name in read:
                self._whole(read[name], f"figure.{name}", least)
        if "rows" in read:
            self._one_of(read["rows"], ("sentences", "arms"), f"figure.rows={read['rows']!r}")
        return Figure(**read)

    def _claim(self, node: Any, key: str, names: Sequence[str], prompts: tuple[str, ...]) -> Claim:
        entries = self._entries(node, key, "says metric better than", "margin prompts")
        says, metric = (self._words(entries[name], f"{key}.{name}") for name in ("says", "metric"))
        better, than = (self._arm_name(entries[name], names, f"{key}.{name}") for name in ("better", "than"))
        margin = entries.get("margin", 0)
        if not isinstance(margin, int | float) or isinstance(margin, bool) or margin < 0:
            raise self._wrong(f"{key}.margin", margin, "a number of at least 0")
        chosen = entries.get("prompts", "all")
        chosen = prompts if chosen == "all" else self._list(chosen, f"{key}.prompts")
        if strange := [sentence for sentence in chosen if sentence not in prompts]:
            raise self._wrong(f"{key}.prompts", strange[0], "a sentence of the ablation's list")
        return Claim(says, metric, better, than, float(margin), tuple(chosen))

    def _overrides(self, node: Any, key: str) -> tuple[str, ...]:
        words = self._list(node, key)
        for word in words:
            if not isinstance(word, str) or "=" not in word:
                raise self._wrong(key, word, "a list of overrides like reg=none")
            if _key(word) in ("prompt", "seed"):
                raise self._wrong(key, word, f"without {_key(word)}, which has its own line, {_key(word).rstrip('s')}s")
        return tuple(words)

    def _seeds(self, node: Any) -> list[int]:
        seeds = self._list(node, "seeds")
        if not seeds or not all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in seeds):
            raise self._wrong("seeds", node, "a list of whole numbers of at least 0")
        if len(set(seeds)) < len(seeds):
            raise self._wrong("seeds", node, "without repetition: a run that counts twice is no second witness")
        return seeds


def _choose(node: Any, variant: str) -> Any:
    """The same with every `{default: X, paper: Y}` replaced by the one that the variant names."""
    if isinstance(node, dict):
        if set(node) == set(VARIANTS):
            return _choose(node[variant], variant)
        return {key: _choose(value, variant) for key, value in node.items()}
    if isinstance(node, list):
        return [_choose(item, variant) for item in node]
    return node
