"""What one setting needs: it is composed as a run would compose it, and each part is asked what it would read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstudio import cli
from headstudio.errors import UserError
from headstudio.findings import Finding, State

if TYPE_CHECKING:
    from omegaconf import DictConfig

PROCESSOR_PIXELS = 1e10
"""Rendered pixels (steps x views x width x height) beyond which a setting is not for a processor: the default renders
3e7 of them in about a minute, the paper's setting 8e10 with a prior a hundred times as large."""


@dataclass(frozen=True)
class Setting:
    """A setting and what it needs.

    Args:
        overrides: as on the command line of `headstudio.run`.
        findings: one per thing; none of them is a thing that ships with the package.
    """

    overrides: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def command(self) -> str:
        return " ".join(("python -m headstudio.run", *self.overrides))

    @property
    def stopped_by(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.stops]


def examine(overrides: Sequence[str], *, gpu: bool) -> Setting:
    """Compose a setting and ask its parts.

    Args:
        overrides: groups and keys, as on the command line.
        gpu: whether there is a GPU that can be used.

    Raises:
        UserError: where `headstudio.run` would refuse the setting.
    """
    from headstudio import settings

    config = _compose(overrides)
    settings.check(config)
    findings = (*_size(config, gpu), *(_gpu_memory(config) if gpu else ()), *needs(config))
    return Setting(tuple(overrides), tuple(dict.fromkeys(findings)))


def needs(config: DictConfig) -> Iterator[Finding]:
    """What every part with a `look` of its own says, the parts of a group's parts too."""
    for group in config:
        yield from _node(config._get_node(group))


def require(config: DictConfig) -> None:
    """Refuse a setting whose parts would not find what they read, before any of them is made.

    Raises:
        UserError: naming everything that is not there at once.
    """
    lacking = [finding for finding in needs(config) if finding.stops]
    if not lacking:
        return
    if len(lacking) == 1 and lacking[0].state is State.BROKEN and not lacking[0].remedy:
        raise UserError(f"{lacking[0].what}: {lacking[0].detail}")  # which says already what would be right
    told = "; ".join(dict.fromkeys(f"{finding.what} ({finding.detail})" for finding in lacking))
    chosen = "the same options" if len(lacking) > 1 or not lacking[0].remedy else ""
    how = f"python -m headstudio.doctor with {chosen} says how to get them" if chosen else lacking[0].remedy
    raise UserError(f"This setting lacks {told}: {how}.")


def _compose(overrides: Sequence[str]) -> DictConfig:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from headstudio.run import register_resolvers

    register_resolvers()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(cli.conf_dir()), version_base="1.3"):
            return compose("config", overrides=cli.quote_prompts(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(cli.explain(error, overrides) or str(error)) from error
    finally:
        GlobalHydra.instance().clear()


def _size(config: DictConfig, gpu: bool) -> Iterator[Finding]:
    """A setting that would keep a processor busy for months."""
    s = config.scale
    pixels = s.steps * s.batch_size * s.width * s.height
    if pixels > PROCESSOR_PIXELS and not gpu:
        yield Finding(
            what="GPU for this size",
            state=State.LACKING,
            detail=f"{s.steps} steps of {s.batch_size} pictures of {s.width}x{s.height} are not for a processor",
            remedy="an NVIDIA GPU; scale=smoke rehearses the same setting on a processor in a minute or two",
        )


def _gpu_memory(config: DictConfig) -> Iterator[Finding]:
    """Whether the guidance fits the GPU, once the prior's files are here to be measured."""
    import torch
    from hydra.utils import instantiate

    from headstudio.guidance import fit, memory, precision, sources
    from headstudio.render.cuda import CudaRenderer

    device = torch.device(CudaRenderer.device)
    arguments = _arguments(config.prior)
    formats = (
        precision.network_dtype(arguments.pop("dtype"), device),
        precision.vae_dtype(arguments.pop("vae_dtype"), device),
    )
    found = sources.locate(**arguments)
    if not all(source.ready for source in found):
        return
    size = fit.size_of(found, fit.settings_of(found), *formats)
    what, total = "GPU memory", memory.total_gb(device)
    try:
        chosen = instantiate(config.memory).settled(size, device)
    except UserError as error:
        yield Finding(what=what, state=State.LACKING, detail=str(error).rstrip("."))
        return
    detail = f"about {chosen.needed_gb(size):.0f} of {total:.0f} GB (an estimate)"
    yield Finding(what=what, state=State.READY, detail=detail)


def _node(node: Any) -> Iterator[Finding]:
    from omegaconf import DictConfig, ListConfig

    if not isinstance(node, DictConfig | ListConfig) or node._is_none() or node._is_missing():
        return
    if isinstance(node, ListConfig):
        for index in range(len(node)):
            yield from _node(node._get_node(index))
        return
    look = getattr(_target(node), "look", None)
    if look is None:
        for key in node:
            yield from _node(node._get_node(key))
        return
    yield from look(**_arguments(node))


def _target(node: DictConfig) -> Any:
    """What a part is made by; None where it cannot be found, which the run tells in its own words."""
    import pydoc

    try:
        return pydoc.locate(str(node["_target_"])) if "_target_" in node else None
    except pydoc.ErrorDuringImport:
        return None


def _arguments(node: DictConfig) -> dict[str, Any]:
    """The keyword arguments that the run would give, parts of parts made (they are small)."""
    from hydra.utils import instantiate
    from omegaconf import DictConfig, OmegaConf

    arguments: dict[str, Any] = {}
    for key in node:
        if str(key).startswith("_"):
            continue
        value = node[key]
        if isinstance(value, DictConfig) and "_target_" in value:
            arguments[str(key)] = instantiate(value, _convert_="all")
        else:
            arguments[str(key)] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    return arguments
