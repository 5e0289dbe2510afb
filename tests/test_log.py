"""Loggers: the file continues where the checkpoint is, pictures are files of their own."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image

from headstudio.log import JsonlLogger, Loggers, NoLogger, pictures


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_resumed_run_drops_the_lines_that_its_checkpoint_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = JsonlLogger(path)
    first.start(0)
    for step in range(5):
        first.values(step, {"loss": float(step)})
    with path.open("a") as file:
        file.write('{"step": 5, "lo')  # killed in the middle of a line
    second = JsonlLogger(path)
    second.start(3)
    second.values(3, {"loss": 30.0})
    assert [(line["step"], line["loss"]) for line in lines(path)] == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 30.0)]
    seconds = [line["seconds"] for line in lines(path)]
    assert seconds == sorted(seconds)


def test_a_new_run_starts_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for _ in range(2):
        logger = JsonlLogger(path)
        logger.start(0)
        logger.values(0, {"loss": 1.0})
    assert len(lines(path)) == 1


def test_several_loggers_hear_the_same(tmp_path: Path) -> None:
    one, two = JsonlLogger(tmp_path / "one"), JsonlLogger(tmp_path / "two")
    both = Loggers((one, two, NoLogger(directory=tmp_path)))
    both.start(0)
    both.values(7, {"loss": 2.0})
    both.picture(7, "view", torch.zeros(3, 4, 4))
    both.summary({}, {})
    both.close()
    assert lines(tmp_path / "one")[0]["loss"] == lines(tmp_path / "two")[0]["loss"] == 2.0


def test_pictures_are_files_that_can_be_found_by_step(tmp_path: Path) -> None:
    logger = JsonlLogger(tmp_path / "metrics.jsonl")
    logger.start(0)
    logger.picture(20, "view", torch.full((3, 4, 6), 1.0))
    logger.picture(7, "view", torch.zeros(3, 4, 6))
    logger.picture(7, "snapshot", tmp_path / "written-already.png")
    found = pictures(tmp_path, "view")
    assert list(found) == [7, 20]
    with Image.open(found[20]) as picture:
        assert picture.size == (6, 4)
        assert picture.getextrema() == ((255, 255),) * 3
    assert pictures(tmp_path, "snapshot") == {}
