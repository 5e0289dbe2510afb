"""Sentences for attributes: `caption` writes one of many for a head, `reading.parse` reads them back."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from headstudio.synthetic.reading import ADJECTIVES, NOUNS, SYNONYMS
from headstudio.synthetic.vocabulary import (
    AGES,
    BEARDS,
    CHARACTERS,
    EYES,
    HAIR_STYLES,
    HAIRS,
    HAT_KINDS,
    HATS,
    LIPS,
    PAINTS,
    SKINS,
    Attributes,
)

NEGATIVE = "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark, low-resolution, gloomy"
SUBJECTS = ("a head of a {noun}", "a {noun}", "a portrait of a {noun}", "a photo of a {noun}", "a face of a {noun}")
BARE_SUBJECTS = ("a head", "a portrait of a head", "a face", "a photo of a head", "a portrait of a person", "a person")
VIEWS = ("front view", "side view", "back view", "overhead view")
CROPS = {"eyes": "close-up of the eyes", "mouth": "close-up of the mouth"}  # what small framings are called


def caption(attributes: Attributes, rng: np.random.Generator, *, mention_default: float = 0.3) -> str:
    """A random sentence that means exactly these attributes (defaults may go unsaid)."""
    default = Attributes()
    said = {
        name
        for name in ("skin", "hair", "beard", "lips", "eyes", "age", "gender", "paint", "hat")
        if not _is_default(attributes, default, name) or rng.random() < mention_default
    }
    if attributes.mouth == "none":
        said = (said - {"lips"}) | {"mouth"}
    subject, phrases = _subject(attributes, said, rng)
    phrases += [
        phrase
        for name in ("hair", "beard", "lips", "eyes", "paint", "hat", "mouth")
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
    if name == "mouth":
        return _pick(rng, "no mouth", "no mouth", "without a mouth")
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


def vocabulary() -> tuple[str, ...]:
    """Every word that captions use, sorted: the words that the tiny prior knows."""
    rng = np.random.default_rng(0)
    from headstudio.synthetic.samples import random_attributes

    words = {"dslr", "bald"}
    for _ in range(6000):
        words |= set(re.findall(r"[a-z]+", caption(random_attributes(rng), rng).lower()))
    for text in (NEGATIVE, *VIEWS, *CROPS.values(), *CHARACTERS, *SYNONYMS, *NOUNS, *ADJECTIVES, *AGES):
        words |= set(re.findall(r"[a-z]+", text.lower()))
    return tuple(sorted(words))


def colors() -> dict[str, list[str]]:
    """The colour words that captions use before each thing, in the order of the palettes: what the tiny prior knows."""
    rng = np.random.default_rng(0)
    palettes = (*SKINS, *HAIRS, *LIPS, *EYES, *HATS)
    known = dict.fromkeys(
        word for name in palettes for word in (name, *(s for s, of in SYNONYMS.items() if of == name))
    )
    default = Attributes()
    looks = [replace(default, skin=skin, lips=lips, eyes=eyes) for skin in SKINS for lips in LIPS for eyes in EYES]
    looks += [replace(default, hair_style=style, hair_color=color) for style in HAIR_STYLES for color in HAIRS]
    looks += [replace(default, beard=beard, beard_color=color) for beard in BEARDS for color in HAIRS]
    looks += [replace(default, hat=hat, hat_color=color) for hat in HAT_KINDS for color in HATS]
    looks += [replace(default, paint=paint) for paint in PAINTS]
    found: dict[str, set[str]] = {}
    for one in (look for look in looks for _ in range(20)):
        for color, thing in re.findall(r"\b(?=([a-z]+)[ -](?:top )?([a-z]+))", caption(one, rng, mention_default=1.0)):
            if thing in {*NOUNS, *SYNONYMS} and color in known:
                found.setdefault(thing, set()).add(color)
    return {thing: [color for color in known if color in found[thing]] for thing in sorted(found)}
