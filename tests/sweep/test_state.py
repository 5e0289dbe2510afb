"""How a run stands, from every mixture of what its directory and the scheduler say; and the tables made of it."""

from __future__ import annotations

import csv
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from headstudio import claim
from headstudio.errors import UserError
from headstudio.runstate import RunPaths
from headstudio.sweep import actions, record, state, table
from headstudio.sweep.engine import Seen
from headstudio.sweep.record import Command, Entry, Sweep


@dataclass(frozen=True)
class Scheduler:
    """An engine whose every answer is given beforehand."""

    answer: Any

    def ask(self, sweep: Sweep, command: Command) -> Any:
        return self.answer

    def log(self, sweep: Sweep, job: str) -> Path:
        return sweep.jobs / f"{job}_0_log.out"

    def check(self) -> None: ...

    def submit(self, sweep: Sweep, command: Command) -> dict[str, str]:
        return {name: f"again-{name}" for name in command.submitted}

    def cancel(self, sweep: Sweep, command: Command, names: frozenset[str]) -> None: ...


GONE: dict[str, Seen] = {}
PENDING = {"7": Seen("PENDING", True, "", "Priority")}
RUNNING = {"7": Seen("RUNNING", True, "node3")}
FAILED = {"7": Seen("FAILED", False, "node3", "NonZeroExitCode")}
CANCELLED = {"7": Seen("CANCELLED", False)}
SILENCE = None


def sweep_of(root: Path, answer: Any, *, job: str = "7", age_s: float = 100.0) -> Sweep:
    """A sweep of the one run `run`, submitted some time ago by a command that is over, as job 7."""
    sweep = Sweep(root)
    sweep.prepare()
    command = Command.now(_plain(answer), [Entry("run", ("seed=1",), "c0de", job)])
    dead = claim.Owner(claim.Owner.here().host, 2**22 - 1, 0.0)
    sweep.save(replace(command, time=time.time() - age_s, owner=dead))
    (sweep.jobs / "7_0_log.out").write_text("Loading\nBus error\n")
    (root / "run").mkdir(exist_ok=True)
    return sweep


def _plain(answer: Any) -> Scheduler:
    plain = None if answer is None else {job: vars(seen) for job, seen in answer.items()}
    return Scheduler(plain)


@pytest.fixture(autouse=True)
def readable_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers went through a file of JSON; give them their class back."""

    def ask(self: Scheduler, sweep: Sweep, command: Command) -> Any:
        return None if self.answer is None else {job: Seen(**seen) for job, seen in self.answer.items()}

    monkeypatch.setattr(Scheduler, "ask", ask)


def attempt(root: Path, outcome: str, *, alive: bool = False, job: str = "7", ended_ago_s: float = 50.0) -> None:
    """An attempt that ended so, or (with no outcome) goes on in a living or a dead process."""
    here = claim.Owner.here()
    owner = replace(here, job=job) if alive else replace(here, pid=2**22 - 1, job=job)
    ended = time.time() - ended_ago_s if outcome else 0.0
    log = str(root / ".sweep" / "jobs" / f"{job}_0_log.out")
    (root / "run" / "attempts").mkdir(exist_ok=True)
    one = claim.Record(1, owner, ended - 5, log, 40, "c0de", ended, outcome, f"because {outcome}" if outcome else "")
    (root / "run" / "attempts" / "0001.json").write_text(claim._text(one))


@pytest.mark.parametrize(
    ("outcome", "alive", "answer", "expected", "reason"),
    [
        # nothing has begun
        (None, False, PENDING, "queued", "Priority"),
        (None, False, RUNNING, "queued", "RUNNING"),  # Python is starting
        (None, False, SILENCE, "queued", "the scheduler does not answer"),
        (None, False, FAILED, "killed", "NonZeroExitCode, before it began: Bus error"),
        (None, False, CANCELLED, "stopped", "taken out of the queue before its turn"),
        (None, False, GONE, "stopped", "taken out of the queue before its turn"),
        # it lives, whatever a scheduler says or does not say
        ("", True, RUNNING, "running", ""),
        ("", True, GONE, "running", ""),
        ("", True, FAILED, "running", ""),
        ("", True, SILENCE, "running", ""),
        # its process is dead
        ("", False, RUNNING, "running", ""),  # the job is about to end
        ("", False, PENDING, "queued", "to be started again (Priority)"),
        ("", False, FAILED, "killed", "NonZeroExitCode: Bus error"),
        ("", False, GONE, "killed", "Its process is gone without a word: Bus error"),
        ("", False, SILENCE, "killed", "Its process is gone without a word: Bus error"),
        # it said how it ended
        ("failed", False, GONE, "failed", "because failed"),
        ("failed", False, FAILED, "failed", "because failed"),
        ("failed", False, SILENCE, "failed", "because failed"),
        ("stopped", False, CANCELLED, "stopped", "because stopped"),
        ("killed", False, GONE, "killed", "because killed"),
        ("failed", False, RUNNING, "failed", "because failed"),  # its job is about to end
        ("stopped", False, RUNNING, "stopped", "because stopped"),
        ("failed", False, PENDING, "queued", "Priority"),  # somebody had SLURM start it again
        ("requeued", False, RUNNING, "queued", "RUNNING"),
        ("requeued", False, PENDING, "queued", "Priority"),
        ("requeued", False, SILENCE, "queued", "SLURM does not answer"),
        ("requeued", False, GONE, "stopped", "not started again: because requeued"),
        ("finished", False, GONE, "finished", ""),
    ],
)
def test_how_a_run_stands(
    tmp_path: Path, outcome: str | None, alive: bool, answer: Any, expected: str, reason: str
) -> None:
    sweep = sweep_of(tmp_path, answer)
    if outcome is not None:
        attempt(tmp_path, outcome, alive=alive)
    (found,) = state.read_states(sweep)
    assert (found.state, found.reason) == (expected, reason if outcome != "finished" else "because finished")
    assert found.log == sweep.jobs / "7_0_log.out"


def test_done_is_done_whatever_else_is_said(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, PENDING)
    RunPaths(tmp_path / "run").finish("s", {"clip_score": 0.5, "phase": {"head": 0.25}, "prompt": "x"})
    (found,) = state.read_states(sweep)
    assert (found.state, found.scores) == ("finished", {"clip_score": 0.5, "phase.head": 0.25})


def test_what_happened_before_the_last_submission_does_not_count(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, PENDING, age_s=10)
    attempt(tmp_path, "failed", job="3")
    assert state.read_states(sweep)[0].state == "queued"
    sweep = sweep_of(tmp_path / "other", FAILED, age_s=10)
    attempt(tmp_path / "other", "failed", job="3")
    assert state.read_states(sweep)[0].reason == "NonZeroExitCode, before it began: Bus error"


def test_another_commands_work_on_the_run_counts(tmp_path: Path) -> None:
    """Our job found the run taken and went away; the other one ended after our submission."""
    sweep = sweep_of(tmp_path, GONE, age_s=60)
    attempt(tmp_path, "failed", job="3", ended_ago_s=20)
    assert state.read_states(sweep)[0].state == "failed"


def test_a_command_that_is_about_to_submit(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, GONE, job="")
    assert state.read_states(sweep)[0].state == "stopped"
    (command,) = sweep.commands()
    sweep.save(replace(command, owner=claim.Owner.here()))
    assert state.read_states(sweep)[0].reason == "being submitted"


def test_progress_and_time_left(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, RUNNING)
    attempt(tmp_path, "", alive=True)
    steps = tmp_path / "run" / "metrics.jsonl"
    steps.write_text('{"step": 4, "seconds": 5.0}\n{"step": 9, "seconds": 10.0}\n{"step": 1')
    (found,) = state.read_states(sweep)
    assert (found.step, found.steps, found.eta_s) == (10, 40, 30.0)
    assert table.headline([found]) == "1 run: 1 running, about 00:30 left"
    assert table.headline([found, replace(found, state="queued", eta_s=None)]).endswith("about 01:10 left")


def test_slurms_own_words_tell_more_than_the_last_line(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, FAILED)
    (sweep.jobs / "7_0_log.out").write_text(
        "step 3\nslurmstepd: error: Detected 1 oom_kill event\nsrun: error: task 0: Out Of Memory\nbye\n"
    )
    assert state.read_states(sweep)[0].reason.endswith(": slurmstepd: error: Detected 1 oom_kill event")


def test_a_default_that_changed_hides_the_run_it_replaced(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, GONE)
    sweep.save(
        Command.now(_plain(GONE), [Entry("run-anew", ("seed=1",), "c0de", "9"), Entry("b", ("seed=2",), "c0de", "9")])
    )
    assert [s.name for s in state.read_states(sweep)] == ["run-anew", "b"]


def test_a_thousand_runs_are_read_in_two_seconds(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.prepare()
    jobs = [f"7_{n}" for n in range(1000)]
    answer = {job: Seen("RUNNING" if n % 2 else "PENDING", True, "node") for n, job in enumerate(jobs)}
    entries = [Entry(f"r{n}", (f"seed={n}",), "c0de", job) for n, job in enumerate(jobs)]
    sweep.save(Command.now(_plain(answer), entries))
    for n in range(0, 1000, 3):
        RunPaths(tmp_path / f"r{n}").prepare()
        RunPaths(tmp_path / f"r{n}").finish("s", {"clip_score": n})
    begin = time.monotonic()
    states = state.read_states(sweep)
    assert time.monotonic() - begin < 2
    assert [s.state for s in states[:3]] == ["finished", "queued", "queued"]


# Tables and actions


@pytest.fixture
def three(tmp_path: Path) -> tuple[Sweep, list[state.RunState]]:
    """A finished, a failed and a waiting run that differ in `reg`."""
    sweep = Sweep(tmp_path)
    sweep.prepare()
    entries = [
        Entry(f"run-{reg}", (f"reg={reg}", "+seed=1"), "c0de", f"7_{reg}") for reg in ("none", "strict", "scaled")
    ]
    sweep.save(Command.now(_plain({"7_scaled": PENDING["7"]}), entries))
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


# Directories that are none, or of another time


def test_what_is_no_sweep_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no directory"):
        Sweep.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"is not a sweep: it has no \.sweep folder"):
        Sweep.open(tmp_path)
    (tmp_path / "multirun.yaml").touch()
    with pytest.raises(UserError, match=r"older version of headstudio, .*start its command again to take it over"):
        Sweep.open(tmp_path)


def test_records_of_another_format_are_told_and_kept(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, GONE)
    (path,) = (sweep.folder / "commands").iterdir()
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": record.FORMAT + 1}))
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"format {record.FORMAT + 1}, this version reads {record.FORMAT}"):
        state.read_states(sweep)
    assert path.read_bytes() == before


def test_half_a_record_is_no_record(tmp_path: Path) -> None:
    """Records appear whole; what a dying process leaves has a name that nobody reads."""
    sweep = sweep_of(tmp_path, GONE)
    (sweep.folder / "commands" / ".half.json.1234").write_text('{"form')
    assert len(sweep.commands()) == 1
    assert os.listdir(sweep.folder / "commands")
