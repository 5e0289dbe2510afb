"""What the report says of a sweep, read from the page's text: every kind of sweep, and every kind of damage."""

from __future__ import annotations

import html
import json
import random
import re
import shlex
from pathlib import Path

import made_up
import pytest
from made_up import HOSTILE, PROMPTS, REGS, sweep, three_by_three_by_two

from headstudio.errors import UserError
from headstudio.report import __main__ as command_line
from headstudio.report import figures, verdict
from headstudio.report.collect import collect
from headstudio.report.compare import comparisons
from headstudio.report.differences import differences
from headstudio.report.glossary import main_metrics, metric
from headstudio.report.heads import arranged
from headstudio.report.html import write_report
from headstudio.report.page import shell
from headstudio.report.reading import read_curve


def text_of(page: Path) -> str:
    """What one would read on the page: without scripts, styles and marks."""
    content = re.sub(r"<(script|style)\b.*?</\1>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", content)).split())


def seven_seeds() -> list[dict[str, str]]:
    """reg x 7 seeds: just enough pairs for three settings."""
    return [{"reg": reg, "seed": str(seed)} for reg in REGS for seed in range(7)]


def test_a_finished_sweep_is_told_with_its_axes_scores_and_configs(tmp_path: Path) -> None:
    sweep(tmp_path, three_by_three_by_two())
    text = text_of(write_report(tmp_path))
    assert "reg × prompt × seed 3 × 3 × 2: 18 runs finished" in text
    assert "Sentences are easier or harder to fulfil; they are not settings to be ranked." in text
    assert "python -m headstudio.run reg=strict" in text
    assert "lambda_pos" in text
    assert not list(tmp_path.glob(".report.html.*"))


def test_nothing_is_claimed_that_so_few_pairs_cannot_show(tmp_path: Path) -> None:
    """Six pairs of three settings: all agree once in 32, and Holm makes three times that 0.094."""
    sweep(tmp_path, three_by_three_by_two(), films=0)
    text = text_of(write_report(tmp_path))
    assert "Too few runs to tell. Each two settings share 6 pairs of runs; the test needs at least 7" in text
    assert "Add seeds to the command (seed=0,1,2; finished runs are kept)" in text
    assert "3 differences, pair by pair" in text
    assert re.search(r"scaled − none \+0\.04\d \+0\.0\d\d to \+0\.05\d 6 –", text)  # the difference, and no p
    assert "is better than" not in text
    assert "No difference shown" not in text


def test_what_the_runs_show_is_said_the_right_way_round(tmp_path: Path) -> None:
    sweep(tmp_path, seven_seeds(), films=0)
    collection = collect(tmp_path)
    found = differences(collection)
    (reg,) = comparisons(collection, found)
    told = {panel.metric.name: panel.told for panel in reg.panels}
    assert told["clip_score"][1].startswith("reg=scaled is better than reg=none by 0.0")
    assert told["color_bleeding"][1].startswith("reg=scaled is better than reg=none by 0.0")  # less is better
    assert told["alignment_rest"] == ()
    lines = [(f.about, f.kind) for f in verdict.verdict(collection, found, [reg])]
    assert lines.count(("reg", "better")) == 5  # four, and how many more there are
    assert ("reg", "none") in lines  # of alignment nothing is shown


def test_intervals_use_the_views_of_each_run(tmp_path: Path) -> None:
    sweep(tmp_path, [{"prompt": "a bald man"}], films=0)
    (member,) = collect(tmp_path).members
    assert len(member.views["clip_score"]) == 24
    assert len(member.views["clip_score_front"]) == 9
    assert sum(member.views["clip_score"]) / 24 == pytest.approx(member.scores["clip_score"], abs=1e-3)


def test_a_single_run_and_equal_runs_are_not_compared(tmp_path: Path) -> None:
    sweep(tmp_path / "one", [{"prompt": "a bald man"}])
    for root in (tmp_path / "one", tmp_path / "one" / "run-000"):  # a sweep of one, and the run itself
        text = text_of(write_report(root))
        assert "This is a single run" in text
        assert "a bald man" in text
    assert (tmp_path / "one" / "run-000" / "report.html").exists()


def test_only_seeds_are_repeats(tmp_path: Path) -> None:
    sweep(tmp_path, [{"seed": str(seed)} for seed in range(3)], films=0)
    text = text_of(write_report(tmp_path))
    assert "3 seeds" in text
    assert "Seeds are repeats, not settings to rank." in text


def test_without_a_finished_run_the_rest_is_shown(tmp_path: Path) -> None:
    sweep(tmp_path, three_by_three_by_two(), state=lambda number: ("failed", "running", "queued")[number % 3])
    text = text_of(write_report(tmp_path))
    assert "No run has finished There is nothing to compare yet" in text
    assert "6 queued" in text
    assert "Still running." in text
    assert "6 wait in the queue" in text
    assert "ZeroDivisionError: <b>by zero</b> & more" in text  # the log's last line, as text
    assert "Step 191 of 450" in text


def test_damage_is_told_in_place(tmp_path: Path) -> None:
    sweep(tmp_path, three_by_three_by_two())
    (tmp_path / "run-000" / "metrics.json").write_text('{"clip_score": 0.')
    (tmp_path / "run-001" / "turntable.mp4").unlink()
    (tmp_path / "run-002" / "animation.mp4").write_bytes(b"no film")
    with (tmp_path / "run-003" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 400, "guid\nnull\n[]\n')
    (tmp_path / "run-004" / "config.yaml").write_text("a: [")
    text = text_of(write_report(tmp_path))
    assert "run-000: metrics.json is broken: its scores are left out." in text
    assert "run-001: turntable missing." in text
    assert "turntable.mp4: no film" in text
    assert "animation.mp4: broken or cut short" in text
    assert "run-003: 3 of 43 lines of metrics.jsonl cannot be read and are left out." in text
    assert "run-004: config.yaml cannot be read" in text
    assert "18 runs finished" in text


def test_lines_that_are_no_numbers_are_left_out_of_curves(tmp_path: Path) -> None:
    lines = ['{"step": 0, "a": 1.23456, "b": "x", "c": true}', '{"step": 1, "a": NaN}', '{"st']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    problems: list[str] = []
    curve, done = read_curve(tmp_path / "metrics.jsonl", problems)
    assert (curve.steps, curve.values, done) == ((0, 1), {"a": (1.235, None)}, 2)
    assert problems == ["1 of 3 lines of metrics.jsonl cannot be read and are left out"]


def test_a_long_curve_keeps_its_ends(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("".join(f'{{"step": {n}, "a": {n}}}\n' for n in range(1001)))
    curve, done = read_curve(tmp_path / "m", [], most=50)
    assert (curve.steps[0], curve.steps[-1], done) == (0, 1000, 1001)
    assert len(curve.steps) <= 52


def test_hostile_sentences_stay_text(tmp_path: Path) -> None:
    sweep(tmp_path, [{"prompt": HOSTILE, "seed": "0"}, {"prompt": "a bald man", "seed": "0"}])
    page = write_report(tmp_path)
    content = page.read_text(encoding="utf-8")
    assert "<img src=x" not in content
    assert content.count("<script") == content.count("</script") == 3  # data, plotly.js, ours
    assert " ".join(HOSTILE.split()) in text_of(page)
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', content, re.DOTALL)
    assert data is not None
    assert not re.search("[<>&\u2028\u2029]", data[1])
    assert HOSTILE in json.dumps(json.loads(data[1])["curves"], ensure_ascii=False).replace('\\"', '"')


def test_commands_are_what_a_shell_reads_back() -> None:
    words = [f"prompt='{PROMPTS[0]}'", "reg=none", f"prompt={HOSTILE}", "a=$HOME", "x='\"'", "l=[1, 2]", "n='a\\b'"]
    assert shlex.split(shell(*words)) == words
    assert shell("prompt='a bald man'") == "\"prompt='a bald man'\""


def test_two_sweeps_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    sweep(tmp_path / "first", [{"reg": reg, "seed": "0"} for reg in REGS])
    sweep(tmp_path / "second", [{"reg": reg, "seed": "1", "scale": "smoke"} for reg in REGS])
    text = text_of(write_report(tmp_path))
    assert "The runs come from 2 sweeps: first and second." in text
    assert "These are mixed experiments" in text
    collection = collect(tmp_path)
    keys = {key.name for key in differences(collection).keys}
    assert keys == {"reg", "seed", "scale"}  # reg.lambda_pos and reg.scaled only follow reg


def test_differences_of_runs_without_a_sweep_come_from_their_configs(tmp_path: Path) -> None:
    for number, given in enumerate(({"reg": "none", "seed": "0"}, {"reg": "scaled", "seed": "0"})):
        made_up.run(tmp_path / f"r{number}", given, state="finished", films=0, steps=3, noise=random.Random(number))
    found = differences(collect(tmp_path))
    assert [(key.name, key.values, key.along) for key in found.keys] == [
        ("reg.lambda_pos", ("0", "2"), ("reg.scaled",))
    ]


def test_keys_that_nobody_swept_are_named(tmp_path: Path) -> None:
    sweep(tmp_path, [{"reg": reg, "seed": seed} for reg in REGS for seed in "01"], films=0)
    path = tmp_path / "run-003" / "config.yaml"
    path.write_text(json.dumps({**json.loads(path.read_text()), "camera": {"views": 4}}))
    assert differences(collect(tmp_path)).unasked == ("camera.views",)
    assert "keys that the command did not sweep: camera.views." in text_of(write_report(tmp_path))


def test_what_was_measured_differently_is_not_compared(tmp_path: Path) -> None:
    runs = seven_seeds()
    sweep(tmp_path, runs, films=0)
    for number, given in enumerate(runs):
        path = tmp_path / f"run-{number:03d}" / "config.yaml"
        views = 4 if given["reg"] == "none" else 8
        path.write_text(json.dumps({**json.loads(path.read_text()), "metrics": {"clip": {"views": views}}}))
    collection = collect(tmp_path)
    (reg,) = comparisons(collection, differences(collection))
    assert [contrast.pairs for contrast in reg.panels[0].contrasts] == [0, 0, 7]
    assert "measured with different settings of their metrics" in text_of(write_report(tmp_path))


def test_sentences_make_rows_settings_columns_and_seeds_share_a_cell(tmp_path: Path) -> None:
    sweep(tmp_path, three_by_three_by_two(), films=0)
    heads = arranged(range(18), differences(collect(tmp_path)))
    assert heads.columns == tuple(f"reg={reg}" for reg in REGS)
    assert [row.label for row in heads.rows] == list(PROMPTS)
    assert {len(cell) for row in heads.rows for cell in row.cells} == {2}
    assert [head.caption for head in heads.rows[0].cells[1]] == ["seed=0", "seed=1"]
    assert [head.number for head in heads.rows[0].cells[1]] == [6, 7]


def test_plots_are_what_plotly_understands(tmp_path: Path) -> None:
    from plotly.graph_objects import Figure

    sweep(tmp_path, [{"prompt": HOSTILE, "seed": s} for s in "01"] + [{"prompt": "x", "seed": "0"}], films=0)
    collection = collect(tmp_path)
    for comparison in comparisons(collection, differences(collection)):
        for panel in comparison.panels:
            assert len(Figure(figures.strip(panel)).data) == 2 * len(panel.rows)  # raises for a property it lacks
    assert "<script" not in figures.label(HOSTILE, 20, lines=9)


def test_every_metric_has_a_name_and_a_direction() -> None:
    assert metric("clip_score").better == "more"
    assert metric("clip_l14_score_front").label == "CLIP score (front) (l14)"
    assert {metric(n).better for n in ("clip_rank", "seconds", "stray_share", "color_bleeding/lips", "x_error")} == {
        "less"
    }
    assert (metric("nobody_knows").label, metric("nobody_knows").better) == ("nobody_knows", "neither")
    assert main_metrics(["alignment_rest", "x", "clip_rank", "clip_score_front", "clip_score"]) == [
        "clip_score",
        "clip_score_front",
        "alignment_rest",
    ]
    assert metric("gaussians").show(19141.0) == "19\u202f141"
    assert metric("clip_score").show(-0.12345) == "\u22120.123"


def test_mistakes_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["html", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith("There is no directory")
    assert command_line.main(["html", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("There is no run in")
    sweep(tmp_path / "s", [{"seed": "0"}], films=0)
    assert command_line.main(["html", str(tmp_path / "s"), "--out", str(tmp_path / "no" / "x.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert command_line.main(["html", str(tmp_path / "s"), "--out", str(tmp_path / "x.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'x.html'}\n"
    with pytest.raises(UserError, match="cannot be written"):
        write_report(tmp_path / "s", tmp_path / "s")
