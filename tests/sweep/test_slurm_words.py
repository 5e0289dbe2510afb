"""What is said to SLURM and understood of its answers, with scripts in its place (test_slurm.py has the real one)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headstudio.errors import UserError
from headstudio.sweep import slurm
from headstudio.sweep.engine import Seen
from headstudio.sweep.record import Command, Entry, Sweep
from headstudio.sweep.slurm import Slurm

SETTINGS: dict[str, Any] = {
    "partition": "gpu",
    "account": None,
    "qos": None,
    "timeout_min": 90,
    "cpus_per_task": 2,
    "gpus_per_node": 1,
    "mem_gb": 1.5,
    "array_parallelism": 2,
    "max_requeues": 3,
    "signal_delay_s": 60,
    "setup": ["module load cuda"],
    "sbatch": {"constraint": "a100"},
}


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a script in the place of one of SLURM's commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("PYTHONPATH", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    for name in ("srun", "sinfo", "scancel", "scontrol", "squeue"):
        put(name, "exit 1")
    return put


def submitted(root: Path, count: int, **changes: Any) -> tuple[Sweep, dict[str, str]]:
    sweep = Sweep(root / "sweep")
    sweep.prepare()
    engine = Slurm(**{**SETTINGS, **changes})
    command = Command.now(engine, [Entry(f"run{n}", (), "c0de") for n in range(count)])
    return sweep, engine.submit(sweep, command)


SBATCH = (
    'n=$(cat "$0.count" 2>/dev/null || echo 0); echo $((n + 1)) > "$0.count"; echo "Submitted batch job $((100 + n))"'
)


def test_what_sbatch_is_asked_for(tmp_path: Path, say: Callable[[str, str], None]) -> None:
    say("sbatch", SBATCH)
    sweep, ids = submitted(tmp_path, 3)
    assert ids == {"run0": "100_0", "run1": "100_1", "run2": "100_2"}
    text = (sweep.jobs / "100_submission.sh").read_text()
    wanted = ["array=0-2%2", "partition=gpu", "time=90", "mem=1536M", "gpus-per-node=1", "signal=USR2@60", "requeue"]
    for option in [*wanted, "constraint=a100", "open-mode=append", "cpus-per-task=2"]:
        assert f"#SBATCH --{option}\n" in text
    for option in ("account", "qos"):
        assert f"--{option}" not in text
    assert text.index("module load cuda") < text.index("export PYTHONPATH=") < text.index("submitit.core._submit")
    assert text.index("export OMP_NUM_THREADS=2\nexport NUMBA_NUM_THREADS=2\n") < text.index("module load cuda")
    assert f"export PYTHONPATH={sweep.code / 'c0de'}" in text
    assert "export PYTHONSAFEPATH=1" in text  # else the current directory's code would come first
    assert all((sweep.jobs / f"100_{n}_submitted.pkl").exists() for n in range(3))


def test_more_runs_than_an_array_may_have(tmp_path: Path, say: Callable[[str, str], None]) -> None:
    say("sbatch", SBATCH)
    say("scontrol", "echo 'MaxArraySize            = 3'")
    _, ids = submitted(tmp_path, 7, gpus_per_node=0, mem_gb=None)
    assert list(ids.values()) == ["100_0", "100_1", "100_2", "101_0", "101_1", "101_2", "102"]


def test_all_or_nothing(tmp_path: Path, say: Callable[[str, str], None], capfd: pytest.CaptureFixture[str]) -> None:
    say(
        "sbatch", f'[ -e "$0.count" ] && {{ echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; }}; {SBATCH}'
    )
    say("scontrol", "echo 'MaxArraySize = 2'")
    say("scancel", f'echo "$@" > {tmp_path}/cancelled')
    with pytest.raises(
        UserError, match=r"SLURM refused the jobs \(QOSMaxSubmitJobPerUserLimit\); nothing was submitted"
    ):
        submitted(tmp_path, 4)
    assert (tmp_path / "cancelled").read_text().split() == ["100_0", "100_1"]
    assert capfd.readouterr().err == ""


def test_an_unknown_partition_lists_those_there_are(tmp_path: Path, say: Callable[[str, str], None]) -> None:
    say("sbatch", 'echo "sbatch: error: invalid partition specified: gpu" >&2; exit 1')
    say("sinfo", "printf 'low\\nhigh\\nlow\\n'")
    with pytest.raises(UserError, match=r"hydra\.launcher\.partition=gpu.* Partitions here: low, high\.$"):
        submitted(tmp_path, 2)


def test_one_question_for_all_jobs(tmp_path: Path, say: Callable[[str, str], None]) -> None:
    lines = ["7_0|RUNNING|node3|None", "7_1|PENDING||Nodes required for job are DOWN, DRAINED"]
    lines.append("7_2|OUT_OF_MEMORY|node3|OutOfMemory")
    say("squeue", f'echo "$@" >> {tmp_path}/asked\n' + "\n".join(f"echo '{line}'" for line in lines))
    assert slurm.squeue(["7_0", "7_1", "7_2", "9", ""]) == {
        "7_0": Seen("RUNNING", True, "node3", ""),
        "7_1": Seen("PENDING", True, "", "Nodes required for job are DOWN, DRAINED"),
        "7_2": Seen("OUT_OF_MEMORY", False, "node3", "OutOfMemory"),
    }
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert asked.endswith("-j 7,9")
    assert slurm.squeue([]) == {}


def test_forgotten_jobs_are_not_silence(say: Callable[[str, str], None]) -> None:
    say("squeue", 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1')
    assert slurm.squeue(["7"]) == {}
    assert slurm.job_is_alive("7") is False
    say("squeue", 'echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1')
    assert slurm.squeue(["7"]) is None
    assert slurm.job_is_alive("7") is None


@pytest.mark.parametrize(
    ("told", "restarts", "own"),
    [
        ("JobState=COMPLETING Reason=None Restarts=1 PreemptTime=None", 0, ("COMPLETING", "None", True, False)),
        (
            "JobState=RUNNING Reason=None Restarts=1 PreemptTime=2026-11-24T11:48:57",
            1,
            ("RUNNING", "None", False, True),
        ),
        ("JobState=COMPLETING Reason=TimeLimit Restarts=2", 2, ("COMPLETING", "TimeLimit", False, False)),
        ("", 0, ("UNKNOWN", "None", False, False)),
    ],
    ids=["preempted", "time to leave", "time limit", "silence"],
)
def test_why_a_job_was_told_to_stop(
    say: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch, told: str, restarts: int, own: tuple[Any, ...]
) -> None:
    say("scontrol", f"echo 'JobId=7 JobName=x {told}'" if told else "exit 1")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    assert slurm.own_job() == slurm.Own(*own)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")  # a queue inside somebody's allocation
    assert slurm.own_job() is None
    assert slurm.restarts() == 0


def test_a_time_limit_that_leaves_no_time_to_start(say: Callable[[str, str], None]) -> None:
    """SLURM may warn a minute early, and a process that cannot catch the warning yet dies of it."""
    say("sbatch", SBATCH)
    with pytest.raises(UserError, match=r"timeout_min=1 leaves no time to start.*allow at least 3 minutes\.$"):
        Slurm(**{**SETTINGS, "timeout_min": 1}).check()
    Slurm(**{**SETTINGS, "timeout_min": 3}).check()
