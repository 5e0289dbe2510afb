"""Finished runs, opened again by the commands that make no head but use one: animate, view, export, evaluate."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstudio.errors import UserError
from headstudio.runstate import RunPaths

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from headstudio.head.model import HeadModel
    from headstudio.motion import Motion
    from headstudio.render import Renderer, SceneRenderer


@dataclass(frozen=True)
class OpenedRun:
    """A run's directory and the setting in it; its parts are made when they are first asked for."""

    paths: RunPaths
    config: DictConfig

    @property
    def prompt(self) -> str:
        return str(self.config.prompt)

    @cached_property
    def head(self) -> HeadModel:
        return made(self.paths, self.config, "head")  # type: ignore[no-any-return]

    @cached_property
    def motion(self) -> Motion:
        """The motion that the run was trained with, on its head."""
        return made(self.paths, self.config, "motion")(self.head)  # type: ignore[no-any-return]

    @cached_property
    def avatar(self) -> Any:
        """The `avatar.representation.Representation`, on the CPU."""
        from headstudio.export.ply import load_avatar

        return load_avatar(self.paths.avatar, self.head)

    def drawn_by(self, given: Renderer | None = None) -> tuple[Any, SceneRenderer]:
        """The avatar on the renderer's device and what draws it there.

        Args:
            given: None is the GPU where this machine has one, else the CPU, whatever drew the run itself.
        """
        from headstudio.render.select import best_renderer

        renderer = best_renderer() if given is None else given
        avatar = self.avatar.to(renderer.device)
        return avatar, avatar.renderer(renderer)


def open_run(folder: str | Path) -> OpenedRun:
    """A finished run by its directory.

    Raises:
        UserError: there is none, it holds runs instead of being one, or it has not finished.
    """
    paths = RunPaths(Path(folder).expanduser())
    if not paths.root.is_dir():
        raise UserError(f"{folder} is no directory; name a finished run's, such as multirun/SWEEP/NAME.")
    if not paths.config.exists():
        runs = sorted(done.parent for done in paths.root.glob("*/DONE"))
        inside = f" It holds finished runs, such as {runs[0]}: name one of them." if runs else ""
        raise UserError(f"{folder} is no run's directory: it has no config.yaml.{inside}")
    if not paths.done.exists():
        raise UserError(f"The run in {folder} has not finished; start its command again, it goes on where it stopped.")
    return OpenedRun(paths, read_config(paths))


def made(paths: RunPaths, config: DictConfig, group: str) -> Any:
    """What one group of a run's setting makes.

    Raises:
        UserError: this version wants other keys of it than the one that made the run.
    """
    from hydra.errors import InstantiationException

    from headstudio.run import make

    try:
        return make(config[group])
    except InstantiationException as error:
        why = " ".join(str(error.__cause__).split())
        if isinstance(error.__cause__, UserError):  # such as a licensed file that is not there (any more)
            raise UserError(f"{why} The run's setting, {paths.config}, says where.") from error
        if not (isinstance(error.__cause__, ImportError) or "argument" in why):
            raise
        raise UserError(
            f"{paths.config}: its {group} does not fit this version of headstudio ({why[:160]}); change it there, or "
            "take the version that made the run."
        ) from error


def read_config(paths: RunPaths) -> DictConfig:
    """A finished run's own setting; a note where this installation is not the one that made it.

    Raises:
        UserError: it cannot be read.
    """
    from headstudio.runstate import config_signature

    config = read_setting(paths)
    if config_signature(config) != paths.done.read_text(encoding="utf-8").strip():
        logging.warning("%s (%s) was made by another version or with other assets.", paths.root, config.prompt)
    return config


def read_setting(paths: RunPaths) -> DictConfig:
    """The setting of a run, finished or not.

    Raises:
        UserError: it cannot be read.
    """
    from omegaconf import DictConfig, OmegaConf

    try:
        config = OmegaConf.load(paths.config)
        assert isinstance(config, DictConfig)
        assert "prompt" in config
    except Exception as error:  # yaml, omegaconf and the file system each raise their own
        raise UserError(f"The setting {paths.config} cannot be read ({error}).") from error
    return config
