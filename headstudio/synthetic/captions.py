"""Sentences for attributes, and attributes from sentences.

`caption` writes one of many sentences for a head; `parse` reads any sentence made of the same words. Both keep to
one rule: an adjective belongs to the next noun ("green skin", "a long white beard").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from headstudio.synthetic.vocabulary import AGES, CHARACTERS, HAIRS, Attributes, consistent

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
}
# What a colour word means on a given thing, where the thing's palette has no such name.
SKIN_WORDS = {"black": "dark"}
HAIR_WORDS = {"yellow": "blond", "golden": "blond", "dark": "black"}
NEGATIVE = "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark, low-resolution, gloomy"
SUBJECTS = ("a head of a {noun}", "a {noun}", "a portrait of a {noun}", "a photo of a {noun}", "a face of a {noun}")
BARE_SUBJECTS = ("a head", "a portrait of a head", "a face", "a photo of a head", "a portrait of a person", "a person")
VIEWS = ("front view", "side view", "back view", "overhead view")
Reader = Callable[[list[str], dict[str, str]], None]
_TOKEN = re.compile(r"[a-z]+|[,.;]")


@dataclass(frozen=True)
class Reading:
    """What a sentence says: the full attributes and the names of those that it names."""

    attributes: Attributes
    named: frozenset[str]
    unread: tuple[str, ...]  # words that the reader does not use


def caption(attributes: Attributes, rng: np.random.Generator, *, mention_default: float = 0.3) -> str:
    """A random sentence that means exactly these attributes (defaults may go unsaid)."""
    default = Attributes()
    said = {
        name
        for name in ("skin", "hair", "beard", "lips", "eyes", "age", "gender", "paint", "hat")
        if not _is_default(attributes, default, name) or rng.random() < mention_default
    }
    subject, phrases = _subject(attributes, said, rng)
    phrases += [
        phrase
        for name in ("hair", "beard", "lips", "eyes", "paint", "hat")
        if name in said
        for phrase in [_phrase(name, attributes, rng)]
        if phrase
    ]
    order = rng.permutation(len(phrases))
    return subject + _joined([phrases[i] for i in order], rng)


def character_caption(name: str, rng: np.random.Generator) -> str:
    """A random sentence for one of the well-known characters."""
    subjects = ("{}", "a portrait of {}", "a head of {}", "a photo of {}", "a DSLR portrait of {}")
    return subjects[rng.integers(len(subjects))].format(name.capitalize())


def _is_default(attributes: Attributes, default: Attributes, name: str) -> bool:
    if name == "hair":
        return (attributes.hair_style, attributes.hair_color) == (default.hair_style, default.hair_color)
    return bool(getattr(attributes, name) == getattr(default, name))


def _pick(rng: np.random.Generator, *options: str) -> str:
    return options[rng.integers(len(options))]


def _subject(attributes: Attributes, said: set[str], rng: np.random.Generator) -> tuple[str, list[str]]:
    """The sentence's start, and the skin's phrase where the start does not say it."""
    noun = {"person": "person", "man": _pick(rng, "man", "man", "guy", "male"), "woman": _pick(rng, "woman", "lady")}
    words = []
    if "age" in said:
        words.append({"adult": "adult", "young": "young", "old": _pick(rng, "old", "old", "elderly")}[attributes.age])
    skin = _skin_word(attributes.skin, rng)
    skin_first = "skin" in said and rng.random() < 0.2
    if skin_first:
        words.append(f"{skin}-skinned")
    if "gender" in said or words:
        text = _pick(rng, *SUBJECTS).format(noun=" ".join([*words, noun[attributes.gender]]))
        text = re.sub(r"\ba (?=[aeiou])", "an ", text)
    else:
        text = _pick(rng, *BARE_SUBJECTS)
    return text, [f"{skin} skin"] if "skin" in said and not skin_first else []


def _skin_word(skin: str, rng: np.random.Generator) -> str:
    return {"pale": _pick(rng, "pale", "fair"), "teal": _pick(rng, "teal", "cyan")}.get(skin, skin)


def _hair_word(color: str, rng: np.random.Generator) -> str:
    words = {"blond": ("blond", "blonde"), "ginger": ("ginger", "orange"), "purple": ("purple", "purple", "violet")}
    return _pick(rng, *words.get(color, (color,)))


def _phrase(name: str, attributes: Attributes, rng: np.random.Generator) -> str:
    color = _hair_word(attributes.hair_color, rng)
    if name == "hair":
        return {
            "bald": _pick(rng, "no hair", "a bald head", "bald"),
            "short": _pick(rng, f"{color} hair", f"{color} hair", f"short {color} hair"),
            "long": f"long {color} hair",
            "afro": _pick(rng, f"a {color} afro", f"{color} afro hair"),
            "mohawk": f"a {color} mohawk",
            "bun": _pick(rng, f"a {color} bun", f"{color} bun hair"),
            "spiky": f"spiky {color} hair",
        }[attributes.hair_style]
    if name == "beard":
        unsaid = attributes.beard_color == attributes.hair_color and rng.random() < 0.4
        beard_color = "" if unsaid else _hair_word(attributes.beard_color, rng) + " "
        return {
            "none": _pick(rng, "no beard", "clean shaven"),
            "moustache": f"a {beard_color}{_pick(rng, 'moustache', 'mustache')}",
            "goatee": f"a {beard_color}goatee",
            "full": _pick(rng, f"a {beard_color}beard", f"a full {beard_color}beard"),
            "long": f"a long {beard_color}beard",
        }[attributes.beard]
    if name == "hat":
        color = attributes.hat_color
        return {
            "none": "no hat",
            "cap": f"a {color} cap",
            "beanie": f"a {color} beanie",
            "top_hat": f"a {color} top hat",
            "crown": _pick(rng, "a crown", "a golden crown"),
        }[attributes.hat]
    if name == "paint":
        return {
            "none": "no paint",
            "white_face": "white face paint",
            "black_mask": _pick(rng, "a black mask", "a black eye mask"),
            "red_stripes": _pick(rng, "red stripes", "red war paint"),
            "blue_stripes": _pick(rng, "blue stripes", "blue war paint"),
        }[attributes.paint]
    value = getattr(attributes, name)
    return f"{value} {_pick(rng, 'lips', 'lips', 'lipstick') if name == 'lips' else 'eyes'}"


def _joined(phrases: list[str], rng: np.random.Generator) -> str:
    if not phrases:
        return ""
    link = _pick(rng, " with ", " with ", ", ")
    if len(phrases) == 1:
        return link + phrases[0]
    last = _pick(rng, " and ", " and ", ", ")
    return link + ", ".join(phrases[:-1]) + last + phrases[-1]


def parse(sentence: str) -> Reading:
    """Read a sentence: known nouns take the adjectives before them; the rest is reported as unread."""
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
        elif word in _NOUNS:
            _NOUNS[word](pending, values)
            pending = []
        elif word in AGES:
            values["age"] = word
        elif word == "bald":
            values["hair_style"] = "bald"
        elif word in _ADJECTIVES:
            pending.append(word)
        elif word in (",", ".", ";", "and", "with"):
            continue
        else:
            unread.append(word)
    if "beard_color" not in values and "beard" in values:
        values["beard_color"] = values.get("hair_color", start.hair_color)
    named |= set(values)
    if "hair_color" in values and start.hair_style == "bald":
        values.setdefault("hair_style", "short")
    return Reading(consistent(replace(start, **values)), frozenset(named), tuple(dict.fromkeys(unread)))


_COLORS = {"black", "brown", "blond", "ginger", "white", "red", "green", "blue", "purple", "pink", "pale", "tan"} | {
    "dark",
    "yellow",
    "teal",
    "golden",
    "natural",
}
_ADJECTIVES = _COLORS | {"no", "long", "short", "spiky", "full", "clean", "top"} | {
    "afro",
    "bun",
    "eye",
    "war",
    "face",
}


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


def _read_noun(gender: str | None) -> Reader:
    def read(pending: list[str], values: dict[str, str]) -> None:
        if gender:
            values["gender"] = gender

    return read


def _read_shaven(pending: list[str], values: dict[str, str]) -> None:
    values["beard"] = "none"


_NOUNS = {
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
    "man": _read_noun("man"),
    "woman": _read_noun("woman"),
    "person": _read_noun(None),
    "head": _read_noun(None),
    "portrait": _read_noun(None),
    "photo": _read_noun(None),
}


def vocabulary() -> tuple[str, ...]:
    """Every word that captions use, sorted: the words that the tiny prior knows."""
    rng = np.random.default_rng(0)
    from headstudio.synthetic.samples import random_attributes

    words = {"dslr", "bald"}
    for _ in range(6000):
        words |= set(re.findall(r"[a-z]+", caption(random_attributes(rng), rng).lower()))
    for text in (NEGATIVE, *VIEWS, *CHARACTERS, *SYNONYMS, *_NOUNS, *_ADJECTIVES, *AGES):
        words |= set(re.findall(r"[a-z]+", text.lower()))
    return tuple(sorted(words))
