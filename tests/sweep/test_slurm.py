"""hydra/launcher=slurm on a real SLURM of one node that these tests bring up and tear down: `make test-slurm`."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from app import expected
from cluster import Cluster
from shell import Shell, ended, until

from headstudio.quantities import repeatable
from headstudio.sweep import slurm
from headstudio.wandb_files import recorded_steps, segments

UNAVAILABLE = Cluster.unavailable()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE)),
    pytest.mark.timeout(400),
]

SMALL = ("hydra/launcher=slurm", "hydra.launcher.gpus_per_node=0", "hydra.launcher.cpus_per_task=1")
SMALL += ("hydra.launcher.mem_gb=1", "hydra.launcher.timeout_min=10")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("slurm")) as one:
        before = os.environ.get("SLURM_CONF")
        os.environ |= one.env
        yield one
        if before is None:
            del os.environ["SLURM_CONF"]


@pytest.fixture
def shell(cluster: Cluster, tmp_path: Path) -> Iterator[Shell]:
    yield Shell(tmp_path, SMALL)
    subprocess.run(["scancel", "--full", "-u", "root"], check=False)
    until(lambda: not cluster.run("squeue", "-h"), 60)


def job_of(shell: Shell, n: int, steps: int) -> str:
    attempts = sorted((shell.root(n, steps) / "attempts").glob("*.json"))
    return str(json.loads(attempts[-1].read_text())["owner"]["job"])


def outcomes(shell: Shell, n: int, steps: int) -> list[str]:
    files = sorted((shell.root(n, steps) / "attempts").glob("*.json"))
    return [json.loads(file.read_text())["outcome"] for file in files]


def is_started(shell: Shell, n: int, steps: int, times: int = 1) -> Callable[[], bool]:
    """Whether the run has been started so often and has done a step since."""

    def condition() -> bool:
        starts = shell.starts(n, steps)
        lines = shell.root(n, steps) / "metrics.jsonl"
        if len(starts) < times or not lines.exists():
            return False
        return len(lines.read_text().splitlines()) > int(starts[-1][2])

    return condition


def steps_once(shell: Shell, n: int, steps: int) -> None:
    """Each step stands in the run's log exactly once, in order, and the result is that of an undisturbed run."""
    lines = (shell.root(n, steps) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(steps))
    assert shell.result(n, steps) == expected(n, steps)


def test_an_array_in_which_one_fails_one_is_killed_and_one_eats_all_memory(shell: Shell, cluster: Cluster) -> None:
    out = shell.run("n=range(6)", "fail=[1]", "die=[2]", "eat=[3]", "eat_mb=3000", code=1)
    ends = ["finished", "failed", "killed", "killed", "finished", "finished"]
    assert shell.states() == {f"n{n}": end for n, end in enumerate(ends)}
    assert "failed n1-steps3: ZeroDivisionError: run 1 was told to fail" in out
    assert "exceeded memory limit" in out.partition("killed n3-steps3: ")[2].partition("\n")[0]
    assert [shell.result(n) for n in (0, 4, 5)] == [expected(n, 3) for n in (0, 4, 5)]
    assert Path((shell.root(0) / "imported.txt").read_text()).is_relative_to(shell.folder / "sweep" / ".sweep" / "code")
    (script,) = (shell.folder / "sweep" / ".sweep" / "jobs").glob("*_submission.sh")
    assert "--array=0-5" in script.read_text()  # one array
    array = script.name.partition("_")[0]
    told = cluster.run("squeue", "-h", "-r", "-t", "all", "-j", array, "-o", "%i %T").splitlines()
    states = dict(line.split() for line in told)
    assert [states[f"{array}_{n}"] for n in range(6)] == [
        "COMPLETED",
        "FAILED",
        "FAILED",
        "FAILED",
        "COMPLETED",
        "COMPLETED",
    ]

    assert "6 runs: 3 to do, 3 already finished" in shell.run("n=range(6)")
    assert [len(shell.starts(n)) for n in range(6)] == [1, 2, 2, 2, 1, 1]
    assert [shell.starts(n)[1][2] for n in (1, 2, 3)] == ["1", "1", "1"]


def test_the_limit_of_parallel_runs(shell: Shell) -> None:
    shell.run("n=range(4)", "steps=4", "step_s=0.5", "hydra.launcher.array_parallelism=1")
    starts = sorted(float(shell.starts(n, 4)[0][1]) for n in range(4))
    assert all(two - one > 1.9 for one, two in itertools.pairwise(starts))


def test_a_preempted_run_goes_on_after_the_others(shell: Shell, cluster: Cluster) -> None:
    process = shell.start("n=7", "steps=60", "step_s=0.1", "checkpoint_every=1000", "hydra.launcher.partition=low")
    until(is_started(shell, 7, 60), 60)
    cluster.run("sbatch", "-p", "high", "-c4", "--mem=0", "-o", "/dev/null", "--wrap", "sleep 3")
    out = ended(process, 0, 120)
    assert outcomes(shell, 7, 60) == ["requeued", "finished"]
    assert int(shell.starts(7, 60)[1][2]) > 0
    steps_once(shell, 7, 60)
    assert "1 run in" in out


def test_a_run_that_is_given_time_to_leave_asks_to_come_back(shell: Shell, cluster: Cluster) -> None:
    process = shell.start("n=7", "steps=60", "step_s=0.1", "checkpoint_every=1000", "hydra.launcher.partition=grace")
    until(is_started(shell, 7, 60), 60)
    cluster.run("sbatch", "-p", "high", "-c4", "--mem=0", "-o", "/dev/null", "--wrap", "sleep 3")
    ended(process, 0, 120)
    assert outcomes(shell, 7, 60) == ["requeued", "finished"]
    steps_once(shell, 7, 60)


def test_the_warning_before_the_time_limit(shell: Shell) -> None:
    """SIGUSR2 as SLURM sends it; its own clock, which looks every half minute, is the next test's."""
    process = shell.start("n=7", "steps=60", "step_s=0.1", "checkpoint_every=1000")
    until(is_started(shell, 7, 60), 60)
    subprocess.run(["scancel", "--signal=USR2", job_of(shell, 7, 60)], check=True)
    until(is_started(shell, 7, 60, times=2), 60)
    subprocess.run(["scancel", "--signal=USR2", job_of(shell, 7, 60)], check=True)
    ended(process, 0, 120)
    assert outcomes(shell, 7, 60) == ["requeued", "requeued", "finished"]
    steps_once(shell, 7, 60)


def test_a_time_limit_is_outlived_but_not_for_ever(shell: Shell, cluster: Cluster) -> None:
    """The first warning comes from SLURM's own clock, up to a minute early; the second from us, to save time."""
    limits = ["hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=10", "hydra.launcher.max_requeues=1"]
    process = shell.start("n=7", "steps=2000", "step_s=0.1", "checkpoint_every=1000", *limits)
    until(is_started(shell, 7, 2000), 60)
    cluster.run("scontrol", "update", f"JobId={job_of(shell, 7, 2000)}", "TimeLimit=1")  # shorter than we submit
    until(is_started(shell, 7, 2000, times=2), 120)
    subprocess.run(["scancel", "--signal=USR2", job_of(shell, 7, 2000)], check=True)
    out = ended(process, 1, 120)
    assert outcomes(shell, 7, 2000) == ["requeued", "failed"], out
    reason = "SLURM stopped this run 2 times, hydra.launcher.max_requeues=1 allows no further start"
    assert f"failed n7-steps2000: {reason}" in out
    assert (shell.root(7, 2000) / "FAILED").read_text().startswith(reason)
    done = json.loads((shell.root(7, 2000) / "checkpoint").read_text())["step"]
    assert done > int(shell.starts(7, 2000)[1][2]) > 0  # both starts saved
    assert slurm.squeue([job_of(shell, 7, 2000)])[job_of(shell, 7, 2000)].state == "FAILED"  # type: ignore[index]


def test_a_cancelled_run_stays_cancelled_until_it_is_tried_again(shell: Shell) -> None:
    shell.run(
        "n=0,1,2",
        "steps=400",
        "step_s=0.1",
        "checkpoint_every=1000",
        "hydra.launcher.detach=true",
        "hydra.launcher.array_parallelism=2",
    )
    until(is_started(shell, 0, 400), 60)
    until(is_started(shell, 1, 400), 60)
    subprocess.run(["scancel", job_of(shell, 0, 400)], check=True)  # behind our back
    shell.sweep("cancel", "sweep", "n2")  # while it waits
    until(lambda: shell.states() == {"n0": "stopped", "n1": "running", "n2": "stopped"}, 30)
    assert outcomes(shell, 0, 400) == ["stopped"]
    shell.sweep("cancel", "sweep")
    until(lambda: shell.states()["n1"] == "stopped", 30)
    saved = json.loads((shell.root(1, 400) / "checkpoint").read_text())["step"]
    assert saved > 0
    shell.sweep("retry", "sweep", "n1")
    until(is_started(shell, 1, 400, times=2), 60)
    assert int(shell.starts(1, 400)[1][2]) == saved
    assert shell.states() == {"n0": "stopped", "n1": "running", "n2": "stopped"}


def test_kill_9_of_the_process_and_a_retry(shell: Shell) -> None:
    process = shell.start("n=3", "steps=30", "step_s=0.1", "checkpoint_every=7")
    until(lambda: (shell.root(3, 30) / "checkpoint").exists(), 60)
    attempts = sorted((shell.root(3, 30) / "attempts").glob("*.json"))
    os.kill(json.loads(attempts[-1].read_text())["owner"]["pid"], signal.SIGKILL)
    assert "killed n3-steps30" in ended(process, 1, 60)
    assert shell.states() == {"n3": "killed"}
    shell.sweep("retry", "sweep")
    until(lambda: shell.states() == {"n3": "finished"}, 60)
    assert int(shell.starts(3, 30)[1][2]) % 7 == 0
    assert shell.result(3, 30) == expected(3, 30)


def test_a_node_that_dies_and_comes_back(shell: Shell, cluster: Cluster) -> None:
    process = shell.start("n=3", "steps=80", "step_s=0.1", "checkpoint_every=5")
    until(lambda: (shell.root(3, 80) / "checkpoint").exists(), 60)
    cluster.kill_node()
    cluster.start_node()
    ended(process, 0, 120)
    assert len(shell.starts(3, 80)) == 2
    assert int(shell.starts(3, 80)[1][2]) > 0
    assert shell.result(3, 80) == expected(3, 80)


def test_slurm_itself_goes_away_and_comes_back(shell: Shell, cluster: Cluster) -> None:
    process = shell.start("n=0,1,2", "steps=100", "step_s=0.1", "hydra.launcher.array_parallelism=2")
    until(is_started(shell, 0, 100), 60)
    until(is_started(shell, 1, 100), 60)
    cluster.stop_controller(kill=True)
    states = shell.states()  # nobody to ask: what runs is running, what waits is not lost
    assert states["n2"] == "queued"
    assert set(states.values()) <= {"running", "queued", "finished"}
    cluster.start_controller()
    ended(process, 0, 120)
    assert [shell.result(n, 100) for n in range(3)] == [expected(n, 100) for n in range(3)]
    assert [len(shell.starts(n, 100)) for n in range(3)] == [1, 1, 1]


def test_the_submitting_shell_is_killed(shell: Shell) -> None:
    process = shell.start("n=0,1", "steps=40", "step_s=0.1")
    until(is_started(shell, 0, 40), 60)
    process.kill()
    process.communicate()
    assert "2 runs in" in shell.sweep("watch", "sweep")
    assert shell.states() == {"n0": "finished", "n1": "finished"}


def test_two_commands_at_once_do_each_run_once(shell: Shell) -> None:
    words = ["n=0,1,2", "steps=20", "step_s=0.1"]
    both = [shell.start(*words), shell.start(*words)]
    for process in both:
        ended(process, 0, 120)
    assert [len(shell.starts(n, 20)) for n in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["hydra.launcher.partition=hihg"], "SLURM refused the jobs (invalid partition specified: hihg"),
        (["hydra.launcher.mem_gb=900"], "hydra.launcher.mem_gb=900"),
        (["+hydra.launcher.sbatch.nix=1"], "SLURM refused the jobs (unrecognized option '--nix=1'"),
    ],
    ids=["partition", "memory", "option"],
)
def test_what_slurm_refuses_leaves_nothing(shell: Shell, cluster: Cluster, words: list[str], sentence: str) -> None:
    out = shell.run("n=0,1", *words, code=2)
    assert sentence in out
    assert "Traceback" not in out
    assert len(out.splitlines()) == 2  # how many runs, and the sentence
    if "partition" in words[0]:
        assert "Partitions here: low, grace, high." in out
    assert not (shell.folder / "sweep").exists()
    assert not cluster.run("squeue", "-h")


def test_a_head_is_preempted_and_ends_with_the_same_bytes(shell: Shell, cluster: Cluster) -> None:
    """The real thing: checkpoint on SLURM's signal, W&B id kept, every step there once."""
    words = ["scale=smoke", "scale.steps=40", "scale.width=64", "scale.height=64", "scale.gallery_size=32"]
    words += ["scale.gallery_seconds=0.2", "scale.log_every_steps=1", "scale.picture_every_steps=0", "metrics=none"]
    words += ["densify=none", "logger=wandb", "hydra.sweep.dir=sweep", "seed=3", *SMALL[1:3], "hydra.launcher.mem_gb=4"]
    words += ["scale.checkpoint_every_steps=1000"]
    entry = ("-m", "headstudio.run", "-m", "hydra/launcher=slurm")
    process = shell.start(*words, "hydra.launcher.partition=low", python=entry)
    root: list[Path] = []

    def has_begun() -> bool:
        root[:] = [path.parent for path in (shell.folder / "sweep").glob("*/metrics.jsonl")]
        return bool(root) and len((root[0] / "metrics.jsonl").read_text().splitlines()) > 3

    until(has_begun, 120)
    cluster.run("sbatch", "-p", "high", "-c4", "--mem=0", "-o", "/dev/null", "--wrap", "sleep 1")
    ended(process, 0, 240)
    attempts = [json.loads(file.read_text())["outcome"] for file in sorted((root[0] / "attempts").glob("*.json"))]
    assert attempts == ["requeued", "finished"]

    undisturbed = [*words, "hydra.launcher.partition=low"]
    undisturbed[undisturbed.index("hydra.sweep.dir=sweep")] = "hydra.sweep.dir=whole"
    ended(shell.start(*undisturbed, python=entry), 0, 240)
    (whole,) = (path.parent for path in (shell.folder / "whole").glob("*/DONE"))
    assert whole.name == root[0].name
    for name in ("avatar.ply", "grid.png"):
        assert (whole / name).read_bytes() == (root[0] / name).read_bytes()
    lines = [[json.loads(line) for line in (r / "metrics.jsonl").read_text().splitlines()] for r in (whole, root[0])]
    for one, other in zip(*lines, strict=True):
        assert repeatable(one) == repeatable(other)

    signature = (whole / "DONE").read_text().strip()
    (segment,) = segments(root[0], signature)  # the second process took over what the first had written
    assert recorded_steps(segment.file) == set(range(41))  # 40 steps, and the pictures of the end


def test_a_thousand_runs(shell: Shell, cluster: Cluster) -> None:
    """One array, submitted, looked at and started again in little time. Most of them wait: that is the point."""
    holder = cluster.run(
        "sbatch", "--parsable", "-p", "high", "-c4", "--mem=0", "-o", "/dev/null", "--wrap", "sleep 600"
    ).strip()
    begin = time.monotonic()
    shell.run("n=range(1000)", "hydra.launcher.detach=true", "hydra.launcher.array_parallelism=100", timeout=240)
    submitting = time.monotonic() - begin
    begin = time.monotonic()
    shell.sweep("status", "sweep", "--json")
    status = time.monotonic() - begin
    states = shell.states()
    print(f"1000 runs: submitted in {submitting:.1f} s, status in {status:.2f} s")
    assert len(states) == 1000
    assert set(states.values()) == {"queued"}
    scripts = list((shell.folder / "sweep" / ".sweep" / "jobs").glob("*_submission.sh"))
    assert len(scripts) == 1
    assert submitting < 60
    assert status < 2
    assert "1000 runs: 0 to do, 1000 under way" in shell.run("n=range(1000)", "hydra.launcher.detach=true")
    cluster.run("scancel", scripts[0].name.partition("_")[0])
    cluster.run("scancel", holder)
    until(lambda: set(shell.states().values()) == {"stopped"}, 60)


def test_hydras_own_conformance_suite(cluster: Cluster, tmp_path: Path) -> None:
    suite = Path(__file__).parent / "conformance.py"
    shutil.copy(suite, tmp_path / "test_conformance.py")
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "test_conformance.py"]
    variables = {**os.environ, "CONFORMANCE_LAUNCHER": "slurm"}
    done = subprocess.run(words, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "skipped" not in done.stdout
