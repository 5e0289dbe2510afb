"""What a reader needs to know first, in plain words, and never more than the tests support."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headstudio.report.collect import Collection
from headstudio.report.compare import Comparison, Panel
from headstudio.report.differences import Differences, Key, measurements
from headstudio.sweep.state import OPEN, STATES

WORDS = {"prompt": "sentences", "seed": "seeds"}


@dataclass(frozen=True)
class Finding:
    """A line of the verdict: what it is about, and what is found."""

    about: str
    text: str
    kind: str  # better | none | open | plain


def title(found: Differences, runs: int) -> tuple[str, str]:
    """What was swept, and how many of each: ("reg × prompt × seed", "3 × 3 × 2")."""
    if not found.keys:
        return ("One run" if runs == 1 else f"{runs} runs of one setting"), ""
    names = [key.name for key in (*found.axes, *(key for key in found.keys if key not in found.axes))]
    sizes = {key.name: len(key.values) for key in found.keys}
    if len(names) == 1 and names[0] in WORDS:
        return f"{sizes[names[0]]} {WORDS[names[0]]}", ""
    shown = " × ".join(names[:4])
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return shown + more, "" if more else " × ".join(str(sizes[name]) for name in names) if len(names) > 1 else ""


def counts(collection: Collection) -> list[tuple[str, int]]:
    """State and number of runs in it, without empty ones."""
    numbers = Counter(member.state for member in collection.members)
    return [(state, numbers[state]) for state in STATES if numbers[state]]


def verdict(collection: Collection, found: Differences, comparisons: Sequence[Comparison]) -> list[Finding]:
    """The lines at the top of the page."""
    findings = []
    finished = [member for member in collection.members if member.state == "finished"]
    if not finished:
        return [Finding("No run has finished", "There is nothing to compare yet; what there is stands below.", "open")]
    if len(collection.members) > len(finished):
        left = ", ".join(f"{number} {state}" for state, number in counts(collection) if state != "finished")
        text = f"Everything below is about the {len(finished)} finished of {len(collection.members)} runs ({left})."
        findings.append(Finding("Not complete", text, "open"))
    if not any(member.scores for member in finished):
        return [*findings, Finding("No scores", "The finished runs carry no numbers that could be compared.", "open")]
    if not found.keys:
        one = len(collection.members) == 1
        text = "This is a single run: its scores stand below, and there is nothing to compare them with."
        same = "Nothing differs between these runs, so there is nothing to compare."
        return [*findings, Finding("Nothing to compare", text if one else same, "plain")]
    for comparison in comparisons:
        findings += list(_of_key(comparison, found, is_complete=len(finished) == len(collection.members)))
    return findings


def _of_key(comparison: Comparison, found: Differences, *, is_complete: bool) -> Iterator[Finding]:
    panels = comparison.main or comparison.panels
    name = comparison.key.name
    if not comparison.is_ranked:
        yield Finding(name, _spread(panels[0], name, is_only=len(found.keys) == 1), "plain")
        return
    if all(len(panel.rows) < 2 for panel in panels):
        value = panels[0].rows[0].value
        yield Finding(name, f"Only runs with {name}={value} have finished, so nothing is compared yet.", "open")
        return
    better = [sentence for panel in panels for sentence in panel.told]
    yield from (Finding(name, sentence, "better") for sentence in better[:4])
    if len(better) > 4:
        yield Finding(name, f"{len(better) - 4} more differences are shown below.", "better")
    silent = [panel for panel in panels if not panel.told]
    if silent and max(panel.pairs for panel in silent) == 0:
        yield Finding(name, "No two runs agree in everything but this, so nothing is said about it.", "open")
    elif silent and all(panel.short_of for panel in silent):
        yield Finding(name, f"Too few runs to tell. {advice(silent[0], found, is_complete=is_complete)}", "open")
    elif silent:
        labels = _listed([panel.metric.label for panel in silent])
        yield Finding(
            name, f"No difference shown in {labels}; one smaller than the intervals may still be there.", "none"
        )


def advice(panel: Panel, found: Differences, *, is_complete: bool) -> str:
    """How many pairs are missing, and what to add to have them."""
    values = len(panel.rows)
    together = f"for {values} settings at once " if values > 2 else ""
    need = f"Each two settings share {panel.pairs} pair{'s' * (panel.pairs != 1)} of runs; the test needs at least "
    need += f"{panel.short_of} {together}before it can show any difference."
    if not is_complete:
        return f"{need} Not all runs have finished; if it is too few when they have, add seeds or prompts."
    seeds = next((key.values for key in found.keys if key.name == "seed"), ())
    count = math.ceil(panel.short_of / max(1, panel.pairs / max(1, len(seeds))))
    more = ",".join(map(str, range(count))) if count <= 12 else f"range({count})"
    return f"{need} Add seeds to the command (seed={more}; finished runs are kept), or prompts."


def _spread(panel: Panel, name: str, *, is_only: bool) -> str:
    """How far apart prompts or seeds are, without calling one of them better."""
    values = [(row.estimate.mean, row.value) for row in panel.rows]
    show, label = panel.metric.show, panel.metric.label
    if name == "seed":
        row = panel.rows[0]
        each = [value for _, value in row.runs]
        return (
            f"Only the seed differs: {label} is {show(row.estimate.mean)} on average and lies between "
            f"{show(min(each))} and {show(max(each))} over {len(each)} runs. Seeds are repeats, not settings to rank."
        )
    if len(values) == 1:
        return f"Only one sentence has finished runs: {label} {show(values[0][0])}."
    low, high = min(values), max(values)
    start = "Only the sentence differs: " if is_only else ""
    text = (
        f"{label} runs from {show(low[0])} (“{low[1]}”) to {show(high[0])} (“{high[1]}”) over {len(values)} sentences."
    )
    return f"{start}{text} Sentences are easier or harder to fulfil; they are not settings to be ranked."


def notes(collection: Collection, found: Differences) -> list[str]:
    """What is wrong or must be known, in sentences: problems with files, mixed experiments, runs still going."""
    said = list(collection.problems)
    if collection.sweeps and len(collection.sweeps) > 1:
        said.append(f"The runs come from {len(collection.sweeps)} sweeps: {_listed(collection.sweeps)}.")
    axes = found.axes
    if len(axes) > 4 or any(len(key.confounded) > 8 for key in axes) or len(collection.sweeps) > 1:
        said.append(
            f"These are mixed experiments: {len(axes)} settings differ beside prompt and seed. Every comparison uses "
            "only pairs of runs that agree in all else."
        )
    said += [
        f"{_along(key)}" for key in axes if key.confounded and all(m.overrides is None for m in collection.members)
    ]
    finished = [way for way, m in zip(measurements(collection), collection.members, strict=True) if m.scores]
    if len(set(finished)) > 1:
        said.append(
            "The runs were measured with different settings of their metrics: scores of the same name are not the same "
            "thing. Runs measured differently are never paired, but means over sentences still mix them."
        )
    unasked = [name for name in found.unasked if not name.startswith("metrics.")]
    if unasked:
        some = _listed(unasked[:6]) + (f" and {len(unasked) - 6} more" if len(unasked) > 6 else "")
        said.append(f"The configs also differ in keys that the command did not sweep: {some}.")
    for member in collection.members:
        said += [f"{member.name}: {problem}." for problem in member.problems]
    repeated = Counter(member.signature for member in collection.members if member.signature)
    twice = sum(number > 1 for number in repeated.values())
    if twice:
        said.append(f"{twice} runs lie in more than one place; comparisons count each once.")
    return said


def is_open(collection: Collection) -> bool:
    """Whether some run will go on by itself."""
    return any(member.state in OPEN for member in collection.members)


def _along(key: Key) -> str:
    some = ", ".join(key.confounded[:4]) + (f" and {len(key.confounded) - 4} more" if len(key.confounded) > 4 else "")
    return f"{key.name} stands for all that changes with it: {some}."


def _listed(words: Sequence[str]) -> str:
    """a, b and c"""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
