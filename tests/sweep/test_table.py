"""The tables made of runs' states, and what can be done to runs from outside."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from scheduler import that_says

from headstudio import claim
from headstudio.errors import UserError
from headstudio.runstate import RunPaths
from headstudio.sweep import actions, state, table
from headstudio.sweep.engine import Seen
from headstudio.sweep.record import Command, Entry, Sweep


@pytest.fixture
def three(tmp_path: Path) -> tuple[Sweep, list[state.RunState]]:
    """A finished, a failed and a waiting run that differ in `reg`."""
    sweep = Sweep(tmp_path)
    sweep.prepare()
    entries = [
        Entry(f"run-{reg}", (f"reg={reg}", "+seed=1"), "c0de", f"7_{reg}") for reg in ("none", "strict", "scaled")
    ]
    sweep.save(Command.now(that_says({"7_scaled": Seen("PENDING", True, "", "Priority")}), entries))
    paths = RunPaths(tmp_path / "run-none")
    paths.prepare()
    paths.grid.write_bytes(b"png")
    paths.finish("s", {"clip_score": 0.25, "phase_seconds": {"head": 0.5}, "x": "y"})
    (tmp_path / "run-strict" / "frozen").mkdir(parents=True)
    (tmp_path / "run-strict" / "frozen" / "job.pkl").write_bytes(b"")
    (sweep.code / "c0de").mkdir()
    with pytest.raises(ZeroDivisionError), claim.Attempt.begin(tmp_path / "run-strict", log="7_strict_0_log.out"):
        raise ZeroDivisionError("by zero [really]")
    return sweep, state.read_states(sweep)


def test_only_what_differs_is_shown(three: tuple[Sweep, list[state.RunState]]) -> None:
    assert table.differing(three[1]) == ["reg"]


def test_the_summary_files_hold_every_run(three: tuple[Sweep, list[state.RunState]]) -> None:
    sweep, states = three
    table.write_summary(sweep, states)
    with (sweep.root / "summary.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    assert [(r["reg"], r["status"], r["clip_score"]) for r in records] == [
        ("none", "finished", "0.25"),
        ("strict", "failed", ""),
        ("scaled", "queued", ""),
    ]
    assert (sweep.root / records[0]["grid"]).exists()
    same = json.loads((sweep.root / "summary.json").read_text())
    assert [r["phase_seconds.head"] for r in same] == [0.5, "", ""]
    table.write_summary(sweep, [])


def test_sentences_are_shown_without_the_quotes_of_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Sweep(tmp_path)
    sweep.prepare()
    given = {"one": "prompt='a bald man'", "two": r"prompt='it\'s an old man'"}
    sweep.save(Command.now(that_says({}), [Entry(name, (word,), "c0de", name) for name, word in given.items()]))
    states = state.read_states(sweep)
    table.write_summary(sweep, states)
    with (sweep.root / "summary.csv").open(newline="") as file:
        assert [row["prompt"] for row in csv.DictReader(file)] == ["a bald man", "it's an old man"]
    table.print_table(sweep, states)
    shown = capsys.readouterr().out
    assert "it's an old man" in shown
    assert "'a bald man'" not in shown


def test_the_table_names_scores_reasons_logs_and_pictures(
    three: tuple[Sweep, list[state.RunState]], capsys: pytest.CaptureFixture[str]
) -> None:
    table.print_table(*three)
    out = capsys.readouterr().out
    for text in ("none", "0.25", "run-none/grid.png", "failed run-strict: ZeroDivisionError: by zero [really]"):
        assert text in out
    assert "7_strict_0_log.out" in out
    assert "phase_seconds" not in out


def test_a_long_table_is_cut_to_the_terminal(tmp_path: Path) -> None:
    from rich.console import Console

    many = [
        state.RunState(f"r{n}", {"seed": str(n)}, "finished" if n < 90 else "running", tmp_path / f"r{n}")
        for n in range(100)
    ]
    many[5] = replace(many[5], state="failed", reason="because")
    console = Console(width=120, height=30, record=True)
    console.print(table.live_table(Sweep(tmp_path), many, height=30))
    text = console.export_text()
    assert len(text.splitlines()) <= 30
    assert "100 runs: 10 running, 89 finished, 1 failed" in " ".join(text.split())
    assert "because" in text
    assert "more: python -m headstudio.sweep status" in text
    failed = next(line for line in text.splitlines() if "because" in line)
    assert failed.split()[1] == "5"  # the number that `retry` takes, not its place on the screen


def test_runs_are_named_by_number_name_or_part(three: tuple[Sweep, list[state.RunState]]) -> None:
    sweep, states = three
    for word in ("1", "run-strict", "stri", f"{sweep.root}/run-strict/"):
        assert [s.name for s in actions.chosen(sweep, [word], states)] == ["run-strict"]
    assert actions.chosen(sweep, [], states) == states
    with pytest.raises(UserError, match=r"'run' names 3 runs of .* \(run-none, run-strict, run-scaled\); give one's"):
        actions.chosen(sweep, ["run"], states)
    with pytest.raises(UserError, match="'9' names no runs of"):
        actions.chosen(sweep, ["9"], states)


def test_only_what_went_wrong_is_tried_again(three: tuple[Sweep, list[state.RunState]]) -> None:
    sweep, states = three
    with pytest.raises(UserError, match="run-none is finished: there is nothing to try again"):
        actions.retry(sweep, states[:1], named=True)
    with pytest.raises(UserError, match="run-scaled is queued"):
        actions.retry(sweep, states[2:], named=True)
    assert actions.retry(sweep, states, named=False) == "1 runs submitted again."
    *_, last = sweep.commands()
    assert [(entry.name, entry.code, entry.job) for entry in last.entries] == [
        ("run-strict", "c0de", "again-run-strict")
    ]
