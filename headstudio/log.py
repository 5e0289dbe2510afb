"""Where numbers and pictures of a run go: always into its directory, and to W&B if asked for (`wandb_log.py`)."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from headstudio.quantities import SNAPSHOT, VIEW

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

log = logging.getLogger(__name__)

PICTURE_FOLDERS = {VIEW: "views", SNAPSHOT: "snapshots"}
"""Where in a run's directory the pictures of each name lie, each as `picture_name` says."""


def picture_name(step: int) -> str:
    """A picture's file name; names sort as the steps do."""
    return f"step_{step:06d}.png"


def pictures(directory: Path, name: str) -> dict[int, Path]:
    """The pictures of one name in a run's directory, by step."""
    found = (directory / PICTURE_FOLDERS[name]).glob("step_*.png")
    return {int(path.stem.removeprefix("step_")): path for path in sorted(found)}


class Logger(Protocol):
    """Receives a run's values as they come."""

    def start(self, first_step: int) -> None:
        """The first step that this process does; above 0 it goes on with an interrupted run."""

    def values(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step."""

    def picture(self, step: int, name: str, image: Float[Tensor, "3 H W"] | Path) -> None:
        """One RGB picture in [0, 1], or a file that holds it."""

    def summary(self, metrics: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """What stands at the end: the scores, and the files worth looking at."""

    def close(self) -> None:
        """Nothing comes after this."""


class NoLogger:
    """`logger=none`: the run's directory is all there is."""

    def __init__(self, **run: Any) -> None:
        """Takes what every logger takes, and keeps nothing of it."""

    def start(self, first_step: int) -> None: ...

    def values(self, step: int, values: Mapping[str, float]) -> None: ...

    def picture(self, step: int, name: str, image: Float[Tensor, "3 H W"] | Path) -> None: ...

    def summary(self, metrics: Mapping[str, Any], files: Mapping[str, Path]) -> None: ...

    def close(self) -> None: ...


class JsonlLogger:
    """One line of JSON per logged step, in `metrics.jsonl`, and pictures in folders beside it.

    Args:
        path: the file. If it exists it is continued: lines of the first step and later are dropped, because a killed
            process may have logged steps that its checkpoint does not know.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before, self._start = 0.0, time.monotonic()

    def start(self, first_step: int) -> None:
        kept = [line for line in read_lines(self._path) if line["step"] < first_step]
        self._before = float(kept[-1].get("seconds", 0.0)) if kept else 0.0
        self._start = time.monotonic()
        self._path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def values(self, step: int, values: Mapping[str, float]) -> None:
        seconds = round(self._before + time.monotonic() - self._start, 3)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "seconds": seconds, **values}) + "\n")

    def picture(self, step: int, name: str, image: Float[Tensor, "3 H W"] | Path) -> None:
        """A file in the folder of its name; what is a file already stays as it is."""
        from headstudio.export.pictures import write_picture

        if not isinstance(image, Path):
            folder = self._path.parent / PICTURE_FOLDERS[name]
            folder.mkdir(exist_ok=True)
            write_picture(image, folder / picture_name(step))

    def summary(self, metrics: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """The summary is `metrics.json`."""

    def close(self) -> None:
        """Every line is already written."""


class Loggers:
    """Several loggers as one."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self._loggers = tuple(loggers)

    def start(self, first_step: int) -> None:
        for logger in self._loggers:
            logger.start(first_step)

    def values(self, step: int, values: Mapping[str, float]) -> None:
        for logger in self._loggers:
            logger.values(step, values)

    def picture(self, step: int, name: str, image: Float[Tensor, "3 H W"] | Path) -> None:
        for logger in self._loggers:
            logger.picture(step, name, image)

    def summary(self, metrics: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        for logger in self._loggers:
            logger.summary(metrics, files)

    def close(self) -> None:
        for logger in self._loggers:
            logger.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The readable lines; a process that died while writing leaves half a line, which is dropped."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            log.warning("%s: dropped a half-written line", path)
    return lines
