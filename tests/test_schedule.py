from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstudio.errors import UserError
from headstudio.schedule import Constant, Exponential, Linear, Piecewise, as_schedule, in_force


@given(st.integers(-10, 10**6), st.floats(-1e3, 1e3))
def test_constant(step: int, value: float) -> None:
    assert Constant(value=value)(step) == value


def test_linear() -> None:
    line = Linear(start=900, end=400, first_step=100, last_step=200)
    assert [line(step) for step in (0, 100, 125, 150, 200, 999)] == [900, 900, 775, 650, 400, 400]


@given(st.floats(-5, 5), st.floats(-5, 5), st.integers(0, 50), st.integers(1, 50), st.integers(-10, 200))
def test_linear_stays_between_its_ends(start: float, end: float, first: int, length: int, step: int) -> None:
    value = Linear(start=start, end=end, first_step=first, last_step=first + length)(step)
    assert min(start, end) - 1e-9 <= value <= max(start, end) + 1e-9


def test_exponential_is_one_factor_per_step() -> None:
    """The official rate of the means: 2e-4 to 1e-4 over 30,000 steps, so 1.59e-4 at step 10,000."""
    fall = Exponential(start=2e-4, end=1e-4, first_step=0, last_step=30_000)
    assert fall(10_000) == pytest.approx(2e-4 * 0.5 ** (1 / 3))
    assert fall(10_000) == pytest.approx(1.59e-4, rel=2e-3)
    assert [fall(step) for step in (-5, 0, 30_000, 99_999)] == pytest.approx([2e-4, 2e-4, 1e-4, 1e-4])
    assert fall(101) / fall(100) == pytest.approx(fall(20_001) / fall(20_000), rel=1e-9)
    assert fall(101) < fall(100)


def test_piecewise() -> None:
    stairs = Piecewise(values=[0.8, 0.55, 0.3], steps=[3000, 5000])
    assert [stairs(step) for step in (0, 2999, 3000, 4999, 5000, 9999)] == [0.8, 0.8, 0.55, 0.55, 0.3, 0.3]


def test_numbers_become_schedules() -> None:
    stairs = Piecewise(values=[1], steps=[])
    assert as_schedule(3)(7) == 3.0
    assert as_schedule(stairs) is stairs
    with pytest.raises(UserError, match="not '3'"):
        as_schedule("3")  # type: ignore[arg-type]


def test_impossible_schedules_are_named() -> None:
    with pytest.raises(UserError, match="goes nowhere"):
        Linear(start=0, end=1, first_step=5, last_step=5)
    with pytest.raises(UserError, match=r"exponential .* goes nowhere"):
        Exponential(start=1, end=1, first_step=5, last_step=5)
    with pytest.raises(UserError, match=r"start=1 and end=0 .* more than 0"):
        Exponential(start=1, end=0, first_step=0, last_step=5)
    with pytest.raises(UserError, match="2 values and 2 steps"):
        Piecewise(values=[1, 2], steps=[3, 4])
    with pytest.raises(UserError, match="must increase"):
        Piecewise(values=[1, 2, 3], steps=[4, 4])


def test_what_is_in_force_is_found_by_its_name() -> None:
    class Part:
        def __init__(self) -> None:
            self.scale, self.steps, self.rule = Linear(start=0, end=10, first_step=0, last_step=10), 5, print
            self.level = Constant(value=3)

    assert in_force(Part(), 4) == {"scale": 4.0, "level": 3.0}
    assert in_force(print, 4) == {}
