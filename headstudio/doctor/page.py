"""The page that is printed, as plain lines: it goes into files and issues as well as onto terminals."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from headstudio.doctor.setting import Setting
from headstudio.findings import Finding, State

WIDTH = 118


def section(title: str, findings: Sequence[Finding]) -> Iterator[str]:
    """A title, and a line or two for each finding."""
    if not findings:
        return
    yield ""
    yield title
    for finding in findings:
        yield from _lines(finding)


def verdicts(settings: Sequence[Setting]) -> Iterator[str]:
    """Which commands can run here, and what stops the others."""
    yield ""
    yield "What can run here"
    width = max(len(setting.command) for setting in settings)
    for setting in settings:
        stopped = setting.stopped_by
        word = "no" if stopped else "yes"
        fetched = [finding for finding in setting.findings if finding.state is State.FETCHED]
        lacks = f"  lacks {_named(stopped)}" if stopped else f"  after downloading {_named(fetched)}" if fetched else ""
        yield from _wrapped(f"  {word:<5}{setting.command:<{width}}", lacks)


def _named(findings: Sequence[Finding]) -> str:
    """Each thing once, as it stands within a sentence: names with more than one capital stay as they are."""
    names = []
    for what in (finding.what for finding in findings):
        first = what.split()[0]
        names.append(what if first[1:] != first[1:].lower() else what[:1].lower() + what[1:])
    return ", ".join(dict.fromkeys(names))


def _lines(finding: Finding) -> Iterator[str]:
    yield from _wrapped(f"  {finding.state:<9}{finding.what}", f": {finding.detail}" if finding.detail else "")
    if finding.remedy:
        yield from _wrapped(" " * 11, f"-> {finding.remedy}")


def _wrapped(head: str, rest: str) -> list[str]:
    """One paragraph, its further lines indented under the first; words and paths stay whole."""
    return textwrap.wrap(
        head + rest,
        WIDTH,
        initial_indent="",
        subsequent_indent=" " * 14,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )
