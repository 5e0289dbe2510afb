"""README.md of an ablation's results: the verdicts, the numbers behind them, and how to make them again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headstudio.ablation import Ablation
from headstudio.errors import UserError
from headstudio.evaluate.statistics import Score, estimate
from headstudio.report.ablation_runs import COST, Result
from headstudio.report.ablation_verdict import Finding
from headstudio.report.glossary import Metric, metric

MADE = "<!-- Made by `python -m headstudio.report ablation`; by hand are only the notes, between their two marks. -->"
NOTES = ("<!-- notes -->", "<!-- end of notes -->")
INDEX = ("<!-- ablations -->", "<!-- end of ablations -->")
VERDICT = "**In short:** "


@dataclass(frozen=True)
class Page:
    """All that a page is made of.

    Attributes:
        wanted: the ablation.
        name: what it was called on the command line.
        own: the user's overrides, which went with every arm.
        runs: how many runs it takes.
        found: what came of those that are there.
        columns: the numbers to show.
        findings: one per claim.
        figures: file name and what it shows, of the figures that lie beside the page.
        notes: what was written by hand.
    """

    wanted: Ablation
    name: str
    own: Sequence[str]
    runs: int
    found: Sequence[Result]
    columns: Sequence[str]
    findings: Sequence[Finding]
    figures: Sequence[tuple[str, str]]
    notes: str

    def text(self) -> str:
        """The page, in Markdown."""
        parts = [
            f"# {self.wanted.title}",
            MADE,
            self.wanted.paper,
            f"{VERDICT}{in_short(self.findings, len(self.found), self.runs)}",
            *(f"![{shown}]({name})\n\n{shown}." for name, shown in self.figures),
            "## What the runs say",
            _table([["claim", "verdict", "gain [95 % interval]", "p"], *map(_row, self.findings)]),
            "The gain is that of the arm that was claimed to be better, over sentences, then seeds. "
            "p: sign-flip test with sentences as units, by Holm over all claims of this page; the intervals are of "
            "each claim alone, so p may be above 0.05 where the interval leaves 0 out.",
            *(f"**{finding.claim.says}.** {in_words(finding, self.wanted)}" for finding in self.findings),
            "## The arms",
            _table(self._arms()),
            "Means, with 95 % intervals by bootstrap over sentences, then seeds ([what the numbers are]"
            "(../../docs/metrics.md)).",
            "## How it was made",
            "\n".join(f"    {line}" for line in commands(self.name, self.own)),
            self._cost(),
            "## What else the runs show",
            f"{NOTES[0]}\n\n{self.notes}\n\n{NOTES[1]}" if self.notes else "\n".join(NOTES),
        ]
        return "\n\n".join(parts) + "\n"

    def _arms(self) -> Iterator[list[str]]:
        told = [metric(name) for name in self.columns]
        yield ["arm", "runs", *(f"{about.label}{_direction(about)}" for about in told)]
        for arm in self.wanted.arms.values():
            here = [result for result in self.found if result.planned.arm == arm.name]
            setting = " ".join(f"`{word}`" for word in arm.overrides)
            cells = [_mean(here, about) for about in told]
            yield [f"{arm.label} {setting}".strip(), str(len(here)), *cells]

    def _cost(self) -> str:
        hours = sum(result.scores.get(COST, 0.0) for result in self.found) / 3600
        commits = sorted({result.commit for result in self.found if result.commit})
        changed = " (+: with changes that were not committed)" if any(c.endswith("+") for c in commits) else ""
        made = f" by the code of {', '.join(commits)}{changed}" if commits else ""
        seeds = _many(len(self.wanted.seeds), "seed")
        return (
            f"{len(self.wanted.prompts)} sentences x {seeds} x {len(self.wanted.arms)} arms; "
            f"{len(self.found)} of {self.runs} runs, trained{made} in {hours:.1f} hours, one after the other. "
            f"Every run is a row of [runs.csv](runs.csv)."
        )


def commands(name: str, own: Sequence[str]) -> tuple[str, str]:
    """What makes the runs, and what makes the page."""
    more = "".join(f" {word}" for word in own)
    return f"python -m headstudio.run -m +ablation={name}{more}", f"python -m headstudio.report ablation {name}{more}"


def in_short(findings: Sequence[Finding], found: int, runs: int) -> str:
    """How many claims have which verdict, and of how many runs: a line for lists."""
    counts = Counter(finding.verdict for finding in findings)
    told = ", ".join(f"{number} {verdict}" for verdict, number in counts.items()) or "nothing is claimed"
    missing = "" if found == runs else f" ({runs - found} of {runs} runs are missing)"
    return f"{told}{missing}"


def in_words(finding: Finding, wanted: Ablation) -> str:
    """The verdict and its reasons, in two sentences."""
    claim, fine = finding.claim, _finer(finding.metric)
    better, than = (f"*{wanted.arms[name].label}*" for name in (claim.better, claim.than))
    if finding.gain is None or finding.p is None:
        have = f"{finding.pairs} of {finding.wanted} pairs of runs are there and have the number {fine.label}"
        return f"Unfinished: {have}. Nothing is tested before all are."
    sentences, seeds = finding.gains.shape
    tested = f" against a loss of more than {claim.margin:g}" if claim.margin else ""
    of = f"{sentences} sentences x {_many(seeds, 'seed')}"
    sure = f"95 % interval {_span(finding)}, {_p(finding)}{tested}, {of}"
    told = f"{better} and {than} do not differ in {fine.label} ({sure})"
    if gain := finding.gain.mean:
        gap = f"{'better' if gain > 0 else 'worse'} than {than} by {fine.show(abs(gain))}"
        told = f"{better} is {gap} in {fine.label} ({sure})"
    if finding.verdict == "undecided":
        open_ = f"more than {claim.margin:g} worse is not ruled out" if claim.margin else "which may be chance"
        return f"Undecided: {told}, {open_}. {_ties(finding) or _least(finding)}"
    if claim.margin:
        limit = f"at most {claim.margin:g} worse was claimed"
        return f"{finding.verdict.capitalize()}: {told}; {limit}. {_ties(finding)}".rstrip()
    ahead = int((finding.gains.mean(1) > 0).sum())
    return f"{finding.verdict.capitalize()}: {told}. It is better for {ahead} of {sentences} sentences."


def notes_of(path: Path) -> str:
    """What was written by hand in a page that is there already; "" where there is none.

    Raises:
        UserError: if its marks are gone, so that something would be lost.
    """
    return between(path, NOTES)[1].strip() if path.exists() else ""


def index(folder: Path) -> str:
    """A table of all pages below a folder of results: what each is about, and its verdicts in short."""
    rows = [["ablation", "verdicts on its claims"]]
    for page in sorted(folder.glob("*/README.md")):
        lines = page.read_text(encoding="utf-8").splitlines()
        if MADE in lines:
            title = lines[0].removeprefix("# ")
            told = next(line for line in lines if line.startswith(VERDICT)).removeprefix(VERDICT)
            rows.append([f"[{title}]({page.parent.name}/README.md)", told])
    return _table(rows)


def between(path: Path, marks: tuple[str, str]) -> tuple[str, str, str]:
    """What stands in a file before, between and behind two marks; the marks belong to the first and the last.

    Raises:
        UserError: if a mark is missing.
    """
    before, begin, rest = path.read_text(encoding="utf-8").partition(marks[0])
    middle, end, after = rest.partition(marks[1])
    if not (begin and end):
        raise UserError(f"{path} lacks the lines {marks[0]} and {marks[1]}; put them around what is to be kept.")
    return before + begin, middle, end + after


def _row(finding: Finding) -> list[str]:
    claim = finding.claim
    what = f"{finding.metric.label}: *{claim.better}* over *{claim.than}*"
    gain = "" if finding.gain is None else f"{_finer(finding.metric).show_signed(finding.gain.mean)} [{_span(finding)}]"
    return [f"{claim.says} ({what})", finding.verdict, gain, "" if finding.p is None else _p(finding)]


def _span(finding: Finding) -> str:
    fine = _finer(finding.metric)
    return (
        "" if finding.gain is None else f"{fine.show_signed(finding.gain.low)} to {fine.show_signed(finding.gain.high)}"
    )


def _p(finding: Finding) -> str:
    return "" if finding.p is None else "p < 0.001" if finding.p < 0.001 else f"p = {finding.p:.3f}"


def _least(finding: Finding) -> str:
    if finding.least is None:
        return f"With {len(finding.gains)} sentences no difference, however large, would have been shown."
    least = _finer(finding.metric).show_signed(finding.least)
    return f"With so many sentences and such scatter, a gain of {least} or more would have been shown."


def _ties(finding: Finding) -> str:
    """That most pairs are equal in the number, where they are: it can hardly tell these arms apart."""
    equal, pairs = int((finding.gains == 0).sum()), finding.gains.size
    if 2 * equal <= pairs:
        return ""
    return f"It is the same in {equal} of {pairs} pairs of runs, so it can hardly tell these two apart."


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _finer(about: Metric) -> Metric:
    """With one more digit: differences are smaller than values."""
    return replace(about, digits=about.digits + 1)


def _mean(results: Sequence[Result], about: Metric) -> str:
    """Mean and interval of one number over an arm's runs."""
    scores = [
        Score({"prompt": result.planned.prompt, "seed": str(result.planned.seed)}, result.scores[about.name])
        for result in results
        if about.name in result.scores
    ]
    if not scores:
        return ""
    found = estimate(scores)
    interval = f" [{about.show(found.low)}, {about.show(found.high)}]" if found.over else ""
    return f"{about.show(found.mean)}{interval}"


def _direction(about: Metric) -> str:
    return {"more": " ↑", "less": " ↓", "neither": ""}[about.better]


def _table(rows: Iterable[Sequence[str]]) -> str:
    """Markdown of rows of which the first is the head."""
    head, *rest = (f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
    return "\n".join([head, re.sub(r"[^|]+", " --- ", head), *rest])
