"""What the synthetic world can show, and the words for it.

An `Attributes` value fully determines a head's looks (its shape, expression and pose are drawn apart). A caption
names some attributes; what it leaves out has the default value, so a sentence has one meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

# Colours are linear multipliers of the shading, RGB in [0, 1].
SKINS = {
    "pale": (0.95, 0.80, 0.71),
    "tan": (0.82, 0.60, 0.42),
    "brown": (0.53, 0.33, 0.20),
    "dark": (0.27, 0.16, 0.10),
    "white": (0.97, 0.97, 0.97),
    "green": (0.27, 0.66, 0.25),
    "blue": (0.22, 0.42, 0.86),
    "red": (0.78, 0.13, 0.12),
    "purple": (0.53, 0.25, 0.66),
    "yellow": (0.96, 0.83, 0.20),
    "pink": (0.97, 0.52, 0.68),
    "teal": (0.10, 0.62, 0.62),
    "golden": (0.80, 0.58, 0.10),
}
HAIRS = {
    "black": (0.06, 0.06, 0.07),
    "brown": (0.34, 0.19, 0.09),
    "blond": (0.90, 0.75, 0.36),
    "ginger": (0.83, 0.38, 0.08),
    "white": (0.95, 0.95, 0.95),
    "red": (0.80, 0.06, 0.08),
    "green": (0.10, 0.62, 0.17),
    "blue": (0.12, 0.26, 0.85),
    "purple": (0.50, 0.11, 0.68),
    "pink": (0.97, 0.42, 0.68),
}
LIPS = {
    "natural": (0.0, 0.0, 0.0),  # a darker, redder tone of the skin
    "red": (0.85, 0.03, 0.06),
    "pink": (0.98, 0.42, 0.62),
    "black": (0.05, 0.04, 0.05),
    "blue": (0.12, 0.24, 0.86),
    "purple": (0.48, 0.10, 0.60),
    "green": (0.10, 0.58, 0.16),
}
EYES = {
    "brown": (0.28, 0.14, 0.06),
    "blue": (0.12, 0.42, 0.95),
    "green": (0.12, 0.66, 0.20),
    "red": (0.90, 0.06, 0.05),
    "yellow": (0.98, 0.83, 0.08),
}
HATS = {
    "red": (0.80, 0.08, 0.10),
    "blue": (0.12, 0.25, 0.75),
    "green": (0.10, 0.50, 0.18),
    "black": (0.07, 0.07, 0.08),
    "white": (0.94, 0.94, 0.94),
    "yellow": (0.97, 0.80, 0.12),
}
HAIR_STYLES = ("bald", "short", "long", "afro", "mohawk", "bun", "spiky")
BEARDS = ("none", "moustache", "goatee", "full", "long")
AGES = ("adult", "young", "old")
GENDERS = ("person", "man", "woman")
PAINTS = ("none", "white_face", "black_mask", "red_stripes", "blue_stripes")
HAT_KINDS = ("none", "cap", "beanie", "top_hat", "crown")
MOUTHS = ("normal", "none")  # none: skin where lips would be, and over the opening


@dataclass(frozen=True)
class Attributes:
    """The looks of one head; every field's value is a key of the tables above. Defaults are what goes unsaid."""

    skin: str = "pale"
    hair_style: str = "short"
    hair_color: str = "brown"
    beard: str = "none"
    beard_color: str = "brown"
    lips: str = "natural"
    eyes: str = "brown"
    age: str = "adult"
    gender: str = "person"
    paint: str = "none"
    hat: str = "none"
    hat_color: str = "red"
    mouth: str = "normal"


OPTIONS: dict[str, tuple[str, ...]] = {
    "skin": tuple(SKINS),
    "hair_style": HAIR_STYLES,
    "hair_color": tuple(HAIRS),
    "beard": BEARDS,
    "beard_color": tuple(HAIRS),
    "lips": tuple(LIPS),
    "eyes": tuple(EYES),
    "age": AGES,
    "gender": GENDERS,
    "paint": PAINTS,
    "hat": HAT_KINDS,
    "hat_color": tuple(HATS),
    "mouth": MOUTHS,
}
assert tuple(OPTIONS) == tuple(field.name for field in fields(Attributes))

# Well-known characters as this world can show them.
CHARACTERS: dict[str, Attributes] = {
    "hulk": Attributes(skin="green", hair_color="black", gender="man"),
    "joker": Attributes(skin="white", hair_color="green", lips="red", gender="man", eyes="green"),
    "smurf": Attributes(skin="blue", hair_style="bald", hat="beanie", hat_color="white"),
    "santa": Attributes(
        hair_color="white", beard="long", beard_color="white", age="old", gender="man", hat="beanie", hat_color="red"
    ),
    "gandalf": Attributes(
        hair_style="long", hair_color="white", beard="long", beard_color="white", age="old", gender="man", eyes="blue"
    ),
    "thanos": Attributes(skin="purple", hair_style="bald", gender="man", eyes="blue"),
    "shrek": Attributes(skin="green", hair_style="bald", gender="man"),
    "hellboy": Attributes(
        skin="red", hair_color="black", beard="goatee", beard_color="black", gender="man", eyes="yellow"
    ),
    "elsa": Attributes(hair_style="bun", hair_color="blond", gender="woman", eyes="blue", lips="pink"),
    "neytiri": Attributes(skin="blue", hair_style="long", hair_color="black", gender="woman", eyes="yellow"),
    "dracula": Attributes(skin="white", hair_color="black", lips="red", eyes="red", gender="man"),
    "lincoln": Attributes(
        hair_color="black", beard="full", beard_color="black", gender="man", hat="top_hat", hat_color="black"
    ),
    "simpson": Attributes(skin="yellow", hair_style="bald", gender="man"),
    "mario": Attributes(beard="moustache", beard_color="brown", gender="man", hat="cap", hat_color="red", eyes="blue"),
}


def consistent(attributes: Attributes) -> Attributes:
    """The same looks with attributes that cannot be seen set to their defaults, so that equal looks are equal."""
    default = Attributes()
    if attributes.hair_style == "bald":
        attributes = replace(attributes, hair_color=default.hair_color)
    if attributes.beard == "none":
        attributes = replace(attributes, beard_color=attributes.hair_color)
    if attributes.hat in ("none", "crown"):  # a crown is golden
        attributes = replace(attributes, hat_color=default.hat_color)
    if attributes.mouth == "none":
        attributes = replace(attributes, lips=default.lips)
    return attributes
