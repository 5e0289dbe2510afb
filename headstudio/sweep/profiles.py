"""The launcher profiles that can be named, and every mistake in naming or filling one as a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

GROUP = "hydra/launcher"


def profiles() -> dict[str, Path]:
    """The profiles of this package, name to file."""
    spec = find_spec("hydra_plugins.headstudio_launchers")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [file for folder in folders for file in Path(folder).glob(f"conf/{GROUP}/*.yaml")]
    return {file.stem: file for file in sorted(files)}


def explain(chain: Iterable[BaseException], arguments: Sequence[str]) -> str | None:
    """One sentence if one of these errors is about a launcher's profile, else None.

    Args:
        chain: an error and what caused it; Hydra's and OmegaConf's carry the key they are about.
        arguments: the command line.
    """
    from headstudio.cli import nearest

    for link in chain:
        found = re.search(rf"Could not find '{GROUP}/([^']*)'", str(link))
        if found:
            return f"{GROUP}={found[1]} does not exist: it is one of {_and_yours(str(link))}."
        key = str(getattr(link, "full_key", None) or "")
        if not key.startswith("hydra.launcher."):
            continue
        name = key.removeprefix("hydra.launcher.")
        told = str(link).splitlines()[0]
        if name.startswith("sbatch."):
            return f"{key} is no option of this profile yet; add it with +{key}=..."
        if "not in" in told:
            keys = known_keys(str(getattr(link, "object_type_str", "")).partition(" ")[0])
            return f"{key} is not a key of this launcher's profile.{nearest(name, keys)} Its keys: {', '.join(keys)}."
        given = next((a for a in arguments if a.startswith(f"{key}=")), key)
        return f"{given} does not fit: {told}."
    return None


def known_keys(kind: str) -> list[str]:
    """The keys of the profiles of one kind of launcher: slurm, local or debug."""
    from hydra.core.config_store import ConfigStore

    stored = ConfigStore.instance().repo["hydra"]["launcher"].get(f"{kind}_keys.yaml")
    return [str(key) for key in stored.node if key != "_target_"] if stored else []


def _and_yours(told: str) -> str:
    """The options that Hydra found, without its own and without the lists of keys."""
    options = told.partition("Available options")[2].partition("Config search path")[0].splitlines()[1:]
    return ", ".join(o.strip() for o in options if o.strip() and o.strip() != "basic" and not o.endswith("_keys"))
