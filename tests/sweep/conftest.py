"""A user's shell, and no Hydra left over for the next test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture(autouse=True)
def no_hydra_left() -> Iterator[None]:
    yield
    GlobalHydra.instance().clear()
