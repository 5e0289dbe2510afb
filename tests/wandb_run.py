"""A run's logging without the run: what the trainer and run.py do with the loggers, told by the words of `main`.

DIRECTORY MODE FIRST LAST [SECONDS]    # with SECONDS it waits, then kills itself
"""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from headstudio.log import JsonlLogger, Loggers
from headstudio.wandb_log import WandbLogger

SIGNATURE = "0123456789abcdef"
PICTURE_EVERY = 4
METRICS = {"signature": SIGNATURE, "clip_score": 0.3, "phase_seconds": {"render": 0.1}, "details": {"clip": [1, 2]}}


def logger(directory: Path, mode: str = "offline", **changes: Any) -> WandbLogger:
    about: dict[str, Any] = {
        "project": "heads",
        "entity": None,
        "mode": mode,
        "job_type": "train",
        "tags": ["first", "try"],
        "notes": "a note",
        "directory": directory,
        "signature": SIGNATURE,
        "name": f"reg-strict-{SIGNATURE}",
        "group": "a-sweep",
        "config": {"reg": {"lambda_pos": 0.1}},
        "options": {"reg": "strict"},
    }
    return WandbLogger(**{**about, **changes})


def results(directory: Path) -> dict[str, Path]:
    """The files of a finished run."""
    files = {name: directory / f"{name}.{kind}" for name, kind in (("grid", "png"), ("turntable", "mp4"))}
    files["avatar"] = directory / "avatar.ply"
    Image.new("RGB", (8, 8)).save(files["grid"])
    files["turntable"].write_bytes(b"film")
    files["avatar"].write_bytes(b"gaussians")
    (directory / "config.yaml").write_text("seed: 0\n")
    return files


def main(words: list[str]) -> None:
    logging.basicConfig(level=logging.INFO)
    directory, mode = Path(words[0]), words[1]
    first, last = map(int, words[2:4])
    kill_after_s = float(words[4]) if words[4:] else None
    loggers = Loggers((JsonlLogger(directory / "metrics.jsonl"), logger(directory, mode, init_timeout_s=3)))
    loggers.start(first)
    for step in range(first, last):
        loggers.values(step, {"loss/total": float(step), "machine/memory_gb": 2.0 if step == 3 else 1.0})
        if step % PICTURE_EVERY == 0:
            loggers.picture(step, "view", torch.full((3, 8, 8), step / 255))
    if kill_after_s == -1:
        return loggers.close()
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(os.getpid(), signal.SIGKILL)
    loggers.summary(METRICS, results(directory))
    loggers.close()
