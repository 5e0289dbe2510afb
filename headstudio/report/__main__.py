"""`python -m headstudio.report`: a sweep as one HTML file, a W&B report or one picture; the results of an ablation."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from headstudio.errors import UserError


def parser(action: str = "") -> argparse.ArgumentParser:
    """The command line.

    Args:
        action: the one that was chosen, as far as it is known: only its own module is imported.
    """
    top = argparse.ArgumentParser(prog="python -m headstudio.report", description=__doc__)
    actions = top.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "one HTML file that opens anywhere; made at the end of every multirun too"
    html = actions.add_parser("html", help=text, description=text)
    html.add_argument("sweep", type=Path, metavar="SWEEP", help="a sweep's directory, a run's, or one that holds some")
    html.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in SWEEP")
    text = "all heads of a sweep in one picture"
    sheet = actions.add_parser("sheet", help=text, description=text)
    sheet.add_argument("sweep", type=Path, metavar="SWEEP")
    sheet.add_argument("path", type=Path, metavar="FILE")
    sheet.add_argument("--size", type=int, default=192, help="of one picture, pixels (default: %(default)s)")
    text = "what an ablation's runs say of the paper's claims: verdicts, numbers and figures in results/"
    ablation = actions.add_parser("ablation", help=text, description=text)
    if action == "ablation":
        from headstudio.report.ablation import add_arguments as add_arguments_of_ablation

        add_arguments_of_ablation(ablation)
    if find_spec("headstudio.report.wandb") is not None:
        text = "a W&B workspace and report of a project"
        wandb = actions.add_parser("wandb", help=text, description=text)
        if action == "wandb":
            from headstudio.report.wandb import add_arguments

            add_arguments(wandb)
    return top


def main(words: Sequence[str] | None = None) -> int:
    """Do one action; the user's mistakes are one sentence and exit code 2."""
    given = list(sys.argv[1:] if words is None else words)
    arguments = parser(given[0] if given else "").parse_args(given)
    try:
        return _do(arguments)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _do(arguments: argparse.Namespace) -> int:
    if arguments.action == "wandb":
        from headstudio.report.wandb import main as report_to_wandb

        return int(report_to_wandb(arguments))
    if arguments.action == "ablation":
        from headstudio.report.ablation import main as report_ablation

        return report_ablation(arguments)
    if arguments.action == "sheet":
        from headstudio.report.sheet import write_sheet

        count = write_sheet(arguments.sweep, arguments.path, size=arguments.size)
        sys.stdout.write(f"{count} heads in {arguments.path}\n")
        return 0
    from headstudio.report.html import write_report

    sys.stdout.write(f"{write_report(arguments.sweep, arguments.out)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
