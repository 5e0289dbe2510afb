"""The computer: Python, processor, memory, disk, GPU, packages, and the programs that runs may use."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from headstudio.findings import Finding, State

OLDEST_PYTHON = (3, 11)
RUN_GB, DISK_GB = 2.0, 1.0  # a default run took 1.3 GB; a run's directory takes a few dozen MB
SHIPPED = {
    "The open head": "head_anny.npz",
    "The tiny prior": "prior_tiny/unet/diffusion_pytorch_model.safetensors",
    "The tiny CLIP": "tiny_clip/open_clip_config.json",
}


def computer(folder: Path) -> Iterator[Finding]:
    """Python, processor, memory and the disk under `folder`, where runs would go."""
    import psutil

    version = platform.python_version()
    fits = sys.version_info >= OLDEST_PYTHON
    yield Finding(
        what="Python",
        state=State.READY if fits else State.BROKEN,
        detail=f"{version} ({sys.executable})",
        remedy="" if fits else "install Python 3.11 or newer, then: make PYTHON=python3.12",
    )
    total, free = (n / 1e9 for n in (psutil.virtual_memory().total, psutil.virtual_memory().available))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding(what="Processor", state=State.READY, detail=f"{cores} of {os.cpu_count()} logical cores may be used")
    yield Finding(
        what="Memory",
        state=State.READY if free >= RUN_GB else State.NOTE,
        detail=f"{total:.1f} GB, {free:.1f} GB of it free",
        remedy="" if free >= RUN_GB else f"a default run takes about {RUN_GB:.0f} GB: close something first",
    )
    room = shutil.disk_usage(folder).free / 1e9
    yield Finding(
        what="Disk",
        state=State.READY if room >= DISK_GB else State.LACKING,
        detail=f"{room:.1f} GB free under {folder}",
        remedy="" if room >= DISK_GB else "make room, or name another place with hydra.run.dir=...",
    )


def packages(distribution: str = "headstudio") -> Iterator[Finding]:
    """One line for all of our requirements that are met, and one for each that is not."""
    from packaging.requirements import Requirement

    met: list[tuple[Requirement, str]] = []
    lacking: list[tuple[Requirement, str | None]] = []
    for requirement in map(Requirement, metadata.requires(distribution) or ()):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            lacking.append((requirement, None))
            continue
        if requirement.specifier.contains(version, prereleases=True):
            met.append((requirement, version))
        else:
            lacking.append((requirement, version))
    names = ("torch", "gsplat", "diffusers", "transformers", "open_clip_torch", "hydra-core")
    shown = ", ".join(f"{r.name} {v}" for r, v in met if r.name in names)
    if met:
        yield Finding(what="Packages", state=State.READY, detail=f"{len(met)} as required, among them {shown}")
    for requirement, found in lacking:
        yield Finding(
            what=f"Package {requirement.name}",
            state=State.LACKING if found is None else State.BROKEN,
            detail="not installed" if found is None else f"{found}, but {requirement.specifier} is required",
            remedy=f"pip install '{requirement}'",
        )


def shipped() -> Iterator[Finding]:
    """The assets that come with the package: one line where all are there, else one for each that is not."""
    from importlib.resources import files

    folder = files("headstudio") / "assets"
    lacking = {what: folder / name for what, name in SHIPPED.items() if not (folder / name).is_file()}
    if not lacking:
        yield Finding(what="Shipped with the package", state=State.READY, detail="open head, tiny prior, tiny CLIP")
    for what, path in lacking.items():
        yield Finding(what=what, state=State.LACKING, detail=f"{path} is not there", remedy="install the package again")


def gpus() -> Iterator[Finding]:
    """Every GPU that torch can use with its memory, or why there is none; and gsplat's kernels."""
    import torch

    if not torch.cuda.is_available():
        yield _no_gpu(torch.__version__, torch.version.cuda)
        return
    for index in range(torch.cuda.device_count()):
        seen = torch.cuda.get_device_properties(index)
        detail = f"{seen.name}, {seen.total_memory / 2**30:.0f} GB, compute capability {seen.major}.{seen.minor}"
        yield Finding(what=f"GPU {index}", state=State.READY, detail=detail)
    from headstudio.render.cuda import missing

    lacks = missing()
    yield Finding(
        what="gsplat's kernels",
        state=State.LACKING if lacks else State.READY,
        detail=lacks or "compiled",
        remedy="install the CUDA toolkit and a C++ compiler (nvcc and g++ on the PATH), then start again"
        if lacks
        else "",
    )


def _no_gpu(version: str, cuda: str | None) -> Finding:
    """Why torch has no GPU: none there, a torch without CUDA, or a driver that it cannot talk to."""
    if shutil.which("nvidia-smi") is None:
        return Finding(
            what="GPU",
            state=State.NOTE,
            detail="none; the default setting runs on the processor",
            remedy="the paper's setting wants an NVIDIA GPU with its driver (nvidia-smi)",
        )
    named = _says("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader") or "an NVIDIA driver"
    if cuda is None:
        why = f"torch {version} was built without CUDA"
        remedy = "install torch with CUDA: https://pytorch.org/get-started/locally"
    else:
        why = f"torch {version} (CUDA {cuda}) cannot use it"
        remedy = (
            f"update the NVIDIA driver to one for CUDA {cuda}, and see that CUDA_VISIBLE_DEVICES does not hide the GPU"
        )
    return Finding(what="GPU", state=State.BROKEN, detail=f"{named}, but {why}", remedy=remedy)


def programs() -> Iterator[Finding]:
    """SLURM, W&B and the hub's cache: what some commands use and no default run needs."""
    if shutil.which("sbatch"):
        partitions = ", ".join(dict.fromkeys((_says("sinfo", "-h", "-o", "%R") or "").split()))
        detail = f"partitions {partitions}" if partitions else "sbatch is here, but sinfo names no partition"
        remedy = "" if partitions else "ask for your cluster's controller: sinfo must answer"
        yield Finding(what="SLURM", state=State.READY if partitions else State.NOTE, detail=detail, remedy=remedy)
    else:
        yield Finding(what="SLURM", state=State.NOTE, detail="no sbatch here: sweeps run on this machine")
    known = bool(os.environ.get("WANDB_API_KEY")) or _in_netrc("api.wandb.ai")
    yield Finding(
        what="W&B",
        state=State.READY if known else State.NOTE,
        detail="a key is here" if known else "no key: logger=wandb works offline",
        remedy="" if known else "wandb login, for logger.mode=online",
    )
    from huggingface_hub import constants

    said = "; HF_HUB_OFFLINE is set, so nothing is downloaded" if constants.HF_HUB_OFFLINE else ""
    yield Finding(what="Model cache", state=State.NOTE, detail=f"{constants.HF_HUB_CACHE}{said}")


def _in_netrc(host: str) -> bool:
    import netrc

    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _says(*words: str, patience_s: float = 10.0) -> str:
    """The first line that a program prints; empty where it does not."""
    try:
        told = subprocess.run(words, capture_output=True, text=True, timeout=patience_s, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.stdout.strip()
