"""The page: everything that was found, handed to the template."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from headstudio.inlined import environment, policy_hash
from headstudio.report import figures, verdict
from headstudio.report.collect import Collection, Member, log_tail
from headstudio.report.compare import Comparison, comparisons, metric_names
from headstudio.report.differences import Differences, common, differences
from headstudio.report.glossary import COSTS, main_metrics, metric
from headstudio.report.heads import arranged
from headstudio.report.media import COLUMNS, FRAMES, Sprite
from headstudio.runstate import RunPaths
from headstudio.sweep.state import OPEN, STATES

SCRIPTS = ("base.js", "heads.js", "table.js", "plots.js")
FILES = ("turntable", "animation", "grid", "avatar")


def render(collection: Collection, out: Path, films: Mapping[Path, Sprite | str], *, in_full: bool) -> str:
    """The whole page.

    Args:
        collection: what is reported.
        out: where the page will lie: links are relative to its folder.
        films: the sprite of every film, or why there is none; empty leaves all films out.
        in_full: whether every run has a part of its own with its config.
    """
    found = differences(collection)
    compared = comparisons(collection, found)
    shown = [c for c in compared if not c.is_ranked or len(found.axes) <= 6 or any(p.pairs for p in c.panels)]
    names = metric_names(collection)
    main = main_metrics(names)
    data: dict[str, Any] = {
        "figures": {_panel_id(c, p.metric.name): figures.strip(p) for c in shown for p in c.panels},
        "curves": _curves(collection, found),
        "colours": figures.COLOURS,
        "ink": {"text": figures.INK, "quiet": figures.QUIET, "rule": figures.RULE, "font": figures.FONT},
        "film": {"frames": FRAMES, "columns": COLUMNS, "seconds": _seconds(films)},
    }
    title, sizes = verdict.title(found, len(collection.members))
    scripts = [plotly_js()] if data["figures"] or data["curves"]["runs"] else []
    scripts.append("\n".join(_own(name) for name in SCRIPTS))
    finished = [number for number, member in enumerate(collection.members) if member.state == "finished"]
    context = {
        "title": title,
        "sizes": sizes,
        "collection": collection,
        "found": found,
        "counts": verdict.counts(collection),
        "states": [state for state in STATES if any(member.state == state for member in collection.members)],
        "is_open": verdict.is_open(collection),
        "commands": _commands(collection),
        "made": datetime.now().astimezone(),
        "versions": versions(),
        "notes": verdict.notes(collection, found),
        "findings": _grouped(verdict.verdict(collection, found, shown)),
        "comparisons": shown,
        "left_out": [c.key.name for c in compared if c not in shown],
        "panel_id": _panel_id,
        "advice": lambda panel: verdict.advice(panel, found, is_complete=len(finished) == len(collection.members)),
        "main": main,
        "on_card": main[:1] + [name for name in main[1:] if "clip" not in name],
        "costs": [name for name in COSTS if name in names],
        "others": [name for name in names if name not in (*main, *COSTS)],
        "metrics": {name: metric(name) for name in (*names, *COSTS)},
        "heads": arranged(finished, found) if finished and films else None,
        "finished": len(finished),
        "films": {m.directory: {n: films.get(m.directory / f"{n}.mp4") for n in FILES[:2]} for m in collection.members},
        "is_sprite": lambda film: isinstance(film, Sprite),
        "link": lambda path: _link(path, out.parent),
        "files": lambda member: _files(member, out.parent),
        "common": common(collection),
        "shares": _shares(found),
        "unfinished": [(n, m) for n, m in enumerate(collection.members) if m.state != "finished"],
        "log_tail": log_tail,
        "alone": lambda member: _alone(member),
        "repeat": lambda member: f"python -m headstudio.sweep repeat {shell(str(member.directory))} INTO",
        "in_full": in_full,
        "data": _json(data),
        "style": _own("report.css"),
        "scripts": scripts,
        "hashes": [policy_hash(script) for script in scripts],
        "OPEN": OPEN,
    }
    return environment("headstudio.report", "page").get_template("report.html.j2").render(context)


def _grouped(findings: Sequence[verdict.Finding]) -> dict[str, list[verdict.Finding]]:
    """By what they are about, in order."""
    groups: dict[str, list[verdict.Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.about, []).append(finding)
    return groups


def versions() -> str:
    """Of what made the page."""
    from headstudio import __version__

    return f"headstudio {__version__}"


@lru_cache(maxsize=1)
def plotly_js() -> str:
    """plotly.js, as its package carries it."""
    return (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def _own(name: str) -> str:
    return (resources.files("headstudio.report") / "page" / name).read_text(encoding="utf-8")


def _json(data: Any) -> str:
    """JSON that can stand in a script element: no character of it can end or open one."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _panel_id(comparison: Comparison, name: str) -> str:
    return f"{comparison.key.name}|{name}"


def _seconds(films: Mapping[Path, Sprite | str]) -> float:
    return max((s.seconds for p, s in films.items() if isinstance(s, Sprite) and p.stem == "animation"), default=3.0)


def _curves(collection: Collection, found: Differences) -> dict[str, Any]:
    """What every run logged, and by which keys its line may be coloured; constants are left out."""
    drawn = [(n, m) for n, m in enumerate(collection.members) if m.curve.steps]
    names = list(dict.fromkeys(name for _, m in drawn for name in m.curve.values if name != "seconds"))
    varying = [n for n in names if len({v for _, m in drawn for v in m.curve.values.get(n, ())} - {None}) > 1]
    keys = [key.name for key in (*found.axes, *(k for k in found.keys if k not in found.axes))][:6]
    thin = max(1, len(drawn) // 200)
    runs = [
        {
            "label": found.names(number) or member.name,
            "of": [found.settings[number][key] for key in keys],
            "steps": member.curve.steps[::thin],
            "values": [member.curve.values.get(name, ())[::thin] for name in varying],
        }
        for number, member in drawn
    ]
    return {"names": varying, "keys": keys, "runs": runs if varying else []}


def _commands(collection: Collection) -> list[tuple[str, str, str]]:
    """Every different command: when, by whom, and as one would type it."""
    said: dict[str, tuple[str, str, str]] = {}
    for command in collection.commands:
        script, *words = command.words
        program = "-m headstudio.run" if script.endswith("headstudio/run.py") else shell(script)
        text = f"python {program} {shell(*words)}"
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(command.time))
        said.setdefault(text, (when, command.person, text))
    return list(said.values())


def _alone(member: Member) -> str | None:
    """The command for this run alone; None if its overrides were not written down."""
    if member.overrides is None:
        return None
    return f"python -m headstudio.run {shell(*member.overrides)}".strip()


def shell(*words: str) -> str:
    """Words as one types them in a POSIX shell; around a sentence that is quoted itself stand double quotes."""
    return " ".join(f'"{w}"' if "'" in w and not set(w) & set('"$`\\!') else shlex.quote(w) for w in words)


def _link(path: Path, folder: Path) -> str:
    """Relative, so that the page may move with its runs."""
    return quote(os.path.relpath(path.absolute(), folder.absolute()).replace(os.sep, "/"))


def _files(member: Member, folder: Path) -> list[tuple[str, str]]:
    paths = RunPaths(member.directory)
    there: Sequence[tuple[str, Path]] = [(path.name, path) for path in (getattr(paths, name) for name in FILES)]
    return [(name, _link(path, folder)) for name, path in there if path.exists()]


def _shares(found: Differences) -> dict[str, list[tuple[str, int]]]:
    """How many runs have which value of each key."""
    return {key.name: list(Counter(s[key.name] for s in found.settings).items()) for key in found.keys}
