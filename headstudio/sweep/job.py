"""What a worker does: take the run, do it, and when it is told to stop, save and ask to be started again.

python -m headstudio.sweep.job RUN     the run that is frozen in a directory, in this process
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headstudio import claim
from headstudio.errors import UserError
from headstudio.interrupt import STOPPING, Interrupted, stopping_at_once
from headstudio.runstate import RunPaths
from headstudio.sweep import freeze, slurm

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from submitit.helpers import DelayedSubmission

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What submitit pickles: it names the frozen run and holds nothing of it.

    Args:
        root: the run's directory.
        code: hash of the code it runs with.
        log: where its output goes; `%j` is the job's id.
        max_requeues: how often SLURM may start it again before it counts as failed.
    """

    root: Path
    code: str
    log: str
    max_requeues: int = 0

    def __call__(self) -> JobReturn | None:
        """Do the run; None if another process has it.

        Raises:
            Exception: what made the run fail, so that the scheduler shows the job as failed.
        """
        requeue = signal.getsignal(signal.SIGUSR2)  # submitit's: dumps `checkpoint()`, asks SLURM, exits
        log_file = self.log.replace("%j", claim.scheduler_job())
        with stopping_at_once():
            try:
                with claim.held(self.root, log=log_file, code=self.code) as attempt:
                    try:
                        return self._do_unless_done()
                    except Interrupted as stop:
                        self._stop(stop, attempt.end, requeue)
            except Interrupted as stop:  # while the run was not yet, or no longer, ours
                self._stop(stop, lambda outcome, reason: None, requeue)
            except claim.Busy as busy:
                log.warning("%s", busy)
        return None

    def _do_unless_done(self) -> JobReturn | None:
        if RunPaths(self.root).done.exists():  # another command's job was quicker
            return None
        if slurm.restarts() > self.max_requeues:
            raise TooOften(self._too_often())
        return do(self.root)

    def checkpoint(self) -> DelayedSubmission:
        """What submitit starts again: the same, as everything else is in the run's directory."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _stop(self, stop: Interrupted, end: Callable[[str, str], None], requeue: object) -> None:
        """Everything is saved: be started again if the scheduler only wants its node back, else end here.

        SLURM warns with SIGUSR2 before the time limit. SIGTERM has four meanings, told apart by what SLURM says of the
        job: preempted and already to be started again; preempted, but with time to leave, after which only a job that
        asks is started again; cancelled; out of time in spite of the warning.
        """
        for number in STOPPING:  # one goodbye is enough (signals come to the main thread, so this is it)
            signal.signal(number, signal.SIG_IGN)
        name = signal.Signals(stop.number).name
        own = slurm.own_job()
        if own is None:
            end("stopped", str(stop))
        elif own.is_requeued:
            end("requeued", f"Preempted. {stop}")
        elif stop.number == signal.SIGUSR2 or own.is_preempted:
            if slurm.restarts() >= self.max_requeues:
                raise TooOften(self._too_often())
            end("requeued", f"{name} from SLURM. {stop}")
            log.info("%s: asking SLURM to start this job again", name)
            assert callable(requeue)
            requeue(signal.SIGUSR2, None)
        else:
            why = "out of time" if own.reason == "TimeLimit" else "cancelled"
            end("stopped", f"{name} from SLURM, {why} ({own.state}). {stop}")
        sys.exit(128 + stop.number)

    def _too_often(self) -> str:
        return (
            f"SLURM stopped this run {self.max_requeues + 1} times, hydra.launcher.max_requeues={self.max_requeues} "
            "allows no further start; start the sweep's command again to go on from the last checkpoint."
        )


class TooOften(UserError):
    """The run has used up its starts."""


def do(root: Path) -> JobReturn:
    """Do the run that is frozen in a directory, there, in this process.

    Raises:
        Exception: what made it fail.
    """
    from hydra._internal.callbacks import Callbacks
    from hydra.core.utils import JobRuntime, JobStatus, run_job, setup_globals
    from hydra.types import HydraContext
    from omegaconf import open_dict, read_write

    task, config = freeze.thaw_run(root)
    setup_globals()
    JobRuntime.instance().set("name", config.hydra.job.name)
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.job.id = claim.scheduler_job() or config.hydra.job.id
        config.hydra.sweep.dir, config.hydra.sweep.subdir = str(root.parent), root.name  # wherever it was moved
        folder = Path(config.hydra.runtime.cwd)
    if folder.is_dir():
        os.chdir(folder)  # relative paths mean what they meant when the command was given
    result: JobReturn = run_job(
        hydra_context=HydraContext(config_loader=None, callbacks=Callbacks(config)),  # type: ignore[arg-type]
        task_function=task,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    if result.status != JobStatus.COMPLETED:
        raise result._return_value
    return result


if __name__ == "__main__":
    do(Path(sys.argv[1]).absolute())
