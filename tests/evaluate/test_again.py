"""Scores of finished runs, computed again from their directories."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import run

from headstudio.runstate import RunPaths
from headstudio.sweep.state import read_scores

SMALL = ("scale=smoke", "scale.steps=3", "scale.gallery_size=32", "scale.gallery_seconds=0.1", "densify=none")


def called(*words: str, cwd: Path, code: int = 0) -> str:
    done = run(*words, cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_what_numbers_are_means_of_is_not_shown_and_added_scores_are(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    paths.metrics.write_text(json.dumps({"a": 1, "b": {"c": 2.0}, "details": {"clip": {"among": 64}}}))
    (tmp_path / "scores_x.json").write_text(json.dumps({"settings": ["metrics=x"], "a": 5, "d": 0.5}))
    (tmp_path / "scores_y.json").write_text("{half a")
    assert read_scores(paths) == {"a": 1.0, "b.c": 2.0, "d": 0.5}  # the run's own number wins


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "holds no finished run"),
        ([".", "reg=none"], "reg=none: only metrics can be chosen here"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, words: list[str], told: str) -> None:
    out = called("headstudio.evaluate.__main__", *words, cwd=tmp_path, code=2)
    assert told in out
    assert "Traceback" not in out


@pytest.mark.slow
def test_a_run_is_judged_again_from_its_directory_alone(tmp_path: Path) -> None:
    called("headstudio.run", *SMALL, "metrics=ablation", "hydra.run.dir=made/run", cwd=tmp_path)
    shutil.move(tmp_path / "made" / "run", tmp_path / "moved")
    for name in ("checkpoint", "turntable.mp4", "animation.mp4", "grid.png"):
        (tmp_path / "moved" / name).unlink()
    metrics = tmp_path / "moved" / "metrics.json"
    stored = json.loads(metrics.read_text())
    assert {"clip_score", "alignment_rest", "landmark_error", "color_bleeding", "stray_share"} <= stored.keys()
    assert {"silhouette_iou", "coverage_motion", "mouth_shown"} <= stored.keys()
    assert list(stored["trace"]) == ["steps", "alignment", "alignment_early", "coverage", "coverage_early"]
    assert len(stored["details"]["clip"]["clip"]["cosine"]) == 24
    out = called("headstudio.evaluate.__main__", "moved", cwd=tmp_path)
    count = int(out.split(": ")[1].split(" of ")[0])
    assert f"{count} of {count} scores come out the same" in out
    assert count >= 20

    metrics.write_text(json.dumps(stored | {"clip_score": stored["clip_score"] + 1e-6}))
    out = called("headstudio.evaluate.__main__", "moved", cwd=tmp_path, code=1)
    assert "clip_score:" in out
    assert f"{count - 1} of {count}" in out

    called("headstudio.evaluate.__main__", "moved", "metrics=semantic", "metrics.stray.reach=0.01", cwd=tmp_path)
    (added,) = RunPaths(tmp_path / "moved").more_scores()
    again = json.loads(added.read_text())
    assert again["stray_share"] > stored["stray_share"]
    assert again["stray_distance"] == stored["stray_distance"]
    assert "clip_score" not in again
    assert again["settings"] == ["metrics=semantic", "metrics.stray.reach=0.01"]

    wrong = called("headstudio.evaluate.__main__", "moved", "metrics=clap", cwd=tmp_path, code=2)
    assert "metrics=clap does not exist" in wrong
