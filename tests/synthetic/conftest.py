"""One synthetic world for all tests of this folder: building it takes a second."""

from __future__ import annotations

from typing import Any

import pytest

from headstudio.synthetic.dataset import WorldSampler
from headstudio.synthetic.settings import load_settings


@pytest.fixture(scope="session")
def sampler() -> Any:
    return WorldSampler(load_settings("world", []))
