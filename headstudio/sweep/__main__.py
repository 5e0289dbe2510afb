"""`python -m headstudio.sweep`: see what a sweep does and did, from any shell, and step in.

Nothing here imports torch or Hydra, so that it answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from headstudio.errors import UserError
from headstudio.sweep.record import Sweep

if TYPE_CHECKING:
    from headstudio.sweep.state import RunState

EPILOG = (
    "SWEEP is the directory that the command with -m printed. RUN is a number of the table, a name, or part of one."
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m headstudio.sweep", description=__doc__, epilog=EPILOG)
    actions = top.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(name: str, text: str, *, runs: str | None = "*") -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=text, description=text, epilog=EPILOG)
        action.add_argument("sweep", type=Path, metavar="SWEEP")
        if runs is not None:
            action.add_argument("runs", nargs=runs, metavar="RUN")
        return action

    add("status", "a table of all runs", runs=None).add_argument("--json", action="store_true", help="for programs")
    add("watch", "the table, live, until everything is done", runs=None)
    logs = add("logs", "the end of a run's log; without RUN, of all that went wrong")
    logs.add_argument("-n", "--lines", type=int, default=30, help="how many lines (default: %(default)s)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as the log grows")
    add("cancel", "stop runs (all, without RUN); they save first")
    add("retry", "submit again what failed, died or was stopped, with the code it was submitted with")
    cleaning = add("clean", "remove what finished runs need no more; with RUN, remove those runs")
    cleaning.add_argument("--yes", action="store_true", help="do it, instead of only saying what")
    add("show", "config, code and every attempt of a run", runs="+")
    repeat = actions.add_parser("repeat", help="do a run once more, from its directory alone")
    repeat.add_argument("run", type=Path, metavar="RUN_DIRECTORY")
    repeat.add_argument("into", type=Path, metavar="INTO")
    return top


def main(words: Sequence[str] | None = None) -> int:
    """Do one action; the user's mistakes are one sentence and exit code 2."""
    arguments = parser().parse_args(words)
    try:
        return _do(arguments)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _do(arguments: argparse.Namespace) -> int:
    from headstudio.sweep import actions

    if arguments.action == "repeat":
        return actions.repeat(arguments.run, arguments.into)
    from headstudio.sweep.state import read_states

    sweep = Sweep.open(arguments.sweep)
    if arguments.action == "watch":
        return _watch(sweep)
    states = read_states(sweep)
    if arguments.action == "status":
        return _status(sweep, states, as_json=arguments.json)
    named = bool(arguments.runs)
    states = actions.chosen(sweep, arguments.runs, states)
    if arguments.action == "logs":
        return _logs(states, arguments.lines, named=named, follow=arguments.follow)
    if arguments.action == "cancel":
        sys.stdout.write(actions.cancel(sweep, states) + "\n")
    elif arguments.action == "retry":
        sys.stdout.write(actions.retry(sweep, states, named=named) + "\n")
        sys.stdout.write(f"  python -m headstudio.sweep watch {arguments.sweep}\n")
    elif arguments.action == "show":
        sys.stdout.write("\n\n".join(actions.show(sweep, state) for state in states) + "\n")
    elif arguments.action == "clean":
        paths, text = actions.clean(sweep, states, named=named)
        if arguments.yes:
            actions.remove(paths)
        sys.stdout.write(f"Removed {text}.\n" if arguments.yes else f"Would remove {text}; add --yes.\n")
    return 0


def _status(sweep: Sweep, states: Sequence[RunState], *, as_json: bool) -> int:
    from rich.console import Console

    from headstudio.sweep.table import status_table

    if as_json:
        sys.stdout.write(json.dumps([asdict(state) for state in states], default=str, indent=1) + "\n")
        return 0
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(status_table(sweep, states))
    return 0


def _watch(sweep: Sweep) -> int:
    from headstudio.sweep.state import read_states
    from headstudio.sweep.table import print_table, write_summary
    from headstudio.sweep.watch import follow

    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    every_s = max(command.engine.look_every_s for command in sweep.commands())
    states = follow(sweep, lambda: read_states(sweep), every_s=every_s)
    write_summary(sweep, states)
    print_table(sweep, states)
    return int(any(state.state != "finished" for state in states))


def _logs(states: Sequence[RunState], lines: int, *, named: bool, follow: bool) -> int:
    from headstudio.sweep.actions import last_words

    wrong = [state for state in states if named or state.state in ("failed", "killed", "stopped")]
    if not wrong:
        sys.stdout.write("Nothing went wrong; name a run to see its log.\n")
    for state in wrong:
        sys.stdout.write(f"== {state.name}: {state.state} {state.reason}\n== {state.log}\n")
        sys.stdout.write("\n".join(last_words(state, lines if named else min(lines, 8))) + "\n\n")
    if follow and len(wrong) == 1 and wrong[0].log is not None:
        _follow_file(wrong[0].log)
    return 0


def _follow_file(path: Path, every_s: float = 0.5) -> None:
    """Print what is added to a file, until Ctrl-C."""
    with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as file:
        file.seek(0, 2)
        while True:
            sys.stdout.write(file.read())
            sys.stdout.flush()
            time.sleep(every_s)


if __name__ == "__main__":
    sys.exit(main())
