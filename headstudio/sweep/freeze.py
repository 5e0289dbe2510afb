"""The code and the config of a run as they are when the command is given, whatever is edited while it waits.

Code goes to SWEEP/.sweep/code/HASH, once for all runs that share it; workers import from there. Each run's directory
gets `frozen/job.pkl` (its resolved config and the function to call) and `frozen/code.zip`: what is needed to show and
repeat the run when only its directory is left. The weights are not in the zip; their hash is.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstudio.cli import conf_dir
from headstudio.errors import UserError
from headstudio.files import put
from headstudio.runstate import assets_fingerprint

if TYPE_CHECKING:
    from omegaconf import DictConfig

ASSETS = "headstudio/assets/"
SHOWN = "code.json"  # beside the code: where it came from


def freeze_code(folder: Path, packages: Sequence[str]) -> str:
    """Copy the code to `folder`/HASH unless it is there; returns the hash of all its files.

    Args:
        folder: a sweep's `.sweep/code`.
        packages: names of the packages to copy. The settings in conf/ go along.

    Raises:
        UserError: for a package that cannot be found.
    """
    files = dict(_files(packages))
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(f"{name} ".encode() + hashlib.sha256(path.read_bytes()).digest())
    code = digest.hexdigest()[:16]
    if (folder / code).exists():
        return code
    partial = folder / f".{code}.{uuid.uuid4().hex}"
    for name, path in files.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, partial / name)
        _copy_kernels(path, partial / name)
    (partial / SHOWN).write_text(json.dumps(_origin(code), indent=1) + "\n", encoding="utf-8")
    _zip(partial, folder / f"{code}.zip")
    try:
        partial.rename(folder / code)
    except OSError:  # another command was quicker
        shutil.rmtree(partial)
    return code


def pack(task: Callable[[DictConfig], Any], config: DictConfig) -> bytes:
    """What a worker needs: the function to call and the config, composed and resolved, with Hydra's node."""
    import cloudpickle
    from hydra import version

    packed: bytes = cloudpickle.dumps((task, config, version.getbase()))
    return packed


def freeze_run(root: Path, archive: Path, packed: bytes) -> None:
    """Write a run's `frozen` folder.

    Args:
        root: the run's directory, made if need be.
        archive: the zip of `freeze_code`; linked, so that a thousand runs share it, copied where links are impossible.
        packed: from `pack`.
    """
    folder = root / "frozen"
    folder.mkdir(parents=True, exist_ok=True)
    put(folder / "job.pkl", packed)
    link = folder / "code.zip"
    if link.exists() and link.samefile(archive):
        return
    link.unlink(missing_ok=True)
    try:
        os.link(archive, link)
    except OSError:
        shutil.copyfile(archive, link)


def thaw_run(root: Path) -> tuple[Callable[[DictConfig], Any], DictConfig]:
    """What `pack` was given; Hydra is set to the version whose behaviour the command asked for."""
    import cloudpickle
    from hydra import version

    task, config, base = cloudpickle.loads((root / "frozen" / "job.pkl").read_bytes())
    if base is not None:
        version.VersionBase.instance().setbase(base)
    return task, config


def unfreeze_new(root: Path) -> None:
    """Take `freeze_run` back in a directory that holds nothing else."""
    if {entry.name for entry in root.iterdir()} <= {"frozen"}:
        shutil.rmtree(root)


def code_of_run(root: Path, into: Path) -> Path:
    """Unpack the code that a run's directory carries; the weights come from this package if they are the same.

    Raises:
        UserError: if there is no code, or it wants other weights than this package has.
    """
    archive = root / "frozen" / "code.zip"
    if not archive.exists():
        raise UserError(f"{root} carries no frozen/code.zip; only runs of a multirun do.")
    with zipfile.ZipFile(archive) as file:
        file.extractall(into)
    wanted = json.loads((into / SHOWN).read_text(encoding="utf-8"))["assets"]
    if wanted != assets_fingerprint():
        raise UserError(
            f"{root} was made with the weights {wanted}, this package has {assets_fingerprint()}; install the version "
            f"that {archive} was frozen from (its {SHOWN} names the commit)."
        )
    shutil.copytree(Path(__file__).parents[1] / "assets", into / ASSETS, dirs_exist_ok=True)
    return into


def environment(code: Path) -> dict[str, str]:
    """Variables with which Python imports the frozen code, whatever the current directory holds."""
    path = os.pathsep.join(filter(None, (str(code), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def own_packages(config: DictConfig) -> set[str]:
    """The packages that a config's `_target_`s name and that are neither installed nor Python's own: a user's code."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    names = {target.partition(".")[0] for target in _targets(plain)} - {"headstudio"}
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    return {name for name in names if (at := _place_of(name)) and not any(at.is_relative_to(p) for p in installed)}


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from _targets(value)


def _files(packages: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Name inside the frozen folder and path of every file."""
    yield from _below("conf", conf_dir())
    for package in dict.fromkeys(packages):
        place = _place_of(package)
        if place is None:
            raise UserError(f"hydra.launcher.freeze names {package!r}, which is no package that Python finds here.")
        if place.is_dir():
            yield from _below(package.replace(".", "/"), place)
        else:
            yield place.name, place


def _below(name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and path.suffix != ".pyc" and not any(p.startswith((".", "__pyc")) for p in inside.parts):
            yield f"{name}/{inside.as_posix()}", path


def _place_of(package: str) -> Path | None:
    """A package's folder, or a module's file; None if Python finds no source of it."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.origin and spec.origin.endswith(".py") else None


def _copy_kernels(source: Path, target: Path) -> None:
    """Take numba's compiled kernels of a file along (it knows them by the file's time), or each copy would compile."""
    for kernel in source.parent.glob(f"__pycache__/{source.stem}.*.nb[ic]") if source.suffix == ".py" else ():
        (target.parent / "__pycache__").mkdir(exist_ok=True)
        shutil.copy2(kernel, target.parent / "__pycache__")


def _origin(code: str) -> dict[str, Any]:
    """Commit, Python and versions, for whoever reads a run later."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return ""
        return done.stdout.strip()

    versions = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    return {
        "code": code,
        "assets": assets_fingerprint(),
        "commit": git("rev-parse", "HEAD"),
        "changed": git("status", "--porcelain", "--untracked-files=no").splitlines(),
        "python": f"{platform.python_version()} {sys.executable}",
        "versions": dict(sorted(versions.items(), key=lambda item: str(item[0]).lower())),
    }


def _zip(folder: Path, archive: Path) -> None:
    """All but the weights."""
    partial = archive.with_name(f".{archive.name}.{uuid.uuid4().hex}")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not name.startswith(ASSETS) and "__pycache__" not in name:
                file.write(path, name)
    partial.replace(archive)
