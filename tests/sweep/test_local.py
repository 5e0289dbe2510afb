"""hydra/launcher=local, as a user meets it: isolation, identity, stopping, killing, detaching, freezing, GPUs."""

from __future__ import annotations

import csv
import itertools
import json
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from app import expected
from omegaconf import OmegaConf
from shell import Shell, ended

from headstudio import claim
from headstudio.sweep import freeze
from headstudio.sweep.local import Local
from headstudio.sweep.queue import Queue
from headstudio.sweep.record import Command, Entry, Sweep

pytestmark = pytest.mark.slow


def test_what_fails_or_is_killed_leaves_the_others_alone(shell: Shell) -> None:
    out = shell.run("n=0,1,2,3", "fail=[1]", "die=[2]", "hydra.launcher.workers=2", code=1)
    assert shell.states() == {"n0": "finished", "n1": "failed", "n2": "killed", "n3": "finished"}
    assert [shell.result(n) for n in (0, 3)] == [expected(n, 3) for n in (0, 3)]
    assert Path((shell.root(0) / "imported.txt").read_text()).is_relative_to(shell.folder / "sweep" / ".sweep" / "code")
    assert "failed n1-steps3: ZeroDivisionError: run 1 was told to fail" in out
    assert "killed n2-steps3: The process was killed by SIGKILL" in out
    logs = [Path(line.strip()) for line in out.splitlines() if line.strip().endswith("_log.out")]
    assert len(logs) == 2
    assert "ZeroDivisionError: run 1 was told to fail" in logs[0].read_text()
    with (shell.folder / "sweep" / "summary.csv").open(newline="") as file:
        rows = {row["n"]: row for row in csv.DictReader(file)}
    assert [rows[n]["status"] for n in "0123"] == ["finished", "failed", "killed", "finished"]
    assert (rows["0"]["clip_score"], rows["1"]["clip_score"]) == ("0.0", "")


def test_the_same_command_again_does_only_what_is_left(shell: Shell) -> None:
    shell.run("n=0,1,2,0", "fail=[1]", "die=[2]", "steps=5", "checkpoint_every=1", code=1)
    assert [len(shell.starts(n, 5)) for n in (0, 1, 2)] == [1, 1, 1]  # named twice, done once
    out = shell.run("n=0,1,2,3", "steps=5")
    assert "4 runs: 3 to do, 1 already finished" in out
    assert [len(shell.starts(n, 5)) for n in (0, 1, 2, 3)] == [1, 2, 2, 1]
    assert [shell.starts(n, 5)[-1][2] for n in (1, 2)] == ["1", "1"]  # from the checkpoint, not from the beginning
    assert [shell.result(n, 5) for n in range(4)] == [expected(n, 5) for n in range(4)]
    assert "4 runs: 0 to do, 4 already finished" in shell.run("n=0,1,2,3", "steps=5")
    assert [len(shell.starts(n, 5)) for n in (0, 1, 2, 3)] == [1, 2, 2, 1]


def test_two_commands_at_once_do_each_run_once(shell: Shell) -> None:
    words = ["n=0,1,2", "steps=6", "step_s=0.1"]
    both = [shell.start(*words), shell.start(*words)]
    for process in both:
        assert "3 runs in" in ended(process, 0, 120)
    assert [len(shell.starts(n, 6)) for n in range(3)] == [1, 1, 1]
    assert [shell.result(n, 6) for n in range(3)] == [expected(n, 6) for n in range(3)]


def test_ctrl_c_saves_and_the_same_command_goes_on(shell: Shell) -> None:
    words = ["n=0,1,2", "steps=40", "step_s=0.1", "checkpoint_every=100", "hydra.launcher.workers=2"]
    process = shell.start(*words)
    shell.until(lambda: all((shell.root(n, 40) / "metrics.jsonl").exists() for n in (0, 1)))
    process.send_signal(signal.SIGINT)
    out = ended(process, 130, 60)
    assert "Start the same command again to go on" in out
    assert "Traceback" not in out
    assert shell.states() == {"n0": "stopped", "n1": "stopped", "n2": "stopped"}
    assert shell.starts(2, 40) == []
    shell.run("n=0,1,2", "steps=40", "hydra.launcher.workers=2")
    assert all(int(shell.starts(n, 40)[1][2]) > 0 for n in (0, 1))
    assert [shell.result(n, 40) for n in range(3)] == [expected(n, 40) for n in range(3)]


def test_the_runs_outlive_the_shell(shell: Shell) -> None:
    process = shell.start("n=0,1", "steps=20", "step_s=0.1")
    shell.until(lambda: bool(shell.starts(0, 20)))
    process.kill()
    process.communicate()
    shell.until(lambda: shell.states() == {"n0": "finished", "n1": "finished"})
    assert [shell.result(n, 20) for n in (0, 1)] == [expected(n, 20) for n in (0, 1)]


def test_detached_runs_are_watched_cancelled_and_tried_again(shell: Shell) -> None:
    before = time.monotonic()
    out = shell.run("n=0,1", "steps=600", "step_s=0.1", "hydra.launcher.detach=true")
    assert time.monotonic() - before < 20
    assert "python -m headstudio.sweep watch sweep" in out
    shell.until(lambda: shell.states() == {"n0": "running", "n1": "queued"})
    shell.sweep("cancel", "sweep", "n0")
    shell.until(lambda: shell.states()["n0"] == "stopped" and shell.states()["n1"] == "running")
    assert "n0-steps600 is" not in shell.sweep("clean", "sweep", "n0")
    assert "cancel it first" in shell.sweep("clean", "sweep", "n1", code=2)
    shell.sweep("cancel", "sweep")
    shell.until(lambda: shell.states() == {"n0": "stopped", "n1": "stopped"})
    steps = int(shell.sweep("status", "sweep", "--json").partition('"step": ')[2].partition(",")[0])
    assert 0 < steps < 600
    shell.sweep("retry", "sweep", "0")
    shell.until(lambda: shell.states()["n0"] == "running" and len(shell.starts(0, 600)) == 2)
    assert int(shell.starts(0, 600)[1][2]) >= steps
    shell.sweep("cancel", "sweep")
    watched = shell.sweep("watch", "sweep", code=1)
    assert "2 runs in" in watched


def test_after_the_queue_was_killed_nothing_is_taken_for_done(shell: Shell) -> None:
    shell.run("n=0,1", "steps=60", "step_s=0.1", "hydra.launcher.detach=true")
    shell.until(lambda: bool(shell.starts(0, 60)))
    (queue,) = (
        p for p in psutil.process_iter() if {"headstudio.sweep.queue", str(shell.folder / "sweep")} <= _words(p)
    )
    queue.kill()  # which the system may do a moment later
    shell.until(lambda: shell.states() == {"n0": "running", "n1": "stopped"})  # the run itself goes on
    shell.until(lambda: shell.states() == {"n0": "finished", "n1": "stopped"})
    shell.run("n=0,1", "steps=60")
    assert [shell.result(n, 60) for n in (0, 1)] == [expected(n, 60) for n in (0, 1)]
    assert len(shell.starts(0, 60)) == 1


def _words(process: psutil.Process) -> set[str]:
    try:
        return set(process.cmdline())
    except psutil.Error:
        return set()


def test_gpus_are_dealt_out(tmp_path: Path) -> None:
    shell = Shell(tmp_path, environment={"CUDA_VISIBLE_DEVICES": "3,5,GPU-7,9"})
    shell.run("n=range(6)", "steps=4", "step_s=0.2", "hydra.launcher.workers=2", "hydra.launcher.gpus_per_run=2")
    starts = sorted((float(start[1]), start[0]) for n in range(6) for start in shell.starts(n, 4))
    assert {gpus for _, gpus in starts} == {"3,5", "GPU-7,9"}
    assert [gpus for _, gpus in starts].count("3,5") >= 2
    for (one, first), (two, second) in itertools.pairwise(starts):
        assert first != second or two - one > 0.7  # never two runs on the same at a time
    told = shell.run("n=0", "steps=9", "hydra.launcher.workers=5", code=2)
    assert "needs 5 GPUs, but here are 4" in told
    assert not shell.root(0, 9).exists()


def test_code_and_config_are_those_of_the_command(shell: Shell) -> None:
    package = shell.folder / "mine" / "answering"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("answer = 1\n")
    shell.environment["PYTHONPATH"] = str(package.parent)
    app = shell.folder / "app"
    shutil.copytree(Path(__file__).parent, app)
    words = ["n=0,1", "steps=8", "step_s=0.25", f"package={package.parent}"]
    freeze = "hydra.launcher.freeze=[headstudio,hydra_plugins.headstudio_launchers,answering]"
    process = shell.start(*words, freeze, python=(str(app / "app.py"), "-m"))
    shell.until(lambda: bool(shell.starts(0, 8)))
    (package / "__init__.py").write_text("raise RuntimeError('edited')\n")
    (app / "conf" / "app.yaml").write_text("broken")
    (app / "app.py").write_text("broken(")
    ended(process, 0, 60)
    rows = list(csv.DictReader((shell.folder / "sweep" / "summary.csv").open(newline="")))
    assert [row["answer"] for row in rows] == ["1.0", "1.0"]

    # and from the run's directory alone, when everything else is gone
    shutil.move(shell.root(1, 8), shell.folder / "kept")
    shutil.rmtree(shell.folder / "sweep")
    shutil.rmtree(app)
    shell.sweep("repeat", "kept", "again")
    assert (shell.folder / "again" / "result.txt").read_text() == expected(1, 8)
    assert '"answer": 1' in (shell.folder / "again" / "metrics.json").read_text()
    assert "exists" in shell.sweep("repeat", "kept", "again", code=2)
    shown = shell.sweep("repeat", "again/attempts", "other", code=2)
    assert "carries no frozen run" in shown


def test_a_users_own_code_is_frozen_without_being_asked(tmp_path: Path) -> None:
    """What a `_target_` names and pip has not installed is copied: a package, or one file in the current directory."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "__init__.py").write_text("")
    (tmp_path / "lab" / "regs.py").write_text("class Mine: ...\n")
    (tmp_path / "alone.py").write_text("def metric(): ...\n")
    config = OmegaConf.create(
        {
            "reg": {"_target_": "lab.regs.Mine", "deep": [{"_target_": "torch.nn.Linear"}]},
            "metrics": {"one": {"_target_": "alone.metric"}, "other": {"_target_": "json.loads"}},
            "head": {"_target_": "headstudio.head.anny.load_anny"},
            "gone": {"_target_": "nothing_of_this_name.x"},
            "hydra": {"_target_": "app.work"},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        own = freeze.own_packages(config)
        assert own == {"lab", "alone"}
        code = freeze.freeze_code(tmp_path / "code", ["headstudio", *sorted(own)])
        again = freeze.freeze_code(tmp_path / "code", ["headstudio", *sorted(own)])
        (tmp_path / "alone.py").write_text("def metric(): return 1\n")
        edited = freeze.freeze_code(tmp_path / "code", ["headstudio", *sorted(own)])
    assert code == again != edited
    assert (tmp_path / "code" / code / "lab" / "regs.py").exists()
    assert (tmp_path / "code" / code / "alone.py").read_text() == "def metric(): ...\n"
    assert (tmp_path / "code" / code / "conf" / "config.yaml").exists()
    assert json.loads((tmp_path / "code" / code / "code.json").read_text())["versions"]["torch"]


def test_debug_runs_one_after_the_other_here(shell: Shell) -> None:
    out = shell.run("n=0,1,2", "fail=[1]", "hydra/launcher=debug", code=1)
    assert "ZeroDivisionError: run 1 was told to fail" in out
    assert shell.states() == {"n0": "finished", "n1": "failed", "n2": "finished"}
    shell.sweep("retry", "sweep")
    shell.until(lambda: shell.states()["n1"] == "failed" and len(shell.starts(1)) == 2)


def test_a_run_that_another_process_has_is_waited_for(shell: Shell) -> None:
    shell.root(0).mkdir(parents=True)
    with claim.Attempt.begin(shell.root(0)):
        process = shell.start("n=0,1")
        shell.until(lambda: shell.states().get("n1") == "finished")
        assert shell.states()["n0"] == "running"
        assert process.poll() is None
    out = ended(process, 0, 60)
    assert shell.starts(0) == []
    assert "1 under way" in out


def test_clean_takes_only_what_is_not_needed(shell: Shell) -> None:
    shell.run("n=0,1", "fail=[1]", code=1)
    assert "add --yes" in shell.sweep("clean", "sweep")
    assert (shell.root(0) / "checkpoint").exists()
    shell.sweep("clean", "sweep", "--yes")
    assert not (shell.root(0) / "checkpoint").exists()
    assert (shell.root(1) / "checkpoint").exists()
    assert shell.states() == {"n0": "finished", "n1": "failed"}
    shell.sweep("clean", "sweep", "n1", "--yes")
    assert not shell.root(1).exists()
    shell.run("n=0,1")
    assert len(shell.starts(0)) == 1


def test_a_worker_that_cannot_even_start_is_told_about(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.prepare()
    engine = Local(workers=1, gpus_per_run=0)
    queue = Queue(sweep, Command.now(engine, [Entry("run", (), "code")]), engine)
    for job, script, outcome, reason in (
        ("7", "echo No module named headstudio; exit 1", "failed", "No module named headstudio"),
        ("8", "kill -9 $$", "killed", "The process was killed by SIGKILL"),
    ):
        with (sweep.jobs / f"{job}_0_log.out").open("w") as log:
            process = subprocess.Popen(["sh", "-c", script], stdout=log)
        process.wait()
        queue.running[job] = (queue.waiting[0], process, {})
        queue._collect()
        last = claim.latest(tmp_path / "run")
        assert last is not None
        assert last.outcome == outcome
        assert last.reason.startswith(reason)


def test_a_run_out_of_memory_leaves_the_others_alone(shell: Shell) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, before[1]))  # what the shell starts inherits it
    try:
        process = shell.start("n=0,1,2", "eat=[1]", "eat_mb=6000")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    out = ended(process, 1, 120)
    assert "failed n1-steps3: MemoryError" in out
    assert [shell.result(n) for n in (0, 2)] == [expected(n, 3) for n in (0, 2)]
