"""Where numbers and pictures of a run go: always a file, and W&B if asked for."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

log = logging.getLogger(__name__)


class Logger(Protocol):
    """Receives a run's values as they come."""

    def start(self, first_step: int) -> None:
        """The first step that this process does; above 0 it goes on with an interrupted run."""

    def values(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step."""

    def picture(self, step: int, name: str, image: Float[Tensor, "3 H W"]) -> None:
        """One RGB picture in [0, 1]."""

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

    def picture(self, step: int, name: str, image: Float[Tensor, "3 H W"]) -> None: ...

    def summary(self, metrics: Mapping[str, Any], files: Mapping[str, Path]) -> None: ...

    def close(self) -> None: ...


class JsonlLogger:
    """One line of JSON per logged step, in `metrics.jsonl`.

    Args:
        path: the file. If it exists it is continued: lines of the first step and later are dropped, because a killed
            process may have logged steps that its checkpoint does not know.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before, self._start = 0.0, time.monotonic()

    def start(self, first_step: int) -> None:
        kept = [line for line in _lines(self._path) if line["step"] < first_step]
        self._before = float(kept[-1].get("seconds", 0.0)) if kept else 0.0
        self._start = time.monotonic()
        self._path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def values(self, step: int, values: Mapping[str, float]) -> None:
        seconds = round(self._before + time.monotonic() - self._start, 3)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "seconds": seconds, **values}) + "\n")

    def picture(self, step: int, name: str, image: Float[Tensor, "3 H W"]) -> None:
        """Pictures are files of their own."""

    def summary(self, metrics: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """The summary is `metrics.json`."""

    def close(self) -> None:
        """Every line is already written."""


class WandbLogger:
    """A W&B run whose id is the run's signature, so that a resumed run continues its curves.

    A killed process leaves W&B's files out of step with its checkpoint: some of its last steps are missing there, or
    stand there although the checkpoint is older. At the start what is missing is taken from `metrics.jsonl`, and what
    stands there is not written again, so that each step is there once.

    Args:
        project: W&B project.
        entity: user or team; None is the account's own.
        mode: "offline" (no account, nothing leaves the machine; `wandb sync` sends it later), "online", "disabled".
        directory: the run's directory; W&B's files lie in its `wandb` folder.
        signature: the run's id.
        name: what W&B shows.
        group: the sweep that the run belongs to, None for a single run.
        config: the resolved config, nested.
    """

    def __init__(
        self,
        *,
        project: str,
        entity: str | None,
        mode: Literal["offline", "online", "disabled"],
        directory: Path,
        signature: str,
        name: str,
        group: str | None,
        config: Mapping[str, Any],
    ) -> None:
        import wandb

        from headstudio.wandb_files import recorded_steps

        self._steps, self._is_lost = directory / "metrics.jsonl", False
        self._recorded = recorded_steps(directory / "wandb", signature) if mode == "offline" else set()
        self._run = wandb.init(
            project=project,
            entity=entity,
            mode=mode,
            dir=str(directory),
            id=signature,
            name=name,
            group=group,
            config=dict(config),
            resume="allow",
            settings=wandb.Settings(silent=True, console="off"),
        )

    def start(self, first_step: int) -> None:
        if self._run.starting_step:  # online, W&B itself knows how far the run is
            self._recorded |= set(range(self._run.starting_step))
        for line in _lines(self._steps):
            if line["step"] < first_step:
                self.values(line["step"], {key: v for key, v in line.items() if key not in ("step", "seconds")})

    def values(self, step: int, values: Mapping[str, float]) -> None:
        if step not in self._recorded:
            with self._surviving():
                self._run.log(dict(values), step=step)

    def picture(self, step: int, name: str, image: Float[Tensor, "3 H W"]) -> None:
        import wandb

        if step in self._recorded:
            return
        array = (image.detach().clamp(0, 1).permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        with self._surviving():
            self._run.log({name: wandb.Image(array)}, step=step)

    def summary(self, metrics: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        import wandb

        pictures = {name: wandb.Image(str(path)) for name, path in files.items() if path.suffix == ".png"}
        films = {name: wandb.Video(str(path), format="mp4") for name, path in files.items() if path.suffix == ".mp4"}
        with self._surviving():
            self._run.summary.update(dict(metrics))
            self._run.log({**pictures, **films})

    def close(self) -> None:
        with self._surviving():
            self._run.finish()

    @contextlib.contextmanager
    def _surviving(self) -> Iterator[None]:
        """W&B's own process may be gone: a scheduler that stops a run signals all of its processes at once.

        That must not keep the run from saving. What W&B misses it gets at the next start, from `metrics.jsonl`.
        """
        try:
            yield
        except Exception as error:  # whatever its service raises when it is gone
            if not self._is_lost:
                log.warning("W&B does not answer (%s); the run goes on, its numbers are in %s", error, self._steps)
            self._is_lost = True


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

    def picture(self, step: int, name: str, image: Float[Tensor, "3 H W"]) -> None:
        for logger in self._loggers:
            logger.picture(step, name, image)

    def summary(self, metrics: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        for logger in self._loggers:
            logger.summary(metrics, files)

    def close(self) -> None:
        for logger in self._loggers:
            logger.close()


def _lines(path: Path) -> list[dict[str, Any]]:
    """The readable lines; a process that died while writing leaves half a line, which is dropped."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            log.warning("%s: dropped a half-written line", path)
    return lines
