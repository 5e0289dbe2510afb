"""Which words a prior knows. A folder with `vocabulary.txt` knows only those; others know everything."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from pathlib import Path

from headstudio.errors import UserError

log = logging.getLogger(__name__)

VOCABULARY_FILE = "vocabulary.txt"
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


def require_known_prompt(prompt: str, vocabulary: Collection[str] | None, *, file: str) -> None:
    """Stop an empty or entirely foreign prompt; warn about single unknown words.

    Args:
        prompt: the user's sentence.
        vocabulary: known words, or None where everything is accepted.
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
        log.warning("The prior does not know %s; expect no effect from it (known words: %s).", named, file)
