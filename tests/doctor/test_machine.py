"""The doctor's view of the computer, each line against a computer that is made to be so."""

from __future__ import annotations

import os
import shutil
import sys
from collections import namedtuple
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from headstudio.doctor import machine
from headstudio.findings import Finding, State
from headstudio.render import cuda


def by_name(findings: object) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}  # type: ignore[attr-defined]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of one empty folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_this_computer(tmp_path: Path) -> None:
    found = by_name(machine.computer(tmp_path))
    assert not any(finding.stops for finding in found.values())
    assert found["Python"].detail.startswith(".".join(map(str, sys.version_info[:3])))
    assert f"{psutil.virtual_memory().total / 1e9:.1f} GB" in found["Memory"].detail
    assert found["Processor"].detail.startswith(f"{len(os.sched_getaffinity(0))} of ")
    assert str(tmp_path) in found["Disk"].detail


def test_a_full_and_old_computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**12, 10**12, 10**8))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=4e9, available=1e9))
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    found = by_name(machine.computer(tmp_path))
    assert [found[name].state for name in ("Python", "Memory", "Disk")] == [State.BROKEN, State.NOTE, State.LACKING]
    assert found["Disk"].detail.startswith("0.1 GB free")
    assert "make room" in found["Disk"].remedy
    assert "1.0 GB of it free" in found["Memory"].detail
    assert found["Memory"].remedy


def test_requirements_as_the_package_states_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.state for finding in machine.packages()] == [State.READY]
    wanted = ["torch>=2.9", "numpy>=99", "no-such-thing>=1", "anny>=0.6; extra == 'bake'"]
    monkeypatch.setattr(metadata, "requires", lambda distribution: wanted)
    found = by_name(machine.packages())
    assert set(found) == {"Packages", "Package numpy", "Package no-such-thing"}
    assert found["Package numpy"].state is State.BROKEN
    assert ">=99 is required" in found["Package numpy"].detail
    assert found["Package no-such-thing"].state is State.LACKING
    assert found["Package no-such-thing"].remedy == "pip install 'no-such-thing>=1'"


def test_what_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.state for finding in machine.shipped()] == [State.READY]
    monkeypatch.setitem(machine.SHIPPED, "The open head", "lost.npz")
    (lost,) = machine.shipped()
    assert lost.state is State.LACKING
    assert lost.detail.endswith("assets/lost.npz is not there")


def test_no_gpu_and_why(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (none,) = machine.gpus()
    assert none.state is State.NOTE
    assert none.detail.startswith("none;")
    program(path, "nvidia-smi", "echo 'NVIDIA A6000, 470.82'")
    monkeypatch.setattr(torch.version, "cuda", None)
    (built,) = machine.gpus()
    assert built.state is State.BROKEN
    assert "without CUDA" in built.detail
    assert "pytorch.org" in built.remedy
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    (old,) = machine.gpus()
    assert old.state is State.BROKEN
    assert old.detail.startswith("NVIDIA A6000, 470.82, but torch")
    assert "driver" in old.remedy
    assert "13.0" in old.remedy


def test_gpus_and_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    seen = SimpleNamespace(name="A6000", total_memory=48 * 2**30, major=8, minor=6)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: seen)
    monkeypatch.setattr(cuda, "missing", lambda: "")
    found = by_name(machine.gpus())
    assert found["GPU 1"].detail == "A6000, 48 GB, compute capability 8.6"
    assert found["gsplat's kernels"].state is State.READY
    monkeypatch.setattr(cuda, "missing", lambda: "gsplat's compiled kernels")
    assert by_name(machine.gpus())["gsplat's kernels"].stops


def test_programs(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    bare = by_name(machine.programs())
    assert not any(finding.stops for finding in bare.values())
    assert bare["SLURM"].detail.startswith("no sbatch")
    assert "offline" in bare["W&B"].detail
    program(path, "sbatch", "exit 0")
    program(path, "sinfo", "printf 'gpu\\ngpu\\nlong\\n'")
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    full = by_name(machine.programs())
    assert full["SLURM"].detail == "partitions gpu, long"
    assert full["W&B"].state is State.READY
    assert "secret" not in full["W&B"].detail
