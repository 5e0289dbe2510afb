"""What an ablation's runs say of the paper's claims, as files that are small enough to be committed.

    python -m headstudio.report ablation fig7_f3dgs      # results/fig7_f3dgs: README.md, runs.csv, figures

Runs come from their directories; of those that are gone, from the runs.csv that is there already, if they are still the
runs that the present settings would make. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from headstudio.errors import UserError
from headstudio.report.ablation_runs import columns, every_number, finished, plan, read_rows, results, write_rows

ROWS, PAGE, HEADS, CURVES = "runs.csv", "README.md", "heads.jpg", "curves.svg"
TRAINING = "During training: means over an arm's runs, with 95 % intervals"
RUNS = Path("multirun/ablations")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words behind `ablation`."""
    parser.add_argument("name", metavar="NAME", help="of ablations/, or a YAML file; all for each of ablations/")
    parser.add_argument("own", nargs="*", metavar="KEY=VALUE", help="what was set for every arm, as experiment=paper")
    parser.add_argument("--runs", type=Path, nargs="+", default=[RUNS], metavar="FOLDER", help=f"default: {RUNS}")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: results/NAME (not with KEY=VALUE)")


def write_results(name: str, own: Sequence[str], folders: Sequence[Path], out: Path) -> str:
    """Write the results of one ablation, or leave them as they are if there is not one run; returns what is missing.

    Args:
        name: as `ablation.load` takes it.
        own: the user's overrides for every arm.
        folders: where runs lie.
        out: the folder of the results.

    Raises:
        UserError: as `ablation_runs.plan`, or a file in `out` is not what was written there.
    """
    from headstudio.files import put
    from headstudio.report.ablation_curves import write_curves
    from headstudio.report.ablation_figure import caption, write_heads
    from headstudio.report.ablation_page import Page, commands, in_short, notes_of
    from headstudio.report.ablation_verdict import judge

    wanted, planned = plan(name, own)
    found = results(planned, finished(folders), read_rows(out / ROWS))
    make = f"made by: {commands(name, own)[0]}"
    if not found:
        kept = f"; {out} is left as it is" if out.exists() else ""
        return f"{wanted.name}: none of its {len(planned)} runs is there, {make}{kept}"
    notes = notes_of(out / PAGE)
    names, findings = columns(wanted, found), judge(wanted, found)
    out.mkdir(parents=True, exist_ok=True)
    drawn = write_heads(out / HEADS, wanted, found), write_curves(out / CURVES, wanted, found)
    shown = ((HEADS, caption(wanted)), (CURVES, TRAINING))
    figures = [(file, told) for file, told in shown if (out / file).exists()]
    write_rows(out / ROWS, found, every_number(found, names))
    page = Page(wanted, name, own, len(planned), found, names, findings, figures, notes)
    put(out / PAGE, page.text())
    told = "; ".join(filter(None, (in_short(findings, len(found), len(planned)), *drawn)))
    return f"{wanted.name}: {told}{'' if len(found) == len(planned) else f'; {make}'}"


def write_index(folder: Path) -> None:
    """Put the table of all ablations into the README.md of a folder of results, where that has a place for it."""
    from headstudio.files import put
    from headstudio.report.ablation_page import INDEX, between, index

    page = folder / PAGE
    if page.exists() and INDEX[0] in page.read_text(encoding="utf-8"):
        before, _, after = between(page, INDEX)
        put(page, f"{before}\n\n{index(folder)}\n\n{after}")


def main(arguments: argparse.Namespace) -> int:
    """Write the results that the command line names; a line for each says what is missing."""
    from headstudio import ablation

    for word in arguments.own:
        if "=" not in word:
            raise UserError(f"{word!r} is no setting: behind the ablation's name stand words like experiment=paper.")
    every = arguments.name == "all"
    if every and arguments.out:
        raise UserError("--out is for one ablation; all of them go to results/NAME.")
    for folder in arguments.runs:
        if folder != RUNS and not folder.is_dir():
            raise UserError(f"--runs {folder}: there is no such folder; KEY=VALUE stand before --runs.")
    ours = ablation.files()
    if not arguments.out and (arguments.own or (arguments.name not in ours and Path(arguments.name).stem in ours)):
        raise UserError(
            f"results/{'NAME' if every else Path(arguments.name).stem} is for the ablation of that name as it is in "
            "ablations/; name one ablation, and --out FOLDER for other settings or another file."
        )
    for name in ours if every else [arguments.name]:
        out = arguments.out or Path("results") / Path(name).stem
        print(write_results(name, arguments.own, arguments.runs, out), flush=True)
        write_index(out.parent)
    return 0
