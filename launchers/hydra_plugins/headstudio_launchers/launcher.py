"""The Hydra plugin: names for Hydra to find, and nothing else. The work is done in headstudio/sweep.

Hydra imports this file with every command, so it imports nothing heavy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import MISSING, OmegaConf

from headstudio.errors import UserError
from headstudio.sweep.inprocess import InProcess
from headstudio.sweep.local import Local
from headstudio.sweep.slurm import Slurm

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

    from headstudio.sweep.engine import Engine


class Profiles(SearchPathPlugin):
    """Makes the files below conf/ options of `hydra/launcher`, and those of the user's own folder."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("headstudio", "pkg://hydra_plugins.headstudio_launchers.conf")
        own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "headstudio"
        if own.is_dir():
            search_path.append("yours", f"file://{own}")


def _keys(engine: Any) -> dict[str, Any]:
    """Name and type of each of an engine's settings."""
    hints = get_type_hints(engine)
    return {field.name: hints[field.name] for field in fields(engine)}


class _Launcher(Launcher):
    """What all of them do; each names its engine.

    Args:
        freeze: the packages whose code is frozen when the command is given.
        detach: return when everything is submitted.
        settings: the engine's.
    """

    engine: Callable[..., Engine]

    def __init__(self, *, freeze: Sequence[str], detach: bool, **settings: Any) -> None:
        plain = {k: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for k, v in settings.items()}
        self._freeze, self._detach, self._settings = list(freeze), detach, plain
        keys = _keys(self.engine)
        for key in settings.keys() - keys.keys():  # a + on the command line brings them here
            known = ", ".join(keys)
            raise UserError(f"hydra.launcher.{key} is not a key of this launcher's profile. Its keys: {known}.")

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context, self._task, self._config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from hydra.core.utils import configure_log, setup_globals

        from headstudio.sweep.launch import launch

        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        try:
            return launch(
                self.engine(**self._settings),
                job_overrides,
                loader=self._context.config_loader,
                master=self._config,
                task=self._task,
                first_number=initial_job_idx,
                packages=self._freeze,
                detach=self._detach,
            )
        finally:
            configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)


class SlurmLauncher(_Launcher):
    """hydra/launcher=slurm and its relatives."""

    engine = Slurm


class LocalLauncher(_Launcher):
    """hydra/launcher=local."""

    engine = Local


class DebugLauncher(_Launcher):
    """hydra/launcher=debug."""

    engine = InProcess


def _register(launcher: type[_Launcher], name: str) -> None:
    """The types of a profile's keys, so that Hydra refuses an unknown key or a value that does not fit."""
    own = {"_target_": str, "freeze": list[str], "detach": bool}
    keys = own | _keys(launcher.engine)
    schema = make_dataclass(f"{name} launcher", [(key, kind, MISSING) for key, kind in keys.items()])
    ConfigStore.instance().store(group="hydra/launcher", name=f"{name}_keys", node=schema, provider="headstudio")


_register(SlurmLauncher, "slurm")
_register(LocalLauncher, "local")
_register(DebugLauncher, "debug")
