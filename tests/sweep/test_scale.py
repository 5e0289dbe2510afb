"""Many runs cost little beside their own work: what `make bench` measures for a thousand, here for fewer."""

from __future__ import annotations

import pytest

from headstudio.sweep.bench import measurements


@pytest.mark.slow
def test_many_runs_cost_little() -> None:
    seconds = {name: taken / runs for name, taken, runs in measurements(300)}
    bookkeeping, hydra, again, status = seconds.values()
    # Hydra's own work on a run is the clock: a slow or busy machine slows both (25 ms, and ours 42, on two cores)
    assert 0 < bookkeeping < 5 * hydra
    assert again < 400 * hydra
    assert status < 80 * hydra
