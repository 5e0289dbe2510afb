"""How a run stands, from every mixture of what its directory and the scheduler say."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scheduler import that_says

from headstudio import claim
from headstudio.errors import UserError
from headstudio.runstate import RunPaths
from headstudio.sweep import record, state, table
from headstudio.sweep.engine import Seen
from headstudio.sweep.record import Command, Entry, Sweep

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
    command = Command.now(that_says(answer), [Entry("run", ("seed=1",), "c0de", job)])
    dead = claim.Owner(claim.Owner.here().host, 2**22 - 1, 0.0)
    sweep.save(replace(command, time=time.time() - age_s, owner=dead))
    (sweep.jobs / "7_0_log.out").write_text("Loading\nBus error\n")
    (root / "run").mkdir(exist_ok=True)
    return sweep


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
    begun = replace(found, step=1, eta_s=3000.0)  # its first step is slow
    done = replace(found, state="finished", eta_s=None, scores={"seconds": 45.0})
    assert table.headline([begun, done]).endswith("about 00:45 left")
    assert table.headline([begun, done, replace(found, state="queued", eta_s=None)]).endswith("about 01:30 left")
    judged = replace(found, step=40, eta_s=0.0)
    assert table.headline([judged, replace(found, state="queued", eta_s=None)]) == "2 runs: 1 queued, 1 running"


def test_slurms_own_words_tell_more_than_the_last_line(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, FAILED)
    (sweep.jobs / "7_0_log.out").write_text(
        "step 3\nslurmstepd: error: Detected 1 oom_kill event\nsrun: error: task 0: Out Of Memory\nbye\n"
    )
    assert state.read_states(sweep)[0].reason.endswith(": slurmstepd: error: Detected 1 oom_kill event")


def test_a_default_that_changed_hides_the_run_it_replaced(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, GONE)
    sweep.save(
        Command.now(
            that_says(GONE), [Entry("run-anew", ("seed=1",), "c0de", "9"), Entry("b", ("seed=2",), "c0de", "9")]
        )
    )
    assert [s.name for s in state.read_states(sweep)] == ["run-anew", "b"]


def test_a_thousand_runs_are_read_in_two_seconds(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.prepare()
    jobs = [f"7_{n}" for n in range(1000)]
    answer = {job: Seen("RUNNING" if n % 2 else "PENDING", True, "node") for n, job in enumerate(jobs)}
    entries = [Entry(f"r{n}", (f"seed={n}",), "c0de", job) for n, job in enumerate(jobs)]
    sweep.save(Command.now(that_says(answer), entries))
    for n in range(0, 1000, 3):
        RunPaths(tmp_path / f"r{n}").prepare()
        RunPaths(tmp_path / f"r{n}").finish("s", {"clip_score": n})
    begin = time.monotonic()
    states = state.read_states(sweep)
    assert time.monotonic() - begin < 2
    assert [s.state for s in states[:3]] == ["finished", "queued", "queued"]


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
