"""How the heads of a sweep stand on the page: in a grid where two keys make one, else one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headstudio.report.differences import Differences

Place = tuple[str, ...]


@dataclass(frozen=True)
class Head:
    """A run's card: which run, and its caption where the grid says the rest."""

    number: int
    caption: str


@dataclass(frozen=True)
class GridRow:
    label: str
    cells: tuple[tuple[Head, ...], ...]


@dataclass(frozen=True)
class Heads:
    """Attributes:
    columns: their labels; empty where there is no grid.
    rows: of the grid, or one row with all heads in one cell.
    row_key: what the rows stand for.
    """

    columns: tuple[str, ...]
    rows: tuple[GridRow, ...]
    row_key: str = ""

    @property
    def one_each(self) -> bool:
        """Whether no cell holds more than one head."""
        return all(len(cell) < 2 for row in self.rows for cell in row.cells)


def arranged(numbers: Sequence[int], found: Differences, *, most_columns: int = 8, most_empty: float = 0.5) -> Heads:
    """Rows are sentences where they differ, columns the other settings, seeds share a cell.

    Args:
        numbers: of the runs to show, as in `found.settings`.
        found: what differs.
        most_columns: no grid if it were wider.
        most_empty: no grid if more than this share of it were empty.
    """
    settings = [found.settings[number] for number in numbers]
    names = [key.name for key in found.keys if len({s[key.name] for s in settings}) > 1]
    same = tuple(key.name for key in found.keys if key.name not in names) if len(numbers) > 1 else ()
    flow = Heads((), (GridRow("", (tuple(Head(n, found.names(n, without=same)) for n in numbers),)),))
    if len(names) < 2:
        return flow
    row, columns = _roles(names)
    rows = list(dict.fromkeys(s[row] for s in settings))
    places: list[Place] = list(dict.fromkeys(tuple(s[name] for name in columns) for s in settings))
    filled = len({(s[row], tuple(s[name] for name in columns)) for s in settings})
    if len(places) > most_columns or filled < (1 - most_empty) * len(rows) * len(places):
        return flow
    labels = tuple(", ".join(_told(name, value) for name, value in zip(columns, at, strict=True)) for at in places)

    def cell(value: str, place: Place) -> tuple[Head, ...]:
        here = [n for n, s in zip(numbers, settings, strict=True) if s[row] == value]
        here = [n for n in here if tuple(found.settings[n][name] for name in columns) == place]
        return tuple(Head(n, found.names(n, without=(row, *columns, *same))) for n in here)

    grid = tuple(GridRow(_told(row, value), tuple(cell(value, place) for place in places)) for value in rows)
    return Heads(labels, grid, row)


def _roles(names: Sequence[str]) -> tuple[str, list[str]]:
    """Which key makes the rows, and which the columns."""
    settings = [name for name in names if name not in ("prompt", "seed")]
    if "prompt" in names:
        return "prompt", settings or ["seed"]
    if len(settings) > 1:
        return settings[0], settings[1:]
    return "seed", settings


def _told(name: str, value: str) -> str:
    return value if name == "prompt" else f"{name}={value}"
