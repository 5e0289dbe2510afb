"""What the tests of speech share: the open head, and synthesisers where the system has them."""

from __future__ import annotations

import pytest

from headstudio.head.anny import load_anny
from headstudio.head.model import HeadModel
from headstudio.speech import espeak, voice


@pytest.fixture(scope="session")
def open_head() -> HeadModel:
    return load_anny(num_shape=0)


@pytest.fixture(scope="session")
def espeak_ng() -> None:
    """Skips where espeak-ng's program or library is missing."""
    if voice.program() is None or not espeak.available():
        pytest.skip(f"espeak-ng is not installed ({voice.INSTALL})")
