"""W&B: with and without a server, killed and resumed. What the files say is told by `wandb sync`, W&B's own reader."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import commands
import pytest
import torch
import wandb_run
from wandb_run import METRICS, PICTURE_EVERY, SIGNATURE
from wandb_server import KEY, Backend, SentRun, wandb_server

from headstudio.errors import UserError
from headstudio.wandb_files import recorded_steps, segments
from headstudio.wandb_log import _lowered, flat


@pytest.fixture
def server() -> Iterator[Backend]:
    with wandb_server() as backend:
        yield backend


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """An environment without W&B's variables and without a login."""
    home = tmp_path / "home"
    home.mkdir()
    own = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "NETRC"))}
    return own | {"HOME": str(home), "XDG_CACHE_HOME": str(home), "XDG_CONFIG_HOME": str(home)}


def work(surroundings: dict[str, str], *words: object, code: int = 0) -> str:
    """What a run's process writes to its log."""
    done = commands.run("wandb_run", *map(str, words), cwd=Path(surroundings["HOME"]), env=surroundings)
    assert done.returncode == code, done.stderr
    time.sleep(1 - time.time() % 1)  # W&B names its folders by the second
    return done.stderr


def account(surroundings: dict[str, str], server: Backend) -> dict[str, str]:
    return surroundings | {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url}


def sync(surroundings: dict[str, str], server: Backend, *paths: Path) -> str:
    """`wandb sync`: W&B reads its files and sends what they say."""
    command = [str(Path(sys.executable).with_name("wandb")), "sync", *map(str, paths)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=account(surroundings, server), cwd=surroundings["HOME"]
    )
    assert "ERROR" not in done.stderr, done.stderr
    return done.stderr


def offline_folders(root: Path) -> list[Path]:
    return sorted((root / "wandb").glob("offline-run-*"))


def has_one_history(run: SentRun, last: int) -> None:
    """Each step once, in order, each picture in the row of its step, the results one step after the last."""
    rows = run.rows
    assert [row["_step"] for row in rows] == list(range(last + 1))
    assert [row.get("loss/total") for row in rows] == [*map(float, range(last)), None]
    views = [row["_step"] for row in rows if "pictures/view" in row]
    assert views == list(range(0, last, PICTURE_EVERY))
    assert {name for name in rows[-1] if name.startswith("pictures/")} == {"pictures/grid", "pictures/turntable"}
    assert len({row["pictures/view"]["sha256"] for row in rows if "pictures/view" in row}) == len(views)


def has_the_results(run: SentRun, *, most_memory: int = 2) -> None:
    assert run.finished
    assert run.summary["clip_score"] == METRICS["clip_score"]
    assert run.summary["phase_seconds/render"] == 0.1
    assert run.summary["machine/memory_gb"] == {"max": most_memory}
    assert not [name for name in run.summary if name.startswith("details")]
    (artifact,) = run.artifacts
    assert artifact["artifactCollectionName"] == f"avatar-{SIGNATURE}"
    assert artifact["artifactTypeName"] == "avatar"


@pytest.mark.parametrize("mode", ["of", False, None, "Online"])
def test_a_mode_that_does_not_exist_is_one_sentence(tmp_path: Path, mode: Any) -> None:
    with pytest.raises(UserError, match=f"^logger.mode={mode!r} must be offline, online or disabled.$"):
        wandb_run.logger(tmp_path, mode)


@pytest.mark.parametrize("tags", ["first", [1], {"a": 1}, None])
def test_tags_are_a_list_of_words(tmp_path: Path, tags: Any) -> None:
    with pytest.raises(UserError, match=r"^logger\.tags=.* must be a list of words"):
        wandb_run.logger(tmp_path, "disabled", tags=tags)


@pytest.mark.parametrize(
    ("mode", "environment", "result"),
    [
        ("online", "offline", "offline"),
        ("online", "disabled", "disabled"),
        ("offline", "disabled", "disabled"),
        ("offline", "online", "offline"),
        ("disabled", "online", "disabled"),
        ("online", "dryrun", "online"),
        ("online", None, "online"),
    ],
)
def test_the_environment_can_keep_a_run_at_home_but_not_send_it_out(
    monkeypatch: pytest.MonkeyPatch, mode: Any, environment: str | None, result: str
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    assert _lowered(mode) == result


def test_scores_become_flat_and_details_stay_out() -> None:
    assert flat({"a": 1, "b": {"c": {"d": 2.0}}, "details": {"x": [1]}, "prompt": "x"}) == {
        "a": 1,
        "b/c/d": 2.0,
        "prompt": "x",
    }


def test_a_wandb_that_is_gone_does_not_take_the_run_along(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = wandb_run.logger(tmp_path, "disabled")

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionResetError("Connection lost")

    logger.mode = "offline"
    logger._run = SimpleNamespace(
        log=refuse, finish=refuse, log_artifact=refuse, starting_step=0, summary={}, dir=str(tmp_path / "files")
    )
    logger.start(0)
    logger.values(0, {"loss/total": 1.0})
    logger.picture(0, "view", torch.zeros(3, 4, 4))
    logger.summary({"clip_score": 0.5}, wandb_run.results(tmp_path))
    logger.close()
    assert caplog.text.count("W&B does not answer (Connection lost)") == 1


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    logger = wandb_run.logger(tmp_path, "disabled")
    logger.start(0)
    logger.values(0, {"loss/total": 1.0})
    logger.picture(0, "view", torch.zeros(3, 4, 4))
    logger.summary(METRICS, {})
    logger.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_run_is_one_history_for_wandb_sync(
    tmp_path: Path, surroundings: dict[str, str], server: Backend
) -> None:
    """Killed while its file was empty, killed when the file was ahead of the checkpoint, killed at the end, ended."""
    root = tmp_path / "run"
    root.mkdir()
    for first, last, seconds in ((0, 6, 0.0), (3, 9, 16.0), (9, 12, 0.0)):
        work(surroundings, root, "offline", first, last, seconds, code=-signal.SIGKILL)
    (killed,) = segments(root, SIGNATURE)
    assert killed.file.stat().st_size == 7, "W&B writes its file now and then; this one must have been too early"
    work(surroundings, root, "offline", 12, 12)
    folders = offline_folders(root)
    assert len(folders) == 1
    assert recorded_steps(folders[0] / f"run-{SIGNATURE}.wandb") == set(range(13))

    sync(surroundings, server, *folders)
    run = server.runs[SIGNATURE]
    has_one_history(run, 12)
    has_the_results(run)
    assert run.settings["displayName"] == "reg-strict"
    assert (run.settings["groupName"], run.settings["jobType"], run.settings["notes"]) == ("a-sweep", "train", "a note")
    assert run.settings["tags"] == ["first", "try"]
    config = run.settings["config"]
    assert '"reg":{"value":{"lambda_pos":0.1}}' in config
    assert '"options":{"value":{"reg":"strict"}}' in config
    assert {"media/videos", "media/images"} <= {"/".join(name.split("/")[:2]) for name in run.files}


@pytest.mark.slow
def test_what_was_pushed_before_the_run_went_on_is_not_pushed_again(
    tmp_path: Path, surroundings: dict[str, str], server: Backend
) -> None:
    root = tmp_path / "run"
    root.mkdir()
    work(surroundings, root, "offline", 0, 6, -1)
    sync(surroundings, server, *offline_folders(root))
    assert [row["_step"] for row in server.runs[SIGNATURE].rows] == list(range(6))
    work(surroundings, root, "offline", 6, 12)
    assert len(offline_folders(root)) == 2
    assert "Skipped 1 synced run" in sync(surroundings, server, *offline_folders(root))
    has_one_history(server.runs[SIGNATURE], 12)
    has_the_results(server.runs[SIGNATURE], most_memory=1)


@pytest.mark.slow
def test_offline_nothing_leaves_the_machine(tmp_path: Path, surroundings: dict[str, str], server: Backend) -> None:
    work(account(surroundings, server), tmp_path, "offline", 0, 3, 2, code=-signal.SIGKILL)
    work(account(surroundings, server), tmp_path, "offline", 2, 4)
    assert (server.runs, server.unknown, server.other) == ({}, [], [])


@pytest.mark.slow
def test_online_a_killed_run_goes_on_where_the_server_is(
    tmp_path: Path, surroundings: dict[str, str], server: Backend
) -> None:
    root = tmp_path / "run"
    root.mkdir()
    work(account(surroundings, server), root, "online", 0, 6, 17, code=-signal.SIGKILL)
    sent = len(server.runs[SIGNATURE].history)
    assert 0 < sent <= 6
    work(account(surroundings, server), root, "online", 4, 9)
    has_one_history(server.runs[SIGNATURE], 9)
    has_the_results(server.runs[SIGNATURE], most_memory=1)  # online, W&B takes the maximum of each process anew
    assert not offline_folders(root)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["no key", "not a key", "no server"])
def test_online_that_is_not_possible_goes_on_offline_and_says_how_to_push(
    tmp_path: Path, surroundings: dict[str, str], server: Backend, trouble: str
) -> None:
    root = tmp_path / "run"
    root.mkdir()
    more = {
        "no key": {},
        "not a key": {"WANDB_API_KEY": "abc"},
        "no server": {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"},
    }[trouble]
    begin = time.monotonic()
    told = work(surroundings | more, root, "online", 0, 4)
    assert time.monotonic() - begin < 60
    (folder,) = offline_folders(root)
    assert told.count(f"so this run is logged offline; push it later with: wandb sync {folder}") == 1
    sync(surroundings, server, folder)
    has_one_history(server.runs[SIGNATURE], 4)


@pytest.mark.slow
def test_a_server_that_goes_away_costs_a_while_and_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, surroundings: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    words = """
import sys
from pathlib import Path
import wandb_run
from wandb_server import wandb_server
root = Path(sys.argv[1])
with wandb_server() as server:
    import os
    os.environ["WANDB_BASE_URL"] = server.url
    logger = wandb_run.logger(root, "online", finish_timeout_s=2)
    logger.start(0)
    logger.values(0, {"loss/total": 1.0})
logger.values(1, {"loss/total": 1.0})
logger.summary(wandb_run.METRICS, wandb_run.results(root))
logger.close()
print("went on")
"""
    path = str(Path(wandb_run.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", words, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        env=surroundings | {"WANDB_API_KEY": KEY, "PYTHONPATH": path},
        timeout=120,
    )
    assert done.stdout == "went on\n", done.stderr
    assert done.returncode == 0


def test_wandb_is_not_imported_unless_it_is_asked_for() -> None:
    words = "import sys, diffusers, headstudio.run, headstudio.trainer, headstudio.log, headstudio.guidance.prior\n"
    words += "from headstudio.log import NoLogger; NoLogger(directory='x'); sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0


@pytest.mark.slow
def test_a_sweep_is_pushed_with_one_command_and_finished_runs_are_not_logged_again(
    tmp_path: Path, surroundings: dict[str, str], server: Backend
) -> None:
    words = ["scale=smoke", "scale.steps=4", "scale.width=64", "scale.height=64", "scale.gallery_size=32"]
    words += ["scale.gallery_seconds=0.2", "scale.log_every_steps=1", "densify=none", "metrics=none", "reg=none,scaled"]
    words += ["logger=wandb", "logger.tags=[first,try]", "trainer.snapshot_every_steps=2", "hydra.sweep.dir=sweep"]
    words += ["hydra/launcher=debug"]
    for _ in range(2):
        done = commands.run("headstudio.run", "-m", *words, env=surroundings, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    folders = sorted(tmp_path.glob("sweep/*/wandb/offline-run-*"))
    assert len(folders) == 2

    sync(surroundings, server, *folders)
    assert sorted(json.loads(run.settings["config"])["options"]["value"]["reg"] for run in server.runs.values()) == [
        "none",
        "scaled",
    ]
    for signature, run in server.runs.items():
        (root,) = tmp_path.glob(f"sweep/*-{signature}")
        lines = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
        assert [row["_step"] for row in run.rows] == [0, 1, 2, 3, 4]
        for line, row in zip(lines, run.rows, strict=False):
            logged = {name: value for name, value in row.items() if name[0] != "_" and not name.startswith("pictures/")}
            assert logged == pytest.approx({n: v for n, v in line.items() if n not in ("step", "seconds")})
        assert [row["_step"] for row in run.rows if "pictures/snapshot" in row] == [0, 2]
        assert {"pictures/turntable", "pictures/animation", "pictures/grid"} <= set(run.rows[-1])
        assert (run.settings["groupName"], run.settings["tags"]) == ("sweep", ["first", "try"])
        scores = flat(json.loads((root / "metrics.json").read_text()))
        assert {name: run.summary[name] for name in scores} == pytest.approx(scores)
        assert len(run.artifacts) == 1
