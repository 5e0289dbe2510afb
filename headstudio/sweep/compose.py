"""Overrides to configs, quickly: runs that choose the same options of the groups are composed once.

Hydra composes a config of twenty groups in about a tenth of a second; a thousand runs that differ in seed and prompt
would need minutes before the first starts. Their values are therefore put into copies of one composed config, with
Hydra's own function for it, and then everything is resolved: what a run will see is fixed here.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig


@dataclass(frozen=True)
class Composed:
    """One run: its overrides, its whole config with every reference resolved, and its directory."""

    overrides: tuple[str, ...]
    config: DictConfig
    directory: Path


class Composer:
    """Composes the runs of one command.

    Args:
        loader: Hydra's.
        master: the command's own config, without the values that are swept.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        self._composed: dict[tuple[str, ...], bytes] = {}

    def compose(self, overrides: Sequence[str], number: int) -> Composed:
        """The run with these overrides, as number `number` of the sweep.

        Raises:
            hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException: for overrides that fit no key, values
                that don't convert, references that lead nowhere.
        """
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import open_dict, read_write

        config = self._copy(overrides)
        before = HydraConfig.instance().cfg
        try:
            with open_dict(config), read_write(config):
                config.hydra.job.id = config.hydra.job.num = number
                HydraConfig.instance().cfg = config  # type: ignore[assignment]  # where `${hydra:...}` looks
                for key in config:
                    if key != "hydra":
                        _resolve(config, key)  # before the directory: the signature in its name is quicker to take then
                sweep = config.hydra.sweep
                sweep.dir, sweep.subdir = str(sweep.dir), str(sweep.subdir)
                directory = Path(os.path.abspath(os.path.join(sweep.dir, sweep.subdir)))
                config.hydra.runtime.output_dir = str(directory)
        finally:
            HydraConfig.instance().cfg = before
        return Composed(tuple(overrides), config, directory)

    def _copy(self, overrides: Sequence[str]) -> DictConfig:
        """A fresh config with these overrides, its references not yet resolved."""
        import cloudpickle
        from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
        from hydra.core.override_parser.overrides_parser import OverridesParser
        from omegaconf import OmegaConf, open_dict

        parsed = OverridesParser.create().parse_overrides(list(overrides))
        choosing = [p for p in parsed if p.package is not None or p.is_hydra_override() or self._is_group(p)]
        key = tuple(str(p.input_line) for p in choosing)
        if key not in self._composed:
            fresh = self._loader.load_sweep_config(self._master, list(key))
            with open_dict(fresh.hydra):  # workers need no launcher, least of all its types
                fresh.hydra.launcher = OmegaConf.to_container(fresh.hydra.launcher)
            self._composed[key] = cloudpickle.dumps(fresh)
        config: DictConfig = pickle.loads(self._composed[key])
        values = [p for p in parsed if p not in choosing]
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        naming = config.hydra.job.config.override_dirname
        tasks = [p for p in parsed if not p.is_hydra_override()]
        config.hydra.overrides.task = [p.input_line for p in tasks]
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides=tasks, kv_sep=naming.kv_sep, item_sep=naming.item_sep, exclude_keys=naming.exclude_keys
        )
        return config

    def _is_group(self, override: Override) -> bool:
        return bool(self._loader.repository.group_exists(override.key_or_group))  # type: ignore[attr-defined]


def _resolve(config: DictConfig, key: Any) -> None:
    """Resolve all references below a top-level key, in place."""
    from omegaconf import OmegaConf

    if OmegaConf.is_interpolation(config, key):
        config[key] = config[key]
    elif not OmegaConf.is_missing(config, key) and OmegaConf.is_config(config[key]):
        OmegaConf.resolve(config[key])


def fingerprint(loader: ConfigLoader, master: DictConfig, extra: str) -> str | None:
    """Hash of everything that composing depends on beside the overrides; None if that cannot be known.

    The same overrides under the same fingerprint are the same run, so a sweep that is started again need not compose
    what it finished. The environment's variables that settings name count with their values; settings that read the
    clock, or variables whose names are made up on the way, have no fingerprint.

    Args:
        loader: Hydra's; the YAML files on its search path are hashed.
        master: the command's own config; its overrides of Hydra count too.
        extra: what else makes a run (`runstate.surroundings`).
    """
    from hydra import __version__
    from omegaconf import OmegaConf

    digest = hashlib.sha256(f"{__version__} {master.hydra.overrides.hydra} {extra}".encode())
    digest.update(OmegaConf.to_yaml(master.hydra.sweep).encode())
    for source in loader.get_sources():  # type: ignore[attr-defined]
        folder = _folder(source.scheme(), source.path)
        for file in sorted(folder.rglob("*.yaml")) if folder else ():
            content = file.read_bytes()
            read = {} if source.provider == "hydra" else _variables(_without_hydra(content))
            if read is None:
                return None
            digest.update(f"{read} ".encode() if read else b"")
            digest.update(f"{file.relative_to(folder)} ".encode() + content)  # type: ignore[arg-type]
    return digest.hexdigest()[:16]


def _folder(scheme: str, path: str) -> Path | None:
    """Where a config source's files lie; None for those that live in memory."""
    if scheme == "file":
        return Path(path)
    if scheme == "pkg":
        module = import_module(path.replace("/", "."))
        return Path(next(iter(module.__path__)))
    return None


def _without_hydra(content: bytes) -> bytes:
    """A YAML file's text without its top-level `hydra:` block, whose clock names folders and not runs."""
    return re.sub(rb"(?m)^hydra:\n(?:[ \t#].*\n|\n)*", b"", content)


def _variables(content: bytes) -> dict[str, str | None] | None:
    """The environment's variables that a YAML file names, with their values; None if it reads what has no name."""
    named = re.findall(rb"\$\{oc\.env:\s*(\w+)\s*[,}]", content)
    if len(named) != len(re.findall(rb"\$\{(?:oc\.env|env|now)[:}]", content)):
        return None
    return {name.decode(): os.environ.get(name.decode()) for name in sorted(set(named))}
