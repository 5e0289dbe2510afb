"""Lists of sentences by name: `prompt=@tiny8` on a multirun's command line, and what CLIP tells a sentence from.

A list is a text file with a sentence a line; lines that begin with # say what it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from headstudio.errors import UserError

MARK = "@"


def prompts_dir() -> Path:
    """Our lists: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "prompts"
    return inside if inside.is_dir() else package.parent / "prompts"


def lists() -> dict[str, str]:
    """The name of every list of ours, and its first comment line."""
    files = sorted(prompts_dir().glob("*.txt"))
    return {file.stem: file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for file in files}


def read_prompts(name: str) -> list[str]:
    """The sentences of a list: a name from `prompts/`, or the path of a file.

    Raises:
        UserError: there is no such list, it is no text, or it holds no sentence.
    """
    own = prompts_dir() / f"{name}.txt"
    path = own if own.is_file() else Path(name).expanduser()
    if not path.is_file():
        raise UserError(
            f"There is no list of prompts {name!r}: name a file with a sentence a line, or one of {', '.join(lists())}."
        )
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise UserError(f"The list of prompts {path} is no UTF-8 text.") from None
    found = list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not found:
        raise UserError(f"The list of prompts {path} holds no sentence.")
    return found


def expand(arguments: Sequence[str]) -> list[str]:
    """`prompt=@NAME` becomes Hydra's sweep over the sentences of that list (`@ONE,@OTHER` over those of both).

    `+prompts=NAME` is the same in the words of a group of lists.

    Raises:
        UserError: without -m, or as `read_prompts`.
    """
    expanded = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "+prompts":
            key, value = "prompt", ",".join(f"{MARK}{name}" for name in re.split(r"\s*,\s*", value))
        if key == "prompt" and value.startswith(MARK):
            if not {"-m", "--multirun"} & set(arguments):
                raise UserError(f"{argument} names a list of sentences: add -m to make one run of each.")
            sentences = [s for name in re.split(r"\s*,\s*", value) for s in read_prompts(name.removeprefix(MARK))]
            argument = f"prompt={','.join(map(quoted, dict.fromkeys(sentences)))}"
        expanded.append(argument)
    return expanded


def quoted(sentence: str) -> str:
    """As one value of Hydra's grammar, whatever it holds."""
    escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", sentence)
    escaped = re.sub(r"(\\+)$", lambda found: found[1] * 2, escaped)
    return f"'{escaped}'"


def unquoted(value: str) -> str:
    """What the user means by one value of Hydra's grammar: without the quotes around a text; else as it is."""
    found = re.fullmatch(r"(['\"])(.*)\1", value, re.DOTALL)
    if found is None:
        return value
    mark, text = found.groups()
    if re.search(rf"(?<!\\)(?:\\\\)*{mark}", text):  # several texts
        return value
    return re.sub(rf"(\\+)({mark}|\Z)", lambda run: run[1][: len(run[1]) // 2] + run[2], text)
