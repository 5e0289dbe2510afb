"""Attributes from sentences: the inverse of `captions.caption`.

One rule: an adjective belongs to the next noun ("green skin", "a long white beard").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from headstudio.synthetic.vocabulary import AGES, CHARACTERS, HAIRS, OPTIONS, Attributes, consistent

SYNONYMS = {
    "blonde": "blond",
    "orange": "ginger",
    "gold": "golden",
    "cyan": "teal",
    "violet": "purple",
    "fair": "pale",
    "light": "pale",
    "tanned": "tan",
    "mustache": "moustache",
    "elderly": "old",
    "aged": "old",
    "guy": "man",
    "male": "man",
    "boy": "man",
    "lady": "woman",
    "female": "woman",
    "girl": "woman",
    "without": "no",
}
# What a colour word means on a given thing, where the thing's palette has no such name.
SKIN_WORDS = {"black": "dark"}
HAIR_WORDS = {"yellow": "blond", "golden": "blond", "dark": "black"}
_COLORS = {*HAIRS, "pale", "tan", "dark", "yellow", "teal", "golden", "natural"}
ADJECTIVES = {*_COLORS, "no", "long", "short", "spiky", "full", "clean", "top", "afro", "bun", "eye", "war", "face"}
Reader = Callable[[list[str], dict[str, str]], None]
_TOKEN = re.compile(r"[a-z]+|[,.;]")


@dataclass(frozen=True)
class Reading:
    """What a sentence says: the full attributes and the names of those that it names."""

    attributes: Attributes
    named: frozenset[str]
    unread: tuple[str, ...]  # words that the reader does not use


def parse(sentence: str) -> Reading:
    """Read a sentence: known nouns take the adjectives before them; the rest is reported as unread.

    A colour that a thing cannot have in this world ("black eyes") is unread too, and the thing counts as not named.
    """
    words = [SYNONYMS.get(word, word) for word in _TOKEN.findall(sentence.lower())]
    values: dict[str, str] = {}
    pending: list[str] = []
    unread: list[str] = []
    start = Attributes()
    named: set[str] = set()
    for word in words:
        if word in CHARACTERS:
            start = CHARACTERS[word]
            named |= {n for n in start.__dataclass_fields__ if getattr(start, n) != getattr(Attributes(), n)}
        elif word in NOUNS:
            NOUNS[word](pending, values)
            pending = []
        elif word in AGES:
            values["age"] = word
        elif word == "bald":
            values["hair_style"] = "bald"
        elif word in ADJECTIVES:
            pending.append(word)
        elif word in (",", ".", ";", "and", "with"):
            continue
        else:
            unread.append(word)
    impossible = {name: value for name, value in values.items() if value not in OPTIONS[name]}  # "black eyes"
    unread += impossible.values()
    values = {name: value for name, value in values.items() if name not in impossible}
    if "beard_color" not in values and "beard" in values:
        values["beard_color"] = values.get("hair_color", start.hair_color)
    named |= set(values)
    if "hair_color" in values and start.hair_style == "bald":
        values.setdefault("hair_style", "short")
    return Reading(consistent(replace(start, **values)), frozenset(named), tuple(dict.fromkeys(unread)))


def _color(pending: list[str]) -> str | None:
    return next((word for word in reversed(pending) if word in _COLORS), None)


def _read_skin(pending: list[str], values: dict[str, str]) -> None:
    if color := _color(pending):
        values["skin"] = SKIN_WORDS.get(color, color)


def _read_hair(pending: list[str], values: dict[str, str]) -> None:
    if "no" in pending:
        values["hair_style"] = "bald"
        return
    style = next((word for word in pending if word in ("long", "short", "spiky", "afro", "bun")), None)
    if style:
        values["hair_style"] = style
    if (color := _color(pending)) and HAIR_WORDS.get(color, color) in HAIRS:
        values["hair_color"] = HAIR_WORDS.get(color, color)


def _read_styled(style: str) -> Reader:
    def read(pending: list[str], values: dict[str, str]) -> None:
        _read_hair([*pending, style], values)
        values["hair_style"] = style

    return read


def _read_beard(kind: str) -> Reader:
    def read(pending: list[str], values: dict[str, str]) -> None:
        if "no" in pending:
            values["beard"] = "none"
            return
        values["beard"] = "long" if kind == "full" and "long" in pending else kind
        if color := _color(pending):
            values["beard_color"] = HAIR_WORDS.get(color, color)

    return read


def _read_hat(kind: str) -> Reader:
    def read(pending: list[str], values: dict[str, str]) -> None:
        if "no" in pending:
            values["hat"] = "none"
            return
        values["hat"] = kind
        if kind != "crown" and (color := _color(pending)):
            values["hat_color"] = color

    return read


def _read_simple(field: str) -> Reader:
    def read(pending: list[str], values: dict[str, str]) -> None:
        if color := _color(pending):
            values[field] = color

    return read


def _read_paint(pending: list[str], values: dict[str, str]) -> None:
    color = _color(pending)
    if "no" in pending:
        values["paint"] = "none"
    elif color == "white":
        values["paint"] = "white_face"
    elif color == "black":
        values["paint"] = "black_mask"
    elif color in ("red", "blue"):
        values["paint"] = f"{color}_stripes"


def _read_mouth(pending: list[str], values: dict[str, str]) -> None:
    if "no" in pending:
        values["mouth"] = "none"


def _read_noun(gender: str | None) -> Reader:
    def read(pending: list[str], values: dict[str, str]) -> None:
        if gender:
            values["gender"] = gender

    return read


def _read_shaven(pending: list[str], values: dict[str, str]) -> None:
    values["beard"] = "none"


NOUNS = {
    "skin": _read_skin,
    "skinned": _read_skin,
    "hair": _read_hair,
    "haired": _read_hair,
    "afro": _read_styled("afro"),
    "mohawk": _read_styled("mohawk"),
    "bun": _read_styled("bun"),
    "beard": _read_beard("full"),
    "bearded": _read_beard("full"),
    "moustache": _read_beard("moustache"),
    "goatee": _read_beard("goatee"),
    "shaven": _read_shaven,
    "lips": _read_simple("lips"),
    "lipstick": _read_simple("lips"),
    "eyes": _read_simple("eyes"),
    "hat": _read_hat("top_hat"),
    "cap": _read_hat("cap"),
    "beanie": _read_hat("beanie"),
    "crown": _read_hat("crown"),
    "paint": _read_paint,
    "mask": _read_paint,
    "stripes": _read_paint,
    "mouth": _read_mouth,
    "man": _read_noun("man"),
    "woman": _read_noun("woman"),
    "person": _read_noun(None),
    "head": _read_noun(None),
    "portrait": _read_noun(None),
    "photo": _read_noun(None),
}
