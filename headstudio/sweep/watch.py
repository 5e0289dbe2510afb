"""Looking on while a sweep's runs are done."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from headstudio.report.refresh import Refresher
from headstudio.sweep.state import OPEN, RunState, read_states
from headstudio.sweep.table import headline, live_table

if TYPE_CHECKING:
    from headstudio.sweep.record import Command, Sweep

log = logging.getLogger("headstudio")


def wait(sweep: Sweep, command: Command, names: Sequence[str]) -> list[RunState]:
    """Until these runs are done, showing them meanwhile; returns how they ended, in this order.

    Raises:
        KeyboardInterrupt: on Ctrl-C. On a cluster the runs go on; runs on this machine save and stop.
    """
    wanted = set(names)

    def look() -> list[RunState]:
        return [state for state in read_states(sweep) if state.name in wanted]

    try:
        states = follow(sweep, look, every_s=command.engine.look_every_s, with_last_report=False)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(_goodbye(sweep, command, look, str(stop))) from None
    return sorted(states, key=lambda state: names.index(state.name))


def follow(
    sweep: Sweep,
    look: Callable[[], list[RunState]],
    *,
    every_s: float,
    settle_s: float = 3.0,
    with_last_report: bool = True,
) -> list[RunState]:
    """Show the runs until none is open, and keep the sweep's report fresh; returns their last states.

    A run that seems lost may be one whose last word has not reached this machine's view of the file server, so the end
    is believed when nothing has changed for `settle_s`.

    Args:
        sweep: whose runs.
        look: how they stand now.
        every_s: how often that is asked.
        settle_s: how long a lost run may turn out not to be.
        with_last_report: whether the report is written at the end too.
    """
    lost_since: float | None = None
    with _shown(sweep) as show, Refresher(sweep.root, with_last=with_last_report) as report:
        while True:
            began = time.process_time()  # waiting for a scheduler's answer costs the runs nothing
            states = look()
            show(states)
            report.see(states)
            took = time.process_time() - began
            if not any(state.state in OPEN for state in states):
                lost = any(state.state == "killed" for state in states)
                lost_since = lost_since or time.monotonic()
                if not lost or time.monotonic() - lost_since >= settle_s:
                    return states
            else:
                lost_since = None
            time.sleep(max(every_s, min(49 * took, 5.0)))  # a fiftieth of one core's time; the rest is the runs'


@contextlib.contextmanager
def _shown(sweep: Sweep) -> Iterator[Callable[[list[RunState]], None]]:
    """A live table in a terminal; elsewhere a line for every change of a run, and the counts now and then."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield lambda states: live.update(live_table(sweep, states, height=console.height), refresh=True)
        return
    before: dict[str, str] | None = None
    spoke = time.monotonic()

    def lines(states: list[RunState]) -> None:
        nonlocal before, spoke
        for state in states:
            known = before.get(state.name, "queued") if before is not None else state.state
            if known != state.state:
                log.info("%s %s%s", state.name, state.state, f": {state.reason}" if state.reason else "")
        before = {state.name: state.state for state in states}
        if time.monotonic() - spoke > 30:
            spoke = time.monotonic()
            log.info("%s", headline(states))

    yield lines


def _goodbye(sweep: Sweep, command: Command, look: Callable[[], list[RunState]], said: str) -> str:
    """What Ctrl-C comes to."""
    from headstudio.sweep.local import Local

    if not isinstance(command.engine, Local) or not command.submitted:
        return said or (
            f"The runs go on. See them with: python -m headstudio.sweep watch {sweep.root}    "
            f"stop them with: python -m headstudio.sweep cancel {sweep.root}"
        )
    log.info("Stopping: the runs save first. (A second Ctrl-C leaves them to themselves.)")
    command.engine.cancel(sweep, command, frozenset(command.submitted))
    while any(state.state == "running" and state.name in command.submitted for state in look()):
        time.sleep(0.3)
    return f"Stopped; everything is saved in {sweep.root}. Start the same command again to go on from there."
