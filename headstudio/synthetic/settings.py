"""Settings of the synthetic world's own commands: the YAML file beside them and `key=value` on top."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def load_settings(name: str, overrides: list[str]) -> Any:
    """`<name>.yaml` of this folder with command-line overrides; unknown keys are errors."""
    settings = OmegaConf.load(Path(__file__).with_name(f"{name}.yaml"))
    OmegaConf.set_struct(settings, True)
    settings.merge_with_dotlist(overrides)
    OmegaConf.set_readonly(settings, True)
    return settings
