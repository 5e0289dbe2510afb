"""What `python -m headstudio.report ablation` writes, on runs that nobody ran and whose answer is known."""

from __future__ import annotations

import random
import re
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from made_up_ablation import PROMPTS, ablation, claim, write_file, write_runs

from headstudio.errors import UserError
from headstudio.report import __main__ as command
from headstudio.report.ablation import write_index, write_results
from headstudio.report.ablation_page import INDEX, NOTES, in_words
from headstudio.report.ablation_runs import Planned, Result, plan
from headstudio.report.ablation_verdict import judge

FOUND = claim("stray_share")
NULL = claim("clip_score")


def scores(arm: str, sentence: int, seed: int) -> dict[str, Any]:
    """`full` has 0.02 less stray opacity; the CLIP scores do not care."""
    noise = random.Random(f"{arm} {sentence} {seed}")
    stray = 0.05 + 0.01 * sentence - (0.02 if arm == "full" else 0.0) + noise.gauss(0, 0.002)
    clip = 0.7 + 0.01 * sentence + noise.gauss(0, 0.01)
    trace = {"steps": [0, 50, 100], "alignment": [0.0, 0.5, None], "coverage": [0.5, 0.9, 1.0]}
    return {"stray_share": stray, "clip_score": clip, "seconds": 90.0, "trace": trace}


class Made:
    """An ablation, its runs, and a folder for its results."""

    def __init__(self, folder: Path) -> None:
        self.wanted = ablation(FOUND, NULL)
        places = product(self.wanted.arms, self.wanted.prompts, self.wanted.seeds)
        self.planned = [Planned(*place, f"{number:016x}") for number, place in enumerate(places)]
        self.runs, self.out = folder / "runs", folder / "results" / "made_up"
        write_runs(self.runs, self.planned, scores)

    def write(self) -> str:
        return write_results("made_up", [], [self.runs], self.out)

    def page(self) -> str:
        return (self.out / "README.md").read_text(encoding="utf-8")

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.out.iterdir()}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Without composing: the signatures are made up, too."""
    found = Made(tmp_path)
    monkeypatch.setattr("headstudio.report.ablation.plan", lambda name, own: (found.wanted, found.planned))
    return found


def test_the_command_finds_composed_runs_and_writes_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the words of the command line, with real signatures."""
    small = ablation(claim("stray_share", prompts=PROMPTS[:2]), prompts=PROMPTS[:2], seeds=[0])
    name, runs, out = str(write_file(tmp_path, small)), tmp_path / "runs", tmp_path / "out"
    write_runs(runs, plan(name, ["scale=smoke"])[1], scores)
    assert command.main(["ablation", name, "scale=smoke", "--runs", str(runs), "--out", str(out)]) == 0
    assert capsys.readouterr().out == (
        "made_up: 1 undecided; it has no figure yet (0 of 4 heads are there to draw); its curves are of 4 runs\n"
    )
    assert {path.name for path in out.iterdir()} == {"README.md", "runs.csv", "curves.svg"}
    assert f"python -m headstudio.run -m +ablation={name} scale=smoke\n" in (out / "README.md").read_text()


def test_a_planted_difference_is_found_and_a_null_is_not(made: Made) -> None:
    made.write()
    page = made.page()
    assert page.startswith("# Made up\n")
    assert "**In short:** 1 supported, 1 undecided\n" in page
    told = re.search(r"\*\*The full method has the better stray_share\.\*\* (.*)", page)
    assert told is not None
    assert re.fullmatch(
        r"Supported: \*full\* is better than \*no regularisation\* by 0\.0(19|20|21)\d in Stray share \(95 % interval "
        r"\+0\.0\d+ to \+0\.0\d+, p [=<] 0\.00\d, 6 sentences x 2 seeds\)\. It is better for 6 of 6 sentences\.",
        told[1],
    )
    null = re.search(r"\*\*The full method has the better clip_score\.\*\* (.*)", page)
    assert null is not None
    assert re.fullmatch(
        r"Undecided: .* in CLIP score \(.*\), which may be chance\. With so many sentences and such scatter, a "
        r"gain of \+0\.0\d+ or more would have been shown\.",
        null[1],
    )
    assert "24 of 24 runs, trained by the code of 0123456 in 0.6 hours" in page
    assert "| full | 12 | " in page
    assert "| no regularisation `reg=none` | 12 | " in page


def test_the_same_runs_give_the_same_bytes_from_their_rows_too(made: Made) -> None:
    made.write()
    before = made.files()
    made.write()
    assert made.files() == before
    shutil.rmtree(made.runs)
    told = made.write()
    assert made.files() == before
    assert "its curves are kept as they are (0 of 24 runs are there to draw)" in told


def test_missing_runs_are_counted_and_decide_nothing(made: Made) -> None:
    shutil.rmtree(made.runs / "run-000")
    told = made.write()
    assert told.startswith("made_up: 2 unfinished (1 of 24 runs are missing)")
    assert told.endswith("made by: python -m headstudio.run -m +ablation=made_up")
    assert "Unfinished: 11 of 12 pairs of runs are there and have the number Stray share." in made.page()
    assert "| full | 11 | " in made.page()


def test_without_a_run_of_the_present_settings_nothing_is_touched(made: Made) -> None:
    made.write()
    before = made.files()
    made.planned[:] = [replace(run, signature=f"other-{run.signature}") for run in made.planned]
    assert made.write() == (
        f"made_up: none of its 24 runs is there, made by: python -m headstudio.run -m +ablation=made_up; "
        f"{made.out} is left as it is"
    )
    assert made.files() == before


def test_notes_are_kept_and_a_page_without_marks_is_not_overwritten(made: Made) -> None:
    made.write()
    page = made.out / "README.md"
    page.write_text(made.page().replace("\n".join(NOTES), f"{NOTES[0]}\nBeards *shrink*.\n\nA lot.\n{NOTES[1]}"))
    made.write()
    assert f"{NOTES[0]}\n\nBeards *shrink*.\n\nA lot.\n\n{NOTES[1]}\n" in made.page()
    before = made.page()
    made.write()
    assert made.page() == before
    page.write_text("# By hand\n", encoding="utf-8")
    with pytest.raises(UserError, match="lacks the lines"):
        made.write()
    assert made.page() == "# By hand\n"


def test_the_index_lists_what_lies_there(made: Made) -> None:
    made.write()
    folder = made.out.parent
    write_index(folder)
    assert not (folder / "README.md").exists()
    by_hand = folder / "other"
    by_hand.mkdir()
    (by_hand / "README.md").write_text("# Not made by the command\n", encoding="utf-8")
    (folder / "README.md").write_text(f"# Results\n\n{INDEX[0]}\nold\n{INDEX[1]}\n\nMore.\n", encoding="utf-8")
    write_index(folder)
    text = (folder / "README.md").read_text(encoding="utf-8")
    head, rule = "| ablation | verdicts on its claims |", "| --- | --- |"
    row = "| [Made up](made_up/README.md) | 1 supported, 1 undecided |"
    assert text == "\n".join(["# Results\n", INDEX[0], "", head, rule, row, "", INDEX[1], "", "More.\n"])
    write_index(folder)
    assert (folder / "README.md").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fig7_f3ds"], "Did you mean 'fig7_f3dgs'"),
        (["fig7_f3dgs", "scale"], "'scale' is no setting"),
        (["all", "--out", "x"], "--out is for one ablation"),
    ],
)
def test_mistakes_are_one_sentence(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["ablation", *words]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("words", [["fig6_no_mouth", "seed=0"], ["all", "experiment=paper"], ["mine/fig7_f3dgs.yaml"]])
def test_other_settings_than_ours_do_not_overwrite_our_results(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(["ablation", *words]) == 2
    assert "and --out FOLDER for other settings or another file" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_of_runs_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").mkdir()
    words = ["fig6_no_mouth", "--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs"), "seed=0"]
    assert command.main(["ablation", *words]) == 2
    assert "--runs seed=0: there is no such folder; KEY=VALUE stand before --runs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_margin_is_told_as_such_and_a_number_without_room_too() -> None:
    """Equal but for one pair: a margin is kept with certainty, a gain cannot be seen, and both say why."""
    wanted = ablation(claim("alignment_animation", margin=0.05), claim("alignment_animation"))
    planned = [Planned(*place, "") for place in product(wanted.arms, wanted.prompts, wanted.seeds)]
    found = [Result(run, "", {"alignment_animation": 0.96 if run == planned[0] else 1.0}) for run in planned]
    kept, gained = (in_words(finding, wanted) for finding in judge(wanted, found))
    ties = "It is the same in 11 of 12 pairs of runs, so it can hardly tell these two apart."
    assert kept.startswith("Supported: ")
    assert re.search(r"p [=<] 0\.00\d against a loss of more than 0\.05, 6 sentences x 2 seeds", kept)
    assert kept.endswith(f"; at most 0.05 worse was claimed. {ties}")
    assert gained.startswith("Undecided: ")
    assert gained.endswith(f"which may be chance. {ties}")
