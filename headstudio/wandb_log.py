"""`logger=wandb`: a run in W&B, with or without a server. docs/wandb.md says what is where."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from headstudio.errors import UserError
from headstudio.log import PICTURE_FOLDERS, pictures, read_lines
from headstudio.quantities import MACHINE, PICTURES, SECONDS
from headstudio.wandb_files import Mode, first_line, recorded_steps, segments

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

log = logging.getLogger(__name__)

SUMMARIES = {f"{SECONDS}/*": "mean", f"{MACHINE}/*": "max"}
"""What of a quantity's history its summary is; of all others it is the last value."""


class WandbLogger:
    """A W&B run whose id is the run's signature, so that a resumed run goes on in the same one.

    A killed process leaves W&B's files behind its checkpoint or ahead of it, or empty. So every process begins its own
    file with all that the run has logged so far (from `metrics.jsonl` and the pictures beside it) and then removes
    those of the processes before: what lies there is at any time one history without gap or repeat. What a server has
    already is not written again.

    Args:
        project: W&B project.
        entity: user or team; None is the account's own.
        mode: "offline" (no account, nothing leaves the machine; `wandb sync` sends it later), "online", "disabled".
            Online without an API key or without an answer from the server goes on offline. The environment's
            WANDB_MODE can only lower it: online, offline, disabled.
        job_type, tags, notes: shown by W&B.
        directory: the run's directory; W&B's files lie in its `wandb` folder.
        signature: the run's id.
        name: what W&B shows, without the signature at its end.
        group: the sweep that the run belongs to, None for a single run.
        config: the resolved config, nested.
        options: the option taken of each config group; in W&B's config under `options`, to group by.
        init_timeout_s: how long the server may take to answer at the start.
        finish_timeout_s: how long it may take to receive what is left at the end.

    Raises:
        UserError: for a mode that does not exist, or tags that are no list of words.
    """

    def __init__(
        self,
        *,
        project: str,
        entity: str | None,
        mode: Mode,
        job_type: str | None,
        tags: Sequence[str],
        notes: str | None,
        directory: Path,
        signature: str,
        name: str,
        group: str | None,
        config: Mapping[str, Any],
        options: Mapping[str, str] | None = None,
        init_timeout_s: float = 15.0,
        finish_timeout_s: float = 120.0,
    ) -> None:
        _refuse(mode, tags)
        self._directory, self._signature = directory, signature
        self._recorded: set[int] = set()
        self._last, self._is_lost = -1, False
        self._init_timeout_s, self._finish_timeout_s = init_timeout_s, finish_timeout_s
        self._about: dict[str, Any] = {
            "project": project,
            "entity": entity,
            "job_type": job_type,
            "tags": list(tags),
            "notes": notes,
            "name": name.removesuffix(f"-{signature}"),
            "group": group,
            "config": {**config, "options": dict(options or {})},
        }
        self._before = segments(directory, signature)
        mode = _lowered(mode)
        if mode != "online":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B's client reports on itself even offline
        self._run = self._begin(mode)
        for pattern, summary in SUMMARIES.items():
            self._run.define_metric(pattern, summary=summary)

    def _begin(self, mode: Mode) -> Any:
        """The W&B run, offline if it cannot be online."""
        import wandb

        wandb.finish(exit_code=1)  # of a run that failed in this process, if there is one
        if mode != "online":
            return self._init(mode)
        reason = "there is no API key (`wandb login` keeps one)"
        try:
            if wandb.login(prompt=False, verify=False):
                return self._init("online")
        except Exception as error:  # many kinds: the key may be wrong, the network down, the server silent
            reason = f"online is not possible ({first_line(error)})"
            wandb.teardown(exit_code=1)  # its service still holds the run's id
        run = self._init("offline")
        log.warning("W&B: %s, so this run is logged offline; push it later with: %s", reason, _push(run))
        return run

    def _init(self, mode: Mode) -> Any:
        import wandb

        self.mode = mode
        return wandb.init(
            **self._about,
            mode=mode,
            dir=str(self._directory),
            id=self._signature,
            resume="allow" if mode == "online" else None,
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=self._init_timeout_s,
                finish_timeout=self._finish_timeout_s,
                finish_timeout_raises=True,
            ),
        )

    def start(self, first_step: int) -> None:
        """Log what the processes before this one have logged, as far as no server has it."""
        if self.mode == "disabled":
            return
        sent = [segment for segment in self._before if self.mode == "offline" and segment.may_be_sent]
        self._recorded = set().union(*(recorded_steps(segment.file) for segment in sent))
        self._recorded |= set(range(self._run.starting_step))  # online the server says how far the run is
        for step, row in self._past(first_step):
            self._write(step, row)
        for segment in self._before:
            if not (segment.may_be_sent or self._is_lost):
                shutil.rmtree(segment.file.parent, ignore_errors=True)

    def _past(self, first_step: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """What the run's directory has of the steps before `first_step`, in their order."""
        import wandb

        rows: dict[int, dict[str, Any]] = {}
        for line in read_lines(self._directory / "metrics.jsonl"):
            rows[line["step"]] = {key: value for key, value in line.items() if key not in ("step", "seconds")}
        for name in PICTURE_FOLDERS:
            for step, path in pictures(self._directory, name).items():
                if step < first_step and step not in self._recorded:
                    rows.setdefault(step, {})[f"{PICTURES}/{name}"] = wandb.Image(str(path))
        return ((step, rows[step]) for step in sorted(rows) if step < first_step)

    def _write(self, step: int, row: Mapping[str, Any]) -> None:
        """Add to the row of a step, unless it is there already."""
        self._last = max(self._last, step)
        if step not in self._recorded:
            with self._surviving():
                self._run.log(dict(row), step=step)

    def values(self, step: int, values: Mapping[str, float]) -> None:
        self._write(step, values)

    def picture(self, step: int, name: str, image: Float[Tensor, "3 H W"] | Path) -> None:
        import wandb

        from headstudio.export.pictures import to_uint8

        if self.mode != "disabled" and step not in self._recorded:
            content = str(image) if isinstance(image, Path) else to_uint8(image)
            self._write(step, {f"{PICTURES}/{name}": wandb.Image(content)})

    def summary(self, metrics: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """The scores as W&B's summary; pictures and films one step after the last; the avatar as an artifact."""
        import wandb

        if self.mode == "disabled":
            return
        final: dict[str, Any] = {}
        for name, path in files.items():
            if path.suffix == ".png":
                final[f"{PICTURES}/{name}"] = wandb.Image(str(path))
            elif path.suffix == ".mp4":
                final[f"{PICTURES}/{name}"] = wandb.Video(str(path), format="mp4")
        with self._surviving():
            self._run.summary.update(flat(metrics))
        with self._surviving():
            self._log_avatar(metrics, files)
        self._write(self._last + 1, final)

    def _log_avatar(self, metrics: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """The avatar with its config and its scores; W&B reads the files where they lie, so none is copied."""
        import wandb

        if "avatar" not in files:
            return
        scores = Path(self._run.dir).parent / "metrics.json"
        scores.write_text(json.dumps(dict(metrics), indent=2) + "\n", encoding="utf-8")
        artifact = wandb.Artifact(f"avatar-{self._signature}", type="avatar", metadata=flat(metrics))
        for path in (files["avatar"], self._directory / "config.yaml", scores):
            if path.exists():
                artifact.add_file(str(path), policy="immutable")
        self._run.log_artifact(artifact)

    def close(self) -> None:
        with self._surviving():
            self._run.finish()

    @contextlib.contextmanager
    def _surviving(self) -> Iterator[None]:
        """W&B's own process may be gone: a scheduler that stops a run signals all of its processes at once.

        That must not keep the run from saving. What W&B misses it gets at the next start.
        """
        try:
            yield
        except Exception as error:  # whatever its service raises when it is gone
            if not self._is_lost:
                text = "W&B does not answer (%s); the run goes on, its numbers are in %s"
                log.warning(text, first_line(error), self._directory / "metrics.jsonl")
            self._is_lost = True


def flat(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Scores without nesting, a column each in W&B's tables and plots; lists and `details` are left to the file."""
    found: dict[str, Any] = {}
    for key, value in metrics.items():
        if key == "details":
            continue
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}/")
        elif not isinstance(value, list):
            found[f"{prefix}{key}"] = value
    return found


def _refuse(mode: Any, tags: Any) -> None:
    if mode not in get_args(Mode):
        raise UserError(f"logger.mode={mode!r} must be offline, online or disabled.")
    if isinstance(tags, str) or not isinstance(tags, Sequence) or not all(isinstance(tag, str) for tag in tags):
        raise UserError(f"logger.tags={tags!r} must be a list of words, like [first,try].")


def _lowered(mode: Mode) -> Mode:
    """The lower of the setting and WANDB_MODE, so that an environment can keep a run at home but not send it out."""
    order: list[Mode] = ["disabled", "offline", "online"]
    asked = os.environ.get("WANDB_MODE", mode)
    return min(mode, asked, key=order.index) if asked in order else mode


def _push(run: Any) -> str:
    """The command that sends an offline run to the server."""
    return f"wandb sync {shlex.quote(str(Path(run.dir).parent))}"
