"""The end of a multirun."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from headstudio.sweep.record import Sweep

log = logging.getLogger("headstudio")


class SweepTable(Callback):
    """Hydra's callback: prints and writes table and report; a run that did not finish makes the exit code 1."""

    def __init__(self) -> None:
        self._start = 0.0

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember when: older commands of this sweep are not what is told about."""
        self._start = time.time()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Tell how this command's runs ended, or where they are."""
        from headstudio.sweep.record import Sweep
        from headstudio.sweep.state import read_states
        from headstudio.sweep.table import print_table, write_summary

        sweep = Sweep(Path(str(config.hydra.sweep.dir)).absolute())
        if not (sweep.folder / "commands").is_dir():
            return  # another launcher than ours, or nothing to do
        mine = [c for c in sweep.commands() if c.time >= self._start and c.words == tuple(sys.argv)]
        names = {entry.name for command in mine for entry in command.entries}
        if config.hydra.launcher.get("detach"):
            count = sum(len(command.submitted) for command in mine)
            sys.stdout.write(
                f"{count} runs submitted, {len(names)} in {sweep.root}\n"
                f"  python -m headstudio.sweep watch {_here(sweep.root)}\n"
            )
            return
        states = [state for state in read_states(sweep) if state.name in names]
        if not states:
            return
        write_summary(sweep, states)
        print_table(sweep, states)
        _report(sweep)
        if any(state.state != "finished" for state in states):
            raise SystemExit(1)  # an ordinary exception would only become a warning of Hydra's


def _report(sweep: Sweep) -> None:
    """Write the report and say where. The runs are done and told: what goes wrong here is no more than a warning."""
    from headstudio.report.html import write_report

    try:
        path = write_report(sweep.root)
    except Exception as error:
        log.warning("The report could not be written (%s); python -m headstudio.report html tries again.", error)
    else:
        sys.stdout.write(f"Report: {_here(path)}\n")


def _here(path: Path) -> Path:
    """Relative to the current directory where that is shorter."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
