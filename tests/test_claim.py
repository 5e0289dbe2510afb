"""Attempts: one process at a time may write in a run's directory, whoever dies, sleeps or comes at the same moment."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from headstudio import claim
from headstudio.errors import UserError

CHILD = """
import sys, time
from pathlib import Path
from headstudio.claim import Attempt
with Attempt.begin(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(60)
"""


def child(root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    return process


def foreign(root: Path, *, silent_s: float, job: str = "") -> None:
    """An attempt that a process on another host began and last touched so long ago."""
    with claim.Attempt.begin(root) as attempt:
        path = attempt.path
        content = json.loads(path.read_text())
    content["owner"] |= {"host": "elsewhere", "job": job}
    path.write_text(json.dumps(content))
    then = time.time() - silent_s
    os.utime(path, (then, then))


def test_it_is_ours_until_it_ends(tmp_path: Path) -> None:
    with claim.Attempt.begin(tmp_path) as attempt:
        attempt.check()
        with pytest.raises(claim.Busy, match=rf"is being worked on by process {os.getpid()} on "):
            claim.Attempt.begin(tmp_path)
    last = claim.latest(tmp_path)
    assert last is not None
    assert (last.number, last.outcome, last.reason) == (1, "finished", "")
    with claim.Attempt.begin(tmp_path) as attempt:
        assert attempt.record.number == 2


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (ZeroDivisionError("by zero"), "failed", "ZeroDivisionError: by zero"),
        (MemoryError(), "failed", "MemoryError"),
        (UserError("scale.steps=-1 is too small."), "failed", "scale.steps=-1 is too small."),
        (KeyboardInterrupt("Stopped after step 3."), "stopped", "Stopped after step 3."),
    ],
)
def test_how_it_ended_is_written_down(tmp_path: Path, error: BaseException, outcome: str, reason: str) -> None:
    with pytest.raises(type(error)), claim.Attempt.begin(tmp_path):
        raise error
    last = claim.latest(tmp_path)
    assert last is not None
    assert (last.outcome, last.reason) == (outcome, reason)
    assert (tmp_path / "FAILED").exists() == (outcome == "failed")


def test_the_first_word_counts(tmp_path: Path) -> None:
    with claim.Attempt.begin(tmp_path) as attempt:
        attempt.end("requeued", "preempted")
    last = claim.latest(tmp_path)
    assert last is not None
    assert last.outcome == "requeued"


def _race(root: str, start: float, results: multiprocessing.Queue[int], over: Event) -> None:
    time.sleep(max(0.0, start - time.time()))
    try:
        attempt = claim.Attempt.begin(Path(root))
    except claim.Busy:
        results.put(0)
        return
    results.put(attempt.record.number)
    over.wait(30)
    results.close()
    results.join_thread()
    os._exit(0)  # dies without a word


def test_of_many_at_once_one_gets_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for round_ in range(1, 4):  # each after the death of the winner before
        results: multiprocessing.Queue[int] = context.Queue()
        over = context.Event()
        start = time.time() + 0.3
        racers = [context.Process(target=_race, args=(str(tmp_path), start, results, over)) for _ in range(12)]
        for racer in racers:
            racer.start()
        found = sorted(results.get(timeout=30) for _ in racers)
        over.set()
        for racer in racers:
            racer.join()
        assert found == [0] * 11 + [round_]


def test_a_dead_owner_is_known_at_once_and_a_sleeping_one_is_not_dead(tmp_path: Path) -> None:
    process = child(tmp_path)
    process.send_signal(signal.SIGSTOP)
    os.utime(tmp_path / "attempts" / "0001.json", (0, 0))  # no sign of life for years, but on this very host
    with pytest.raises(claim.Busy):
        claim.Attempt.begin(tmp_path)
    process.kill()
    process.wait()
    with claim.Attempt.begin(tmp_path) as attempt:
        assert attempt.record.number == 2


def test_another_process_with_the_same_number_is_not_the_owner(tmp_path: Path) -> None:
    foreign(tmp_path, silent_s=0)
    path = tmp_path / "attempts" / "0001.json"
    content = json.loads(path.read_text())
    content |= {"outcome": "", "ended": 0}
    content["owner"] |= {"host": claim.Owner.here().host, "pid": os.getpid(), "born": time.time() - 1e6}
    path.write_text(json.dumps(content))
    claim.Attempt.begin(tmp_path).end("finished")


@pytest.mark.parametrize(
    ("silent_s", "word", "alive"),
    [
        (0, None, True),  # nobody to ask: its own heartbeat counts
        (100, None, True),
        (200, None, False),
        (200, True, True),  # the scheduler has it: alive, however silent
        (10, False, True),  # the scheduler has lost it, but it breathes
        (60, False, False),
    ],
)
def test_an_owner_elsewhere(tmp_path: Path, silent_s: float, word: bool | None, alive: bool) -> None:
    foreign(tmp_path, silent_s=silent_s, job="7_1")
    path = tmp_path / "attempts" / "0001.json"
    seen = path.stat().st_mtime
    path.write_text(json.dumps({**json.loads(path.read_text()), "outcome": "", "ended": 0}))
    os.utime(path, (seen, seen))
    owner = claim.working(tmp_path, lambda job: word if job == "7_1" else None)
    assert (owner is not None) == alive


def test_a_job_that_slurm_starts_again_is_its_own_successor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(tmp_path, silent_s=1, job="7_1")
    path = tmp_path / "attempts" / "0001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "outcome": "", "ended": 0}))
    for name, value in {"SUBMITIT_EXECUTOR": "slurm", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}.items():
        monkeypatch.setenv(name, value)
    with claim.Attempt.begin(tmp_path, job_is_alive=lambda job: True) as attempt:
        assert attempt.record.owner.job == "7_1"


def test_who_was_taken_for_dead_stops_before_it_writes(tmp_path: Path) -> None:
    with claim.Attempt.begin(tmp_path) as old:
        path = tmp_path / "attempts" / "0001.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "outcome": "killed"}))
        with claim.Attempt.begin(tmp_path) as new:
            new.check()
        with pytest.raises(claim.ClaimLost, match="taken over by another process"):
            old.check()
    last = claim.latest(tmp_path)
    assert last is not None
    assert (last.number, last.outcome) == (2, "finished")


def test_the_heart_beats(tmp_path: Path) -> None:
    record = claim.Record(1, claim.Owner.here(), time.time())
    (tmp_path / "attempts").mkdir()
    path = tmp_path / "attempts" / "0001.json"
    path.write_text(claim._text(record))
    os.utime(path, (0, 0))
    with claim.Attempt(tmp_path, record, heartbeat_s=0.05):
        deadline = time.monotonic() + 5
        while path.stat().st_mtime < 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert path.stat().st_mtime > 1


def test_a_half_written_attempt_is_a_living_one(tmp_path: Path) -> None:
    (tmp_path / "attempts").mkdir()
    (tmp_path / "attempts" / "0001.json").write_text('{"number": 1, "own')
    with pytest.raises(claim.Busy):
        claim.Attempt.begin(tmp_path)


def test_without_hard_links_the_claim_is_still_exclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    with claim.Attempt.begin(tmp_path), pytest.raises(claim.Busy):
        claim.Attempt.begin(tmp_path)
    assert not claim._create(tmp_path / "attempts" / "0001.json", "{}")


def test_nothing_is_left_lying_about(tmp_path: Path) -> None:
    with claim.Attempt.begin(tmp_path):
        pass
    assert [path.name for path in (tmp_path / "attempts").iterdir()] == ["0001.json"]
