"""Every launcher profile composes, explains itself, and gives its engine exactly the settings that it takes."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.plugins import Plugins
from hydra.utils import get_class
from omegaconf import OmegaConf
from test_compose import hydra_of

from headstudio.cli import conf_dir, help_text
from headstudio.sweep.profiles import known_keys, profiles

ROOT = Path(__file__).parents[2]


def launcher_of(name: str) -> dict[str, Any]:
    _, master = hydra_of(conf_dir(), f"hydra/launcher={name}")
    plain = OmegaConf.to_container(master.hydra.launcher, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def test_there_is_a_profile_for_each_kind_of_machine() -> None:
    assert set(profiles()) == {"debug", "local", "slurm", "slurm_preemptible"}
    text = help_text()
    for name, file in profiles().items():
        assert file.read_text().startswith("# ")
        assert f" {name} " in text


@pytest.mark.parametrize("name", sorted(profiles()))
def test_a_profile_fills_its_engine(name: str) -> None:
    settings = launcher_of(name)
    launcher = get_class(settings.pop("_target_"))
    assert f"{launcher.__module__}.{launcher.__qualname__}" in Plugins.instance().class_name_to_class
    freeze, detach = settings.pop("freeze"), settings.pop("detach")
    assert "headstudio" in freeze
    assert detach is False
    engine = launcher.engine  # type: ignore[attr-defined]
    assert set(settings) == {field.name for field in fields(engine)}
    engine(**settings)


def test_every_key_has_one_home_and_a_word_about_it() -> None:
    for name, file in profiles().items():
        for line in file.read_text().splitlines():
            key, colon, rest = line.partition(": ")
            if colon and key in known_keys(name.partition("_")[0]) and name in ("slurm", "local"):
                assert "#" in rest, f"{file.name}: {line}"


def test_the_page_shows_a_profile_that_works(tmp_path: Path) -> None:
    """The example of launchers/README.md, as a user would copy it."""
    page = (ROOT / "launchers" / "README.md").read_text()
    block = page.partition("    # The GPU partition of our cluster\n")[2].partition("\n\n")[0]
    text = "\n".join(line.removeprefix("    ") for line in block.splitlines())
    assert yaml.safe_load(text)["account"] == "vision"
    folder = tmp_path / "headstudio" / "hydra" / "launcher"
    folder.mkdir(parents=True)
    (folder / "mycluster.yaml").write_text(f"# Ours\n{text}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        settings = launcher_of("mycluster")
    assert (settings["partition"], settings["timeout_min"], settings["max_requeues"]) == ("gpu", 720, 5)
    assert settings["sbatch"] == {"constraint": "a100"}
