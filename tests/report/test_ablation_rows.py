"""The runs of an ablation are found by signature, in directories or in runs.csv; another run is never taken."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from made_up_ablation import PROMPTS, SEEDS, ablation, claim, write_file, write_runs

from headstudio.ablation import Ablation
from headstudio.cli import conf_dir
from headstudio.errors import UserError
from headstudio.prompts import quoted
from headstudio.report.ablation_runs import (
    Planned,
    Result,
    columns,
    every_number,
    finished,
    plan,
    read_rows,
    results,
    write_rows,
)
from headstudio.runstate import config_signature

MADE_UP = [Planned(arm, prompt, seed, f"{arm}-{prompt}-{seed}") for arm in "ab" for prompt in "pq" for seed in SEEDS]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ablation, list[Planned]]:
    """Composed once: two arms, two sentences, two seeds, at another size than the default."""
    return plan(str(write_file(tmp_path_factory.mktemp("made_up"), ablation(prompts=PROMPTS[:2]))), ["scale=smoke"])


def test_the_plan_is_every_arm_with_every_sentence_and_seed(planned: tuple[Ablation, list[Planned]]) -> None:
    wanted, runs = planned
    assert wanted.name == "made_up"
    expected = [(arm, prompt, seed) for arm in ("full", "reg_none") for prompt in PROMPTS[:2] for seed in SEEDS]
    assert [(run.arm, run.prompt, run.seed) for run in runs] == expected
    assert len({run.signature for run in runs}) == len(runs)


@pytest.mark.parametrize(("number", "override"), [(0, "reg=scaled"), (-1, "reg=none")])
def test_a_signature_is_that_of_the_run_itself(
    planned: tuple[Ablation, list[Planned]], number: int, override: str
) -> None:
    run = planned[1][number]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        words = ["scale=smoke", override, f"prompt={quoted(run.prompt)}", f"seed={run.seed}"]
        assert run.signature == config_signature(compose("config", words))


def test_an_arm_that_does_not_compose_is_one_sentence(tmp_path: Path) -> None:
    wrong = str(write_file(tmp_path, ablation(prompts=PROMPTS[:1])))
    with pytest.raises(UserError, match=r"guidance=sdss.*Did you mean 'sds'"):
        plan(wrong, ["guidance=sdss"])


def test_runs_come_from_their_directories_whatever_made_them(tmp_path: Path) -> None:
    write_runs(tmp_path / "one", MADE_UP[:3], lambda arm, p, seed: {"clip_score": 0.1 * p, "phase_seconds": {"x": 1.0}})
    write_runs(tmp_path / "two", MADE_UP[3:6], lambda *_: {"clip_score": 1 / 3}, changed=["M file.py"])
    found = results(MADE_UP, finished([tmp_path / "one", tmp_path / "two"]), [])
    assert [result.planned for result in found] == MADE_UP[:6]
    assert found[2].scores == {"clip_score": 0.1, "phase_seconds.x": 1.0}
    assert found[5].scores == {"clip_score": 0.333333}
    assert (found[0].commit, found[5].commit) == ("0123456", "0123456+")
    assert found[0].directory == tmp_path / "one" / "run-000"


def test_what_has_not_finished_is_missing(tmp_path: Path) -> None:
    first, second = write_runs(tmp_path, MADE_UP[:2], lambda *_: {"clip_score": 1.0})
    (first / "DONE").unlink()
    shutil.rmtree(second / "frozen")
    (result,) = results(MADE_UP, finished([tmp_path]), [])
    assert (result.planned, result.commit) == (MADE_UP[1], "")


def test_a_row_stands_for_a_directory_that_is_gone_and_gives_the_same_bytes(tmp_path: Path) -> None:
    write_runs(
        tmp_path / "runs", MADE_UP, lambda arm, p, seed: {"clip_score": (p + 1) / 7, "seconds": 1e3 / 3, "x": 2.0}
    )
    found = results(MADE_UP, finished([tmp_path / "runs"]), [])
    write_rows(tmp_path / "runs.csv", found, ["clip_score", "mouth_hole", "seconds"])
    before = (tmp_path / "runs.csv").read_bytes()
    assert before.splitlines()[:2] == [
        b"arm,prompt,seed,signature,commit,clip_score,mouth_hole,seconds",
        b"a,p,0,a-p-0,0123456,0.142857,,333.333",
    ]
    shutil.rmtree(tmp_path / "runs")
    rows = results(MADE_UP, finished([tmp_path / "runs"]), read_rows(tmp_path / "runs.csv"))
    assert [row.planned for row in rows] == MADE_UP
    assert rows[0].scores == {"clip_score": 0.142857, "seconds": 333.333}
    write_rows(tmp_path / "runs.csv", rows, ["clip_score", "mouth_hole", "seconds"])
    assert (tmp_path / "runs.csv").read_bytes() == before


def test_a_broken_directory_does_not_blank_its_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, other = MADE_UP[:2]
    for place in write_runs(tmp_path, [run, other], lambda *_: {"x": 3.0}):
        (place / "metrics.json").write_text('{"x": 3', encoding="utf-8")
    row = Result(run, "old", {"x": 1.0})
    assert results([run, other], finished([tmp_path]), [row]) == [row]
    assert "run-000/metrics.json holds no numbers that can be read; its row of runs.csv stands for it" in caplog.text
    assert "run-001/metrics.json holds no numbers that can be read; the run does not count" in caplog.text


def test_rows_of_another_signature_are_dropped_and_directories_outweigh_rows(tmp_path: Path) -> None:
    run, other = MADE_UP[:2]
    rows = [
        Result(run, "old", {"x": 1.0}),
        Result(Planned(other.arm, other.prompt, other.seed, "other"), "", {"x": 2.0}),
    ]
    assert results(MADE_UP, {}, rows) == rows[:1]
    write_runs(tmp_path, [run], lambda *_: {"x": 3.0})
    (result,) = results(MADE_UP, finished([tmp_path]), rows)
    assert (result.scores, result.commit) == ({"x": 3.0}, "0123456")


def test_the_columns_are_what_claims_and_table_read() -> None:
    scores = {"clip_score": 1.0, "render_fps": 1.0, "alignment_rest/lips": 1.0, "clip_first": 1.0, "seconds": 2.0}
    wanted = ablation(claim("stray_share"), claim("trace.coverage_early"), claim("stray_share"))
    assert columns(wanted, [Result(MADE_UP[0], "", scores)]) == [
        *("stray_share", "trace.coverage_early", "clip_score", "seconds")
    ]


def test_every_number_is_kept_behind_those_that_are_shown() -> None:
    found = [Result(MADE_UP[0], "", {"x": 1.0, "seconds": 2.0}), Result(MADE_UP[1], "", {"a/b": 1.0})]
    assert every_number(found, ["clip_score", "seconds"]) == ["clip_score", "seconds", "a/b", "x"]


@pytest.mark.parametrize("content", ["arm,prompt\na,p\n", "arm,prompt,seed,signature,commit,x\na,p,one,s,c,1\n"])
def test_a_file_that_is_no_table_of_runs_is_not_overwritten(tmp_path: Path, content: str) -> None:
    (tmp_path / "runs.csv").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"runs\.csv cannot be read"):
        read_rows(tmp_path / "runs.csv")
    assert read_rows(tmp_path / "none.csv") == []


def test_the_users_seeds_take_the_place_of_the_files(tmp_path: Path) -> None:
    """Each run once: what is planned with seed=1 are the runs of seed 1 of the whole plan."""
    name = str(write_file(tmp_path, ablation(claim("stray_share"), prompts=PROMPTS[:2])))
    whole = plan(name)[1]
    wanted, one = plan(name, ["seed=1"])
    assert wanted.seeds == (1,)
    assert one == [run for run in whole if run.seed == 1]
    assert plan(name, ["seed=0,1"])[1] == whole
    assert len({run.signature for run in whole}) == len(whole) == 8


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("seed=0,0", "seed=0,0 must be whole numbers, each once"),
        ("seed=x", "seed=x must be whole numbers"),
        ("prompt=a head", "the claims of made_up are about its own sentences"),
    ],
)
def test_runs_that_would_count_twice_are_not_planned(tmp_path: Path, word: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        plan(str(write_file(tmp_path, ablation())), [word])
