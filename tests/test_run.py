"""The command line: help at once, every mistake one sentence with exit code 2, nothing said twice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import run

from headstudio import cli
from headstudio.errors import UserError
from headstudio.runstate import RunPaths


def command(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return run("headstudio.run", *arguments, cwd=cwd, env={**os.environ, "HYDRA_FULL_ERROR": "", **env})


def test_help_answers_at_once_and_names_every_option(tmp_path: Path) -> None:
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        words = [sys.executable, "-m", "headstudio.run", "--help"]
        told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        seconds.append(time.monotonic() - start)
    assert told.returncode == 0
    assert min(seconds) < 1.0
    for group, options in cli.groups().items():
        assert f"\n  {group}\n" in told.stdout
        for option, comment in options.items():
            assert option in told.stdout
            assert comment
            assert comment in told.stdout
    assert "(Eq. 10)" in told.stdout
    rows = [line[5:] for line in told.stdout.splitlines() if line.startswith(("     ", "   * ")) and line[5:].strip()]
    assert len(rows) > 50
    assert all(re.match(r"\S+ {2,}\S", row) for row in rows)
    assert not list(tmp_path.iterdir())


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; from headstudio.run import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.DEVNULL, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["reg=stict"],
            "reg=stict does not exist: reg is one of none, official, scaled, strict. Did you mean 'strict'?",
        ),
        (
            ["-m", "reg=none,stict"],
            "reg=stict does not exist: reg is one of none, official, scaled, strict. Did you mean 'strict'?",
        ),
        (["rge=none"], "rge is not a key of this setting. Did you mean 'reg'?"),
        (["scale.stepz=3"], "scale.stepz is not a key of this setting. Did you mean 'scale.steps'?"),
        (["steps=3"], "steps is not a key of this setting. Did you mean 'scale.steps'?"),
        (["camera.fov=60"], "camera.fov is not a key of this setting. Did you mean 'camera.fovy_deg_range'?"),
        (["reg=none,strict"], "reg=none,strict names several values: add -m to make one run of each."),
        (["scale.steps=-2"], "scale.steps=-2 must be a whole number of at least 1."),
        (["scale.fovy_deg_range=[60,180]"], "scale.fovy_deg_range=[60, 180] must be [low, high] degrees"),
        (["prompt="], "prompt='' must be a sentence that describes a head."),
        (["init.per_triangle=0"], "init.per_triangle=0 is not possible: it must be at least 1."),
        (["densify.max_gaussians=9"], "densify.max_gaussians=9 is below the head's 9206 triangles"),
        (["prompt=xyzzy"], "prompt='xyzzy' has no word that the prior knows; use words of its vocabulary file"),
        (
            ["-m", "hydra/launcher=slrm"],
            "hydra/launcher=slrm does not exist: it is one of debug, local, slurm, slurm_preem",
        ),
        (
            ["-m", "hydra.launcher.wrkers=2"],
            "hydra.launcher.wrkers is not a key of this launcher's profile. Did you mean",
        ),
        (
            ["-m", "+hydra.launcher.x=2"],
            "hydra.launcher.x is not a key of this launcher's profile. Its keys: workers, ",
        ),
        (
            ["-m", "hydra.launcher.workers=two"],
            "hydra.launcher.workers=two does not fit: Value 'two' of type 'str' could",
        ),
        (["-m", "hydra.launcher.workers=0"], "hydra.launcher.workers=0 must be at least 1, or null."),
        (["-m", "seed=1,2", "hydra.launcher.freeze=[nix]"], "hydra.launcher.freeze names 'nix', which is no package"),
        (["-m", "scale.steps=3,-2"], "scale.steps=-2 must be a whole number of at least 1."),
        (
            ["-m", "hydra/launcher=slurm", "hydra.launcher.sbatch.constraint=a"],
            "hydra.launcher.sbatch.constraint is no op",
        ),
        (["-m", "hydra.sweep.dir=/proc/nowhere"], "The sweep directory /proc/nowhere cannot be written (No such"),
        (["hydra.run.dir=/proc/nowhere"], "The output directory /proc/nowhere cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    told = command(*arguments, cwd=tmp_path)
    assert told.returncode == 2
    assert told.stderr.startswith(sentence)
    assert told.stderr.count("\n") == 1
    assert "Traceback" not in told.stdout
    assert not [path for folder in ("outputs", "multirun") for path in (tmp_path / folder).glob("*")]


def test_a_mistake_leaves_the_work_of_others_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    told = command("init.per_triangle=0", "hydra.run.dir=mine", cwd=tmp_path)
    assert told.returncode == 2
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_what_a_broken_run_has_logged_is_kept(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "run")
    paths.prepare()
    paths.config.write_text("seed: 0")
    paths.steps.write_text('{"step": 0}')
    paths.remove_unbegun()
    assert paths.steps.exists()
    paths.steps.unlink()
    paths.remove_unbegun()
    assert not paths.root.exists()


def test_without_slurm_the_sentence_says_where_to_go(tmp_path: Path) -> None:
    told = command("-m", "seed=1,2", "hydra/launcher=slurm", cwd=tmp_path, PATH="/nowhere")
    assert told.returncode == 2
    assert told.stderr.startswith(
        "hydra/launcher=slurm needs sbatch, which this machine does not have; give the command"
    )
    assert not list((tmp_path / "multirun").glob("*"))


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "config" / "headstudio" / "hydra" / "launcher"
    folder.mkdir(parents=True)
    profile = folder / "ours.yaml"
    profile.write_text("# Ours\ndefaults: [slurm, _self_]\npartition: gpu\n")
    words = ["--cfg", "hydra", "--package", "hydra.launcher", "hydra/launcher=ours"]
    shown = command(*words, cwd=tmp_path, XDG_CONFIG_HOME=str(tmp_path / "config"))
    assert "partition: gpu" in shown.stdout
    assert "max_requeues: 5" in shown.stdout
    moved = command(
        "-m", "--config-dir", "config/headstudio", "hydra/launcher=ours", "seed=1", cwd=tmp_path, PATH="/nowhere"
    )
    assert "needs sbatch" in moved.stderr
    profile.write_text("# Ours\ndefaults: [slurm, _self_]\npartitoin: gpu\n")
    told = command(*words, cwd=tmp_path, XDG_CONFIG_HOME=str(tmp_path / "config"))
    assert "hydra.launcher.partitoin is not a key of this launcher's profile. Did you mean 'partition'?" in told.stderr


def test_two_commands_for_one_run_have_one_writer(tmp_path: Path) -> None:
    from headstudio.claim import Attempt

    (tmp_path / "run").mkdir()
    with Attempt.begin(tmp_path / "run"):
        told = command("scale=smoke", "hydra.run.dir=run", cwd=tmp_path)
    assert told.returncode == 2
    assert told.stderr.startswith(f"{tmp_path / 'run'} is being worked on by process {os.getpid()} on ")
    assert not (tmp_path / "run" / "FAILED").exists()


def test_everything_is_shown_on_request(tmp_path: Path) -> None:
    told = command("scale.steps=-2", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert told.returncode == 1
    assert "Traceback" in told.stderr
    assert "scale.steps=-2 must be" in told.stderr


def test_the_whole_setting_is_shown(tmp_path: Path) -> None:
    told = command("--cfg", "job", "--resolve", 'prompt=a head, with a hat and "it\'s" horns', cwd=tmp_path)
    assert told.returncode == 0
    assert "a head, with a hat and" in told.stdout
    assert "headstudio.trainer.Trainer" in told.stdout


@pytest.mark.parametrize(
    ("argument", "quoted"),
    [
        ("prompt=a head, green", "prompt='a head, green'"),
        ("prompt=it's", r"prompt='it\'s'"),
        ("prompt='a','b'", "prompt='a','b'"),
        ('prompt="a, b"', 'prompt="a, b"'),
        ("reg=none,strict", "reg=none,strict"),
        ("prompt.x=a, b", "prompt.x=a, b"),
    ],
)
def test_the_commas_of_a_sentence_are_its_own(argument: str, quoted: str) -> None:
    assert cli.quote_prompts([argument]) == [quoted]


def test_the_same_sweep_has_the_same_folder_and_another_one_another() -> None:
    one, same, other = (
        cli.with_sweep_folder(a)[-1] for a in (["-m", "reg=a,b"], ["--multirun", "reg=a,b"], ["-m", "reg=a,c"])
    )
    assert one == same != other
    assert one.startswith("hydra.sweep.dir=multirun/reg-a-b-")
    assert cli.with_sweep_folder(["reg=a"]) == ["reg=a"]
    assert cli.with_sweep_folder(["-m", "hydra.sweep.dir=x"]) == ["-m", "hydra.sweep.dir=x"]


def test_a_users_mistake_deep_inside_is_found_and_a_bug_is_not_hidden() -> None:
    outer = RuntimeError("while building")
    outer.__cause__ = UserError("too small.")
    assert cli.explain(outer, []) == "too small."
    assert cli.explain(ValueError("a bug"), ["reg=stict"]) is None
