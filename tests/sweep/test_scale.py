"""Many runs cost little beside their own work: what `make bench` measures for a thousand, here for fewer."""

from __future__ import annotations

import pytest

from headstudio.sweep.bench import measurements


@pytest.mark.slow
def test_many_runs_cost_little() -> None:
    seconds = {name: taken / runs for name, taken, runs in measurements(300)}
    bookkeeping, hydra, again, status = seconds.values()
    assert bookkeeping < 0.1  # 46 ms where nothing else runs: a busy machine may take twice as long
    assert hydra > 0
    assert again < 10
    assert status < 2
