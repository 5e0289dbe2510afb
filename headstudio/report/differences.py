"""What differs between runs, and under which names: the keys of a sweep, or what can be told from config.yaml."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from headstudio.evaluate.statistics import UNITS
from headstudio.prompts import unquoted
from headstudio.report.collect import Collection, Member

DEFAULT = "(default)"
MEASURING = ("metrics", "logger", "renderer", "hydra")
"""Groups that make no other head, only other numbers or none."""


@dataclass(frozen=True)
class Key:
    """A setting that is not the same in all runs.

    Attributes:
        name: as on the command line.
        values: in order of appearance.
        along: other keys that change with it, and so cannot be told from it.
    """

    name: str
    values: tuple[str, ...]
    along: tuple[str, ...] = ()
    is_choice: bool = False

    @property
    def confounded(self) -> tuple[str, ...]:
        """Keys of `along` that are not this key by another name, nor what an option of a config group consists of."""
        last = self.name.rpartition(".")[2]
        others = [k for k in self.along if not k.startswith(f"{self.name}.") and not k.endswith(f".{last}")]
        return () if self.is_choice else tuple(others)


@dataclass(frozen=True)
class Differences:
    """Attributes:
    keys: what differs.
    settings: for each run, in the order of the collection, the value of every such key.
    unasked: keys whose values differ although no key of `keys` explains it.
    """

    keys: tuple[Key, ...]
    settings: tuple[Mapping[str, str], ...]
    unasked: tuple[str, ...] = ()

    @property
    def axes(self) -> tuple[Key, ...]:
        """What is compared: everything but prompts and seeds."""
        return tuple(key for key in self.keys if key.name not in UNITS)

    def names(self, member: int, *, without: Sequence[str] = ()) -> str:
        """A run's caption: "reg=none, seed=0"."""
        given = self.settings[member]
        return ", ".join(v if k == "prompt" else f"{k}={v}" for k, v in given.items() if k not in without)


def differences(collection: Collection) -> Differences:
    """What differs: between runs of sweeps that were given by overrides these, else what their configs show."""
    members = collection.members
    columns: dict[str, tuple[str, ...]] = {}
    along: dict[str, list[str]] = {}
    unasked: list[str] = []
    given = [asked(member) for member in members]
    named = list(dict.fromkeys(key for of_member in given for key in of_member))
    choices = {key for member in members for key in member.choices}
    trusted = all(member.overrides is not None for member in members) and len(collection.sweeps) < 2
    for name, of_choice in _candidates(members, named):
        column = tuple(_value(member, own, name) for member, own in zip(members, given, strict=True))
        if len(set(column)) < 2:
            continue
        home = None if name in named else _home(name, column, columns, choices)
        if home is not None:
            along[home].append(name)
        elif name in named or name in UNITS or (not trusted and not name.startswith(MEASURING)):
            columns[name], along[name] = column, []
        elif not of_choice and not _explained(members, name, columns):
            unasked.append(name)
    order = [*(name for name in columns if name not in UNITS), *(name for name in UNITS if name in columns)]
    columns = {name: columns[name] for name in order}
    keys = tuple(Key(name, tuple(dict.fromkeys(c)), tuple(along[name]), name in choices) for name, c in columns.items())
    settings = tuple({name: column[i] for name, column in columns.items()} for i in range(len(members)))
    return Differences(keys, settings, tuple(unasked))


def common(collection: Collection) -> dict[str, str]:
    """The keys that all configs hold with the same value."""
    configs = [member.config for member in collection.members if member.config]
    if not configs:
        return {}
    return {key: value for key, value in configs[0].items() if all(c.get(key) == value for c in configs)}


def measurements(collection: Collection) -> list[str]:
    """For each run, how it was measured: the settings of its metrics as one text; "" where there is no config."""
    texts = ({k: v for k, v in m.config.items() if k.startswith("metrics.")} for m in collection.members)
    return [json.dumps(text, sort_keys=True) if text else "" for text in texts]


def asked(member: Member) -> dict[str, str]:
    """A run's overrides as a mapping."""
    pairs = (text.partition("=") for text in member.overrides or ())
    return {key.lstrip("+~"): unquoted(value) for key, _, value in pairs}


def _candidates(members: Sequence[Member], given: Sequence[str]) -> list[tuple[str, bool]]:
    """Every key that might differ, the best names first; and whether it is an option of a config group."""
    choices = list(dict.fromkeys(key for member in members for key in member.choices))
    flat = list(dict.fromkeys(key for member in members for key in member.config))
    flat.sort(key=lambda key: (not key.startswith("scale."), key.count(".")))
    # The prompt last of the three: where every run has its own, every other key would only seem to follow it
    first = [key for key in given if key != "prompt"] + ["seed", "prompt"]
    return [(key, key in choices) for key in dict.fromkeys([*first, *choices, *flat]) if not key.startswith("hydra")]


def _value(member: Member, given: Mapping[str, str], name: str) -> str:
    if name == "prompt" and member.prompt:
        return member.prompt
    return member.choices.get(name) or member.config.get(name) or given.get(name) or DEFAULT


def _home(name: str, column: Sequence[str], columns: Mapping[str, Sequence[str]], choices: Set[str]) -> str | None:
    """The key found before that says the same of all runs, or the group whose option fixes this one."""
    for known, values in columns.items():
        is_group = known in choices or name.startswith(f"{known}.")
        if _follows(column, values) and (is_group or _follows(values, column)):
            return known
    return None


def _follows(column: Sequence[str], known: Sequence[str]) -> bool:
    """Whether `known` fixes `column`."""
    return len(set(zip(known, column, strict=True))) == len(set(known))


def _explained(members: Sequence[Member], name: str, columns: Mapping[str, Sequence[str]]) -> bool:
    """Whether some key fixes this one, as far as runs have a config; one that has not begun has none."""
    here = [number for number, member in enumerate(members) if member.config]
    column = [members[number].config.get(name, "") for number in here]
    return len(set(column)) < 2 or any(_follows(column, [known[n] for n in here]) for known in columns.values())
