"""Which words a prior knows, and which colours of which things. A folder that lists none knows everything."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from headstudio.errors import UserError

log = logging.getLogger(__name__)

VOCABULARY_FILE = "vocabulary.txt"
COLORS_FILE = "colors.json"
STOP_WORDS = frozenset(
    {"a", "an", "and", "at", "by", "for", "has", "having", "her", "his", "in", "is", "it", "its", "of", "on", "or", "s"}
    | {"that", "the", "to", "who", "with"}
)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def load_vocabulary(folder: str | Path) -> frozenset[str] | None:
    """The lower-case words listed in `<folder>/vocabulary.txt`, one a line; None where there is no such file."""
    file = Path(folder) / VOCABULARY_FILE
    if not file.is_file():
        return None
    return frozenset(line.strip().lower() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())


def check_vocabulary(prompt: str, vocabulary: Collection[str]) -> list[str]:
    """The words of `prompt` that `vocabulary` lacks: lower case, in order, each once; stop words are skipped.

    A word joined by hyphens or apostrophes counts as known when it stands in the vocabulary as it is; otherwise its
    parts are looked up one by one.
    """
    unknown: dict[str, None] = {}
    for word in _WORD.findall(prompt.lower()):
        parts = [word] if word in vocabulary else re.split("['’-]", word)
        unknown.update(dict.fromkeys(part for part in parts if part not in vocabulary and part not in STOP_WORDS))
    return list(unknown)


def load_colors(folder: str | Path) -> dict[str, list[str]]:
    """The colours that each thing had in a prior's captions, from `<folder>/colors.json`; empty without such a file."""
    file = Path(folder) / COLORS_FILE
    if not file.is_file():
        return {}
    listed: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8"))
    return listed


def check_colors(prompt: str, colors: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Thing to colour, for each thing that `prompt` gives a colour that `colors` has for other things only.

    A colour belongs to the next thing within the same words between commas, "and", "or" and "with".
    """
    known = {color for listed in colors.values() for color in listed}
    strange: dict[str, str] = {}
    for part in re.split(r"[,.;:!?]|\b(?:and|or|with)\b", prompt.lower()):
        color = ""
        for word in re.findall(r"[^\W_]+", part):
            if word in colors:
                if color and color not in colors[word]:
                    strange[word] = color
                color = ""
            elif word in known:
                color = word
    return strange


def require_known_prompt(
    prompt: str,
    vocabulary: Collection[str] | None,
    *,
    file: str,
    colors: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> None:
    """Stop an empty or entirely foreign prompt; warn about single unknown words, and colours never seen on a thing.

    Args:
        prompt: the user's sentence.
        vocabulary: known words, or None where everything is accepted.
        colors: known colours of each thing; things that are not in it may have any.
        file: where the vocabulary lies, for the messages.

    Raises:
        UserError: the prompt has no word, or none that the prior knows.
    """
    if not _WORD.search(prompt):
        raise UserError(f"prompt={prompt!r} is empty; describe a head, for example prompt='a head with green skin'.")
    if vocabulary is None:
        return
    words = {part for word in _WORD.findall(prompt.lower()) for part in (word, *re.split("['’-]", word))}
    if not (words - STOP_WORDS) & set(vocabulary):
        raise UserError(f"prompt={prompt!r} has no word that the prior knows; use words of its vocabulary file {file}.")
    if unknown := check_vocabulary(prompt, vocabulary):
        named = ", ".join(repr(word) for word in unknown)
        them = "it" if len(unknown) == 1 else "them"
        log.warning("The prior does not know %s; expect no effect from %s (known words: %s).", named, them, file)
    for thing, color in check_colors(prompt, colors).items():
        log.warning(
            "The prior has never seen %s %s, so expect another colour (it knows %s).",
            color,
            thing,
            _listed(colors[thing]),
        )


def _listed(words: Collection[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
