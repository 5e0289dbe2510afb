"""One run after the other in this very process: for a debugger, and for looking at errors as they come."""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from headstudio import claim
from headstudio.sweep.engine import Seen

if TYPE_CHECKING:
    from headstudio.sweep.record import Command, Sweep

log = logging.getLogger("headstudio")


@dataclass(frozen=True, kw_only=True)
class InProcess:
    """`hydra/launcher=debug`.

    Args:
        post_mortem: open pdb where a run failed.
    """

    look_every_s: ClassVar[float] = 0.5

    post_mortem: bool

    def check(self) -> None:
        """Nothing is needed."""

    def submit(self, sweep: Sweep, command: Command) -> dict[str, str]:
        """Does the runs; a failed one lets the others go on.

        Raises:
            KeyboardInterrupt: if stopped; the run that was going on has saved.
        """
        import pdb

        import cloudpickle
        from submitit.core.utils import JobPaths

        from headstudio.sweep.job import Job

        ids = command.numbered()
        sweep.save(command.with_jobs(ids))
        for name, entry in command.submitted.items():
            try:
                result = Job((sweep.root / name).absolute(), entry.code, "")()
            except Exception as error:
                log.error("%s failed:\n%s", name, "".join(traceback.format_exception(error)))
                if self.post_mortem:
                    pdb.post_mortem(error.__traceback__)
                continue
            except SystemExit as stop:
                raise KeyboardInterrupt(f"Stopped; start the same command again to go on ({stop.code}).") from stop
            path = JobPaths(sweep.jobs, ids[name], 0).result_pickle
            path.write_bytes(cloudpickle.dumps(("success", result)))
        return ids

    def ask(self, sweep: Sweep, command: Command) -> Mapping[str, Seen] | None:
        if not command.owner.is_alive(math.inf, lambda job: None):
            return {}
        waiting = {}
        for name, entry in command.submitted.items():
            last = claim.latest(sweep.root / name)
            if last is None or last.started < command.time:
                waiting[entry.job] = Seen("PENDING", True)
        return waiting

    def cancel(self, sweep: Sweep, command: Command, names: frozenset[str]) -> None:
        """Runs in this process are stopped with Ctrl-C."""

    def log(self, sweep: Sweep, job: str) -> Path:
        return Path()
