"""The ablations that ship: every arm composes at both scales and differs from its base in what it lists alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from headstudio.ablation import VARIANTS, Ablation, Arm, files, load
from headstudio.cli import conf_dir, groups
from headstudio.prompts import lists, read_prompts
from headstudio.report.glossary import metric
from headstudio.run import check, register_resolvers
from headstudio.synthetic.reading import parse

SHIPPED = {(name, variant): load(name, variant) for name in files() for variant in VARIANTS}
ARMS = [(name, variant, arm) for (name, variant), found in SHIPPED.items() for arm in found.arms.values()]
EXPERIMENT = {"default": (), "paper": ("experiment=paper",)}


def key(override: str) -> str:
    return override.partition("=")[0]


@cache
def composed(*overrides: str) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from flat(value, f"{path}.{name}".strip("."))
    else:
        yield path, node


@cache
def values(*overrides: str) -> dict[str, Any]:
    """Every dotted key with what stands there; references are not followed, so that a change counts once."""
    return dict(flat(OmegaConf.to_container(composed(*overrides))))


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    nothing = object()
    return {name for name in one.keys() | other.keys() if one.get(name, nothing) != other.get(name, nothing)}


def within(names: set[str], override: str) -> set[str]:
    """Those of the keys that an override of a value or a group sets."""
    group, _, package = key(override).partition("@")
    set_ = {package or group}
    file = conf_dir() / group / f"{override.partition('=')[2]}.yaml"
    if file.is_file() and file.read_text().startswith("# @package _global_"):
        set_ |= dict(flat(OmegaConf.to_container(OmegaConf.load(file)))).keys()
    return {name for name in names if any(name == one or name.startswith(f"{one}.") for one in set_)}


@pytest.mark.parametrize(("name", "variant", "arm"), ARMS, ids=[f"{n}-{v}-{arm.name}" for n, v, arm in ARMS])
def test_an_arm_changes_what_it_lists_and_nothing_else(name: str, variant: str, arm: Arm) -> None:
    base = (*SHIPPED[name, variant].base, *EXPERIMENT[variant])
    setting = (*SHIPPED[name, variant].setting(arm), *EXPERIMENT[variant])
    whole = values(*setting)
    check(composed(*setting))
    changed = differing(values(*base), whole)
    assert changed == set().union(*(within(changed, override) for override in arm.overrides))
    options = [override for override in arm.overrides if key(override) in groups()]
    for override in arm.overrides:  # a value of an option that the arm takes, too, counts beside that option
        beside = any(key(override).startswith(f"{key(option)}.") for option in options)
        without = values(*base, *options) if beside else values(*base)
        assert within(differing(without, whole), override), f"{override} changes nothing"


@pytest.mark.parametrize(("name", "variant"), SHIPPED)
def test_every_ablation_has_the_base_among_its_arms_and_no_arm_twice(name: str, variant: str) -> None:
    arms = [arm.overrides for arm in SHIPPED[name, variant].arms.values()]
    assert () in arms  # its runs serve all ablations
    assert len({frozenset(arm) for arm in arms}) == len(arms) >= 3
    for arm in SHIPPED[name, variant].arms.values():  # an arm's own value takes the base's place
        keys = [key(override) for override in SHIPPED[name, variant].setting(arm)]
        assert len(set(keys)) == len(keys)
    bases = {tuple(w for w in found.base if key(w) != "metrics") for (_, at), found in SHIPPED.items() if at == variant}
    assert len(bases) == 1  # the same heads, whatever judges them


@pytest.mark.parametrize("found", SHIPPED.values(), ids=[f"{name}-{variant}" for name, variant in SHIPPED])
def test_every_claim_says_which_way_is_better_and_can_be_found_true(found: Ablation) -> None:
    assert found.claims
    for claim in found.claims:
        assert metric(claim.metric).better != "neither", claim.metric
        assert claim.better != claim.than
        assert len(claim.prompts) * len(found.seeds) >= 6  # fewer pairs can never reach 5 %
    assert {claim.better for claim in found.claims} | {claim.than for claim in found.claims} <= set(found.arms)


def test_the_switches_between_paper_and_code_say_their_rows() -> None:
    for variant in VARIANTS:
        for arm in SHIPPED["paper_vs_official", variant].arms.values():
            assert not arm.overrides or "(row" in arm.label


def test_the_sentences_were_not_chosen_by_a_setting_and_leave_the_skin() -> None:
    sentences = read_prompts("ablation8")
    looks = [parse(sentence).attributes for sentence in sentences]
    assert not {s for name in ("tiny3", "tiny8", "tiny24") for s in read_prompts(name)} & set(sentences)
    assert sum(look.beard == "long" for look in looks) >= 2
    assert sum(look.hat != "none" for look in looks) >= 2
    assert sum(look.hair_style == "afro" for look in looks) >= 1
    assert sum(look.lips != "natural" for look in looks) >= len(looks) / 2
    assert sum(look.skin not in ("pale", "tan", "brown", "dark") for look in looks) >= len(looks) / 2
    assert all("no setting was chosen" in lists()[name] for name in ("ablation8", "no_mouth8"))
    leaving = {s for s, look in zip(sentences, looks, strict=True) if leaves_the_skin(look)}
    for claim in SHIPPED["fig7_f3dgs", "default"].claims:
        if claim.metric == "silhouette_iou":
            assert set(claim.prompts) == leaving
    assert all(parse(sentence).attributes.mouth == "none" for sentence in read_prompts("no_mouth8"))


def leaves_the_skin(look: Any) -> bool:
    return look.beard == "long" or look.hair_style == "afro" or look.hat != "none"
