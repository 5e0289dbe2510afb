"""Composing by halves gives what Hydra gives; the fingerprint changes with everything that composing depends on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf, open_dict

from headstudio.cli import conf_dir, groups
from headstudio.run import register_resolvers
from headstudio.runstate import config_signature
from headstudio.sweep.compose import Composer, fingerprint


def hydra_of(folder: Path, *overrides: str) -> tuple[Any, Any]:
    """Hydra's loader for the settings in `folder`, and the config of a multirun with these overrides."""
    GlobalHydra.instance().clear()
    register_resolvers()
    setup_globals()
    search_path = create_automatic_config_search_path(str(folder / "x.py"), None, str(folder))
    hydra = Hydra.create_main_hydra2("test", search_path)
    words = ["hydra.sweep.dir=somewhere", *overrides]
    master = hydra.compose_config("config", words, RunMode.MULTIRUN, with_log_configuration=False)
    return hydra.config_loader, master


CHOICES = {group: sorted(options) for group, options in groups().items() if group != "experiment"}
choices = st.sampled_from(sorted(CHOICES)).flatmap(lambda g: st.sampled_from(CHOICES[g]).map(lambda o: f"{g}={o}"))
values = st.one_of(
    st.integers(0, 99).map(lambda n: f"seed={n}"),
    st.integers(1, 99).map(lambda n: f"scale.steps={n}"),
    st.sampled_from(["prompt='a, b'", "prompt='a head with a hat'", "trainer.background=[0.1,0.2,0.3]"]),
    st.sampled_from(["+note=1", "++note=2", "~gallery.fps", "scale.width=${scale.height}", "gallery.fps=null"]),
)


def outcome(make: Any) -> Any:
    """What is composed, without what only names and counts; or the fact that it cannot be."""
    try:
        config = make()
    except (HydraException, Exception) as error:
        return type(error).__name__
    with open_dict(config):
        node = config.pop("hydra")
    task = list(node.overrides.task)
    return OmegaConf.to_container(config, resolve=True), task, node.job.override_dirname, dict(node.runtime.choices)


@pytest.fixture(scope="module")
def hydra() -> tuple[Any, Any]:
    """`hydra_of` the settings that ship; what is composed from it leaves it as it is."""
    return hydra_of(conf_dir())


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(choices, values), min_size=1, max_size=4, unique_by=lambda word: word.split("=")[0].strip("+~"))
)
def test_it_is_what_hydra_composes(hydra: tuple[Any, Any], words: list[str]) -> None:
    loader, master = hydra
    composer = Composer(loader, master)
    theirs = outcome(lambda: loader.load_sweep_config(master, list(words)))
    assert outcome(lambda: composer.compose(words, 0).config) == theirs
    assert outcome(lambda: composer.compose(words, 1).config) == theirs  # from the copy that is kept


def test_everything_is_resolved_and_the_directory_carries_the_signature() -> None:
    loader, master = hydra_of(conf_dir())
    run = Composer(loader, master).compose(["reg=none", "scale.steps=7"], 3)
    assert "${" not in OmegaConf.to_yaml(OmegaConf.masked_copy(run.config, [k for k in run.config if k != "hydra"]))
    assert run.config.trainer.steps == 7
    assert run.directory == Path.cwd() / "somewhere" / f"reg-none-scale.steps-7-{config_signature(run.config)}"
    assert run.config.hydra.job.num == 3


def test_runs_do_not_see_each_others_values() -> None:
    loader, master = hydra_of(conf_dir())
    composer = Composer(loader, master)
    first = composer.compose(["+note=1", "seed=5"], 0)
    second = composer.compose(["seed=6"], 1)
    assert first.config.note == 1
    assert "note" not in second.config
    assert first.config.seed == 5


def test_another_default_is_another_run(tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    shutil.copytree(conf_dir(), folder)
    loader, master = hydra_of(folder)
    before = Composer(loader, master).compose(["seed=1"], 0), fingerprint(loader, master, "v1")
    assert before[1] == fingerprint(*hydra_of(folder), "v1")
    file = folder / "reg" / "scaled.yaml"
    file.write_text(file.read_text() + "\n# a remark\n")
    loader, master = hydra_of(folder)
    remarked = Composer(loader, master).compose(["seed=1"], 0), fingerprint(loader, master, "v1")
    assert remarked[0].directory == before[0].directory
    file.write_text(file.read_text().replace("tolerance_pos: 0.5", "tolerance_pos: 0.6"))
    loader, master = hydra_of(folder)
    changed = Composer(loader, master).compose(["seed=1"], 0), fingerprint(loader, master, "v1")
    assert changed[0].directory != before[0].directory
    assert changed[1] != before[1]


@pytest.mark.parametrize("what", ["version", "launcher key", "sweep folder"])
def test_the_fingerprint_sees(what: str) -> None:
    base = fingerprint(*hydra_of(conf_dir()), "v1")
    other = {
        "version": lambda: fingerprint(*hydra_of(conf_dir()), "v2"),
        "launcher key": lambda: fingerprint(*hydra_of(conf_dir(), "hydra.job.chdir=true"), "v1"),
        "sweep folder": lambda: fingerprint(*hydra_of(conf_dir(), "hydra.sweep.subdir=x"), "v1"),
    }[what]()
    assert base is not None
    assert other != base


def test_what_reads_the_environment_changes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "conf"
    shutil.copytree(conf_dir(), folder)
    with (folder / "config.yaml").open("a") as file:
        file.write("\nnote: ${oc.env:A_NOTE,nothing}\n")
    seen = []
    for value in ("one", "two", None, "one"):
        if value is None:
            monkeypatch.delenv("A_NOTE")
        else:
            monkeypatch.setenv("A_NOTE", value)
        seen.append(fingerprint(*hydra_of(folder), "v1"))
    assert None not in seen
    assert len(set(seen)) == 3
    assert seen[0] == seen[3]


@pytest.mark.parametrize("text", ["${now:%H}", "${oc.env:${prompt}}", "${oc.env:A_NOTE} ${now:%S}"])
def test_what_cannot_be_known_has_no_fingerprint(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "conf"
    shutil.copytree(conf_dir(), folder)
    with (folder / "config.yaml").open("a") as file:
        file.write(f"\nnote: {text}\n")
    assert fingerprint(*hydra_of(folder), "v1") is None
