"""The paper, its released code and our settings side by side: the tables of docs/paper.md.

    python -m headstudio.paper_table                  # prints them
    python -m headstudio.paper_table docs/paper.md    # writes them between the markers of a file

The claims are docs/paper_rows.yaml, typed by hand; what our settings hold is read from the composed settings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstudio.errors import UserError

ROWS = Path(__file__).resolve().parents[1] / "docs" / "paper_rows.yaml"
BEGIN, END = "<!-- made by headstudio.paper_table -->", "<!-- end -->"
COLUMNS = {"experiment=paper": ["experiment=paper"], "experiment=official": ["experiment=official"], "default": []}
KINDS = {
    "mistake": "a mistake, not reproduced",
    "same": "no difference",
    "cost": "changes time, not the method",
    "prompt": "no default",
    "other": "another protocol",
}
LONGEST = 60  # characters of a value; the whole stands in `--cfg job`


@dataclass(frozen=True)
class Setting:
    """One composed setting: its values, and the option taken of each group."""

    values: Mapping[str, Any]
    choices: Mapping[str, str]

    def at(self, key: str) -> Any:
        """The value at a dotted key (`choice.X`: the option of group X); None where there is none."""
        if key.startswith("choice."):
            return self.choices.get(key.removeprefix("choice."))
        node: Any = self.values
        for part in key.split("."):
            if not isinstance(node, Mapping) or part not in node:
                return None
            node = node[part]
        return node


def composed(overrides: Sequence[str]) -> Setting:
    """The setting that `python -m headstudio.run OVERRIDES` would run."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf, open_dict

    from headstudio.cli import conf_dir
    from headstudio.run import register_resolvers

    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=list(overrides), return_hydra_config=True)
    choices = {str(group): str(option) for group, option in config.hydra.runtime.choices.items()}
    with open_dict(config):
        del config["hydra"]
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return Setting({str(key): value for key, value in values.items()}, choices)


def load(path: Path = ROWS) -> dict[str, Any]:
    """{"settings": [...], "others": [...]}, as docs/paper_rows.yaml explains.

    Raises:
        UserError: where the file is not there, as in an installed package.
    """
    import yaml

    if not path.is_file():
        raise UserError(f"{path} is missing: the claims about the paper come with a checkout, not with the package.")
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def tables(rows: Mapping[str, Any], settings: Mapping[str, Setting]) -> str:
    """Both tables as Markdown."""
    first = [["", "paper", "official code", *(f"`{name}`" for name in settings), "row", "status", "switch"]]
    for row in rows["settings"]:
        name = row["setting"] + (f" ({row['note']})" if "note" in row else "")
        said = [_said(row["paper"]), _said(row["official"])]
        held = ["; ".join(_shown(row["keys"], setting)) for setting in settings.values()]
        switch = "; ".join(f"`{part}`" if "=" in part and " " not in part else part for part in _parts(row))
        first.append([name, *said, *held, _numbers(row), status(row), switch])
    second = [["row", "", "official code", "here", ""]]
    for row in rows["others"]:
        second.append([_numbers(row), row["topic"], row["official"], row["here"], KINDS[row["kind"]]])
    return f"{_markdown(first)}\n\n## What is not an option\n\n{_markdown(second)}"


def status(row: Mapping[str, Any]) -> str:
    """How the two sources stand to each other, by what they say and not by what we do."""
    paper, official = row["paper"].get("is"), row["official"].get("is")
    if paper is None or official is None:
        return "only the code says" if paper is None else "only the paper says"
    return "agree" if paper == official else "differ"


def between_markers(text: str, made: str) -> str:
    """`text` with `made` in the place of what stands between its markers.

    Raises:
        UserError: where a marker is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"The file has no lines {BEGIN!r} and {END!r} between which the tables could stand.")
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def _parts(row: Mapping[str, Any]) -> Iterator[str]:
    for part in str(row.get("switch", "")).split("; "):
        yield from part.split(", ") if " " not in part.replace(", ", "") else [part]


def _said(claim: Mapping[str, Any]) -> str:
    """What a source says and where, or that it does not; and why we differ from it."""
    told = f"{claim['says']} ({claim['where']})" if "says" in claim else "not stated"
    return f"{told}; here: {claim['because']}" if "because" in claim else told


def _shown(keys: Sequence[str], setting: Setting) -> Iterator[str]:
    for key in keys:
        value = setting.at(key)
        if value is not None:
            yield shown(value)


def shown(value: Any) -> str:
    """A value as a reader of a table wants it: numbers short, schedules as a sentence, long text cut."""
    if isinstance(value, Mapping):
        if "values" in value:
            steps = [f" from step {step} on" for step in value["steps"]]
            return ", ".join(f"{shown(v)}{when}" for v, when in zip(value["values"], ["", *steps], strict=True))
        ends = f"{shown(value['start'])} to {shown(value['end'])}"
        return f"{ends} over steps {value['first_step']}-{value['last_step']}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    if isinstance(value, int | float):
        return f"{value:g}".replace("e-0", "e-")
    text = str(value).removeprefix("headstudio.guidance.sds.")
    return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0] + " …"


def _numbers(row: Mapping[str, Any]) -> str:
    numbers = row.get("row", [])
    return ", ".join(map(str, numbers if isinstance(numbers, list) else [numbers]))


def _markdown(table: Sequence[Sequence[str]]) -> str:
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in table]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or write them between the markers of the file that is named."""
    parser = argparse.ArgumentParser(prog="python -m headstudio.paper_table", description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, help="write the tables between the markers of this file")
    file = parser.parse_args(arguments).file
    try:
        made = tables(load(), {name: composed(overrides) for name, overrides in COLUMNS.items()})
        if file is None:
            sys.stdout.write(made + "\n")
        else:
            file.write_text(between_markers(file.read_text(encoding="utf-8"), made), encoding="utf-8")
    except (UserError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
