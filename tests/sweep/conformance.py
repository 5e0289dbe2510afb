"""Hydra's conformance suite for launchers, for the one that CONFORMANCE_LAUNCHER names: run by other tests."""

from __future__ import annotations

import os

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.test_utils.launcher_common_tests import BatchedSweeperTestSuite, IntegrationTestSuite, LauncherTestSuite

from headstudio.sweep.slurm import Slurm

NAME = os.environ["CONFORMANCE_LAUNCHER"]
KEYS = {
    "slurm": ["gpus_per_node=0", "cpus_per_task=1", "mem_gb=1", "timeout_min=5"],
    "local": ["workers=2"],
    "debug": [],
}
Slurm.look_every_s = 0.5  # a cluster of the tests' own serves nobody else
OVERRIDES = [f"hydra.launcher.{key}" for key in KEYS[NAME]]


def test_hydra_finds_the_launcher() -> None:
    found = {launcher.__qualname__ for launcher in Plugins.instance().discover(Launcher)}
    assert {"SlurmLauncher", "LocalLauncher", "DebugLauncher"} <= found


@pytest.mark.parametrize(("launcher_name", "overrides"), [(NAME, OVERRIDES)])
class TestLauncher(LauncherTestSuite):
    pass


BATCHES = ["hydra/sweeper=basic", "hydra.sweeper.max_batch_size=2"]


@pytest.mark.parametrize(("launcher_name", "overrides"), [(NAME, [*BATCHES, *OVERRIDES])])
class TestBatches(BatchedSweeperTestSuite):
    pass


@pytest.mark.parametrize(("task_launcher_cfg", "extra_flags"), [({}, ["-m", f"hydra/launcher={NAME}", *OVERRIDES])])
class TestIntegration(IntegrationTestSuite):
    pass
