"""Values that change with the training step: `schedule(step) -> float`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from headstudio.errors import UserError


class Schedule(Protocol):
    def __call__(self, step: int) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Always `value`."""

    value: float

    def __call__(self, step: int) -> float:
        return float(self.value)


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A straight line from `start` at `first_step` to `end` at `last_step`, level before and after.

    Raises:
        UserError: when the line does not go forward.
    """

    start: float
    end: float
    first_step: int
    last_step: int

    def __post_init__(self) -> None:
        if self.last_step <= self.first_step:
            raise UserError(
                f"A linear schedule with first_step={self.first_step} and last_step={self.last_step} goes nowhere: "
                "last_step must be later."
            )

    def __call__(self, step: int) -> float:
        done = (step - self.first_step) / (self.last_step - self.first_step)
        done = min(max(done, 0.0), 1.0)
        return self.start * (1 - done) + self.end * done


@dataclass(frozen=True, kw_only=True)
class Exponential:
    """From `start` at `first_step` to `end` at `last_step` by one factor per step, level before and after.

    Source: the rate of 3DGS's means (`get_expon_lr_func` without its delay), which is linear in the logarithm.

    Raises:
        UserError: when an end is not above 0 or the steps do not go forward.
    """

    start: float
    end: float
    first_step: int
    last_step: int

    def __post_init__(self) -> None:
        if not (self.start > 0 and self.end > 0):
            raise UserError(
                f"An exponential schedule with start={self.start:g} and end={self.end:g} is not possible: "
                "both must be more than 0."
            )
        if self.last_step <= self.first_step:
            raise UserError(
                f"An exponential schedule with first_step={self.first_step} and last_step={self.last_step} goes "
                "nowhere: last_step must be later."
            )

    def __call__(self, step: int) -> float:
        done = (step - self.first_step) / (self.last_step - self.first_step)
        done = min(max(done, 0.0), 1.0)
        return float(self.start ** (1 - done) * self.end**done)


@dataclass(frozen=True, kw_only=True)
class Piecewise:
    """`values[0]` before `steps[0]`, `values[1]` from `steps[0]` on, and so forth: one value more than steps.

    Raises:
        UserError: when the numbers of values and steps do not fit or the steps do not increase.
    """

    values: Sequence[float]
    steps: Sequence[int]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.steps) + 1:
            raise UserError(
                f"A piecewise schedule has {len(self.values)} values and {len(self.steps)} steps: "
                "it needs one value more than steps."
            )
        if any(late <= early for early, late in zip(self.steps, self.steps[1:], strict=False)):
            raise UserError(f"A piecewise schedule's steps={list(self.steps)} must increase.")

    def __call__(self, step: int) -> float:
        return float(self.values[bisect_right(self.steps, step)])


def as_schedule(value: float | Schedule) -> Schedule:
    """A number becomes `Constant`, a schedule stays itself, so that settings may be either.

    Raises:
        UserError: when it is neither.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Constant(value=float(value))
    if callable(value):
        return value
    raise UserError(f"A schedule is a number or one of headstudio.schedule's classes, not {value!r}.")


def in_force(part: object, step: int) -> dict[str, float]:
    """The values at `step` of all schedules among the attributes of a part, by the attribute's name."""
    kinds = (Constant, Linear, Exponential, Piecewise)
    return {name: value(step) for name, value in getattr(part, "__dict__", {}).items() if isinstance(value, kinds)}
