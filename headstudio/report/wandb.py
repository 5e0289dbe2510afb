"""`python -m headstudio.report wandb PROJECT`: a W&B workspace and a report of a project's runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstudio.cli import groups
from headstudio.errors import UserError
from headstudio.report.reading import as_text, flattened
from headstudio.report.wandb_panels import SCORES, Axis, arranged, chapters
from headstudio.wandb_files import first_line

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

USUAL = ("reg", "guidance", "motion", "init")
"""What is compared where nobody says and no server tells what the runs differ in."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of the command line."""
    parser.add_argument("project", metavar="PROJECT", help="the W&B project (logger.project)")
    parser.add_argument("--entity", metavar="E", help="user or team (default: the account's own)")
    parser.add_argument("--sweep", metavar="GROUP", help="only the runs of one sweep, by its directory's name")
    parser.add_argument(
        "--by",
        nargs="+",
        metavar="KEY",
        help=f"what to compare: config groups or keys (default: what the runs differ in, or {' '.join(USUAL)})",
    )
    parser.add_argument(
        "--scores", nargs="+", metavar="NAME", default=list(SCORES), help="names in metrics.json (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the specification (JSON) and send nothing")


def main(arguments: argparse.Namespace) -> int:
    """Build both, and save them in W&B or in a file.

    Raises:
        UserError: if the package is missing, there is neither key nor file, or W&B does not take them.
    """
    _need_package()
    import wandb

    has_key = _has_key()
    if not has_key and arguments.out is None:
        raise UserError(
            "There is no W&B API key: `wandb login` keeps one (or set WANDB_API_KEY), then give the same command "
            "again; --out FILE writes what it would send."
        )
    try:
        entity = arguments.entity or (wandb.Api().default_entity if has_key else "")
        names = arguments.by or (differing(entity, arguments.project, arguments.sweep) if has_key else USUAL)
        axes = [Axis.named(name, groups()) for name in names]
        about = (entity or "", arguments.project, arguments.sweep, axes, arguments.scores)
        workspace, report = build_workspace(*about), build_report(*about)
        if arguments.out is not None:
            text = json.dumps({"workspace": workspace_spec(workspace), "report": report_spec(report)}, indent=1)
            arguments.out.write_text(text + "\n", encoding="utf-8")
            print(f"{arguments.out}: a workspace and a report by {', '.join(a.name for a in axes)}. Nothing was sent;")
            print("with an API key (`wandb login`) the same command without --out saves them in W&B.")
            return 0
        print(f"Workspace: {workspace.save().url}")
        print(f"Report: {report.save().url}")
    except UserError:
        raise
    except Exception as error:  # W&B has many: no network, no such entity, no right to write
        raise UserError(f"W&B does not take it ({first_line(error)}).") from error
    return 0


def build_workspace(
    entity: str, project: str, sweep: str | None, axes: Sequence[Axis], scores: Sequence[str]
) -> ws.Workspace:
    """A saved view of the project: a section per chapter, the scores as columns of the table of runs."""
    import wandb_workspaces.workspaces as ws

    sections = [
        ws.Section(
            name=chapter.title,
            panels=chapter.panels,
            is_open=chapter.is_open,
            layout_settings=ws.SectionLayoutSettings(columns=3, rows=2),
        )
        for chapter in chapters(axes, scores)
    ]
    columns = [f"config:{_value(axis.key)}" for axis in axes] + [f"summary:{name}" for name in scores]
    runs = ws.RunsetSettings(filters=_filters(sweep), pinned_columns=["run:displayName", *columns])
    return ws.Workspace(entity=entity, project=project, name=_title(sweep), sections=sections, runset_settings=runs)


def build_report(
    entity: str, project: str, sweep: str | None, axes: Sequence[Axis], scores: Sequence[str]
) -> wr.Report:
    """A page: a heading, a few words and a grid of panels per chapter."""
    import wandb_workspaces.reports.v2 as wr

    blocks: list[Any] = [wr.TableOfContents()]
    for chapter in chapters(axes, scores):
        runs = wr.Runset(entity=entity, project=project, name=sweep or "All runs", filters=_filters(sweep))
        grid = wr.PanelGrid(runsets=[runs], panels=arranged(chapter.panels))
        blocks += [wr.H2(chapter.title), wr.P(chapter.text), grid]
    what = f"the sweep {sweep}" if sweep else "all runs"
    return wr.Report(
        entity=entity,
        project=project,
        title=_title(sweep),
        description=f"headstudio: {what}, by {', '.join(axis.name for axis in axes)}.",
        blocks=blocks,
        width="fluid",
    )


def workspace_spec(workspace: ws.Workspace) -> dict[str, Any]:
    """What `save` sends."""
    return dict(workspace._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True))


def report_spec(report: wr.Report) -> dict[str, Any]:
    """What `save` sends."""
    return dict(report._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True))


def differing(entity: str | None, project: str, sweep: str | None) -> list[str]:
    """What the project's runs differ in, by asking W&B.

    Raises:
        UserError: if there are no such runs.
    """
    import wandb

    path, filters = f"{entity}/{project}" if entity else project, {"group": sweep} if sweep else {}
    runs = wandb.Api().runs(path, filters=filters, lazy=False)
    configs = [dict(run.config) for run in runs]
    if not configs:
        raise UserError(f"The W&B project {project} has no runs" + (f" in the group {sweep}." if sweep else "."))
    return axes_of(configs) or list(USUAL)


def axes_of(configs: Sequence[Mapping[str, Any]], *, most: int = 6) -> list[str]:
    """The names of what differs between configs: options of groups first, then keys that no option explains.

    Keys whose values go together are one axis, under the name that comes first: an interpolated value is the value
    that it repeats.
    """
    options = [{str(k): as_text(v) for k, v in config.get("options", {}).items()} for config in configs]
    rest = [{k: as_text(v) for k, v in flattened(config).items() if not k.startswith("options.")} for config in configs]
    taken = _varying(options)
    keys = [key for key in _varying(rest) if key.split(".")[0] not in taken]
    keys.sort(key=lambda key: (key.count("."), not key.startswith("scale.")))
    found: dict[tuple[str | None, ...], str] = {}
    for names, source in ((taken, options), (keys, rest)):
        for name in names:
            found.setdefault(_pattern([values.get(name) for values in source]), name)
    return list(found.values())[:most]


def _varying(rows: Sequence[Mapping[str, str]]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if len({row.get(name) for row in rows}) > 1]


def _pattern(values: Sequence[str | None]) -> tuple[Any, ...]:
    """Which of the values are alike, whatever they are."""
    order = list(dict.fromkeys(values))
    return tuple(order.index(value) for value in values)


def _title(sweep: str | None) -> str:
    return f"Heads of {sweep}" if sweep else "Heads"


def _filters(sweep: str | None) -> Any:
    from wandb_workspaces import expr

    return expr.And(expr.Metric("Group") == sweep) if sweep else ""


def _value(key: str) -> str:
    """A config key as W&B's columns name it: the value of its first part, then the rest."""
    first, *rest = key.split(".")
    return ".".join([first, "value", *rest])


def _has_key() -> bool:
    import wandb

    try:
        return bool(wandb.login(prompt=False, verify=False))
    except Exception as error:
        raise UserError(f"The W&B API key cannot be used ({first_line(error)}).") from error


def _need_package() -> None:
    from importlib.util import find_spec

    if find_spec("wandb_workspaces") is None:
        raise UserError("The package wandb-workspaces is missing: pip install 'wandb-workspaces>=0.3'")
