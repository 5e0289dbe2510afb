"""docs/paper.md says what the composed settings hold, and they hold what the paper and the released code say."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headstudio import paper_table
from headstudio.errors import UserError
from headstudio.paper_table import COLUMNS, KINDS, Setting, composed, shown

PAGE = Path(__file__).parents[1] / "docs" / "paper.md"
ROWS = paper_table.load()
CLAIMS = [(row, source) for row in ROWS["settings"] for source in ("paper", "official")]


@pytest.fixture(scope="module")
def settings() -> dict[str, Setting]:
    return {name: composed(overrides) for name, overrides in COLUMNS.items()}


def agrees(claim: Any, value: Any) -> bool:
    """Whether a value is the claimed one; of a schedule the claim names its numbers, not its class."""
    if isinstance(claim, Mapping):
        return isinstance(value, Mapping) and {k: v for k, v in value.items() if k != "_target_"} == dict(claim)
    return isinstance(claim, bool) == isinstance(value, bool) and bool(claim == value)


@pytest.mark.parametrize(("row", "source"), CLAIMS, ids=[f"{row['setting']}-{source}" for row, source in CLAIMS])
def test_a_setting_is_what_its_source_says(row: dict[str, Any], source: str, settings: dict[str, Setting]) -> None:
    claim = row[source]
    held = [settings[f"experiment={source}"].at(key) for key in row["keys"]]
    expected = claim.get("ours", claim.get("is"))
    assert len(expected) == len(row["keys"])
    assert all(map(agrees, expected, held)), f"{row['keys']} = {held}, claimed {expected}"
    if "ours" in claim:
        assert claim["because"]
        assert claim["ours"] != claim.get("is")
    else:
        assert claim["says"]
        assert claim["where"]


def test_every_key_is_one_of_some_setting(settings: dict[str, Setting]) -> None:
    """A key that is misspelt would be nowhere, which a claim of null would take for agreement."""
    for row in ROWS["settings"]:
        for key in row["keys"]:
            assert any(setting.at(key) is not None for setting in settings.values()), key


def test_every_known_difference_is_a_setting_or_is_explained() -> None:
    found = set()
    for row in [*ROWS["settings"], *ROWS["others"]]:
        numbers = row.get("row", [])
        found.update(numbers if isinstance(numbers, list) else [numbers])
    assert found == set(range(1, 47))
    assert {row["kind"] for row in ROWS["others"]} <= set(KINDS)


def test_a_setting_that_differs_names_its_switch(settings: dict[str, Setting]) -> None:
    paper, official = settings["experiment=paper"], settings["experiment=official"]
    for row in ROWS["settings"]:
        if [paper.at(key) for key in row["keys"]] != [official.at(key) for key in row["keys"]]:
            assert "=" in row["switch"], row["setting"]


def test_the_page_is_up_to_date(settings: dict[str, Setting]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    made = paper_table.tables(ROWS, settings)
    assert paper_table.between_markers(page, made) == page, "python -m headstudio.paper_table docs/paper.md"


@pytest.mark.slow
def test_the_commands_of_the_page_compose() -> None:
    """Every `python -m headstudio.run` there, for every option that it sweeps, and what the prose names."""
    page = PAGE.read_text(encoding="utf-8")
    lines = [line.split("  #")[0] for line in page.splitlines() if line.startswith("    python -m headstudio.run ")]
    assert len(lines) == 4
    for line in lines:
        words = [word for word in shlex.split(line) if "=" in word and not word.startswith(("prompt=", "hydra/"))]
        keys = [word.partition("=")[0] for word in words]
        for values in itertools.product(*(word.partition("=")[2].split(",") for word in words)):
            composed([f"{key}={value}" for key, value in zip(keys, values, strict=True)])
    for named in re.findall(r"`((?:[a-z0-9_.]+=[a-z0-9_.]+ ?)+)`", page.partition("## Side by side")[0]):
        composed(named.split())


def test_values_read_well() -> None:
    assert shown(5.0e-5) == "5e-5"
    assert shown([1.5, 2.0]) == "1.5, 2"
    assert shown(True) == "yes"
    assert shown({"_target_": "x", "values": [50, 20], "steps": [3001]}) == "50, 20 from step 3001 on"
    assert shown("word " * 30).endswith("word …")


def test_a_row_says_how_its_sources_stand_to_each_other() -> None:
    by_name = {row["setting"]: paper_table.status(row) for row in ROWS["settings"]}
    assert by_name["Rate of the scales"] == "differ"
    assert by_name["Distance"] == "agree"
    assert by_name["Guidance scale"] == "only the code says"
    assert by_name["CLIP models"] == "only the paper says"


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(UserError, match="has no lines"):
        paper_table.between_markers("nothing", "made")
    with pytest.raises(UserError, match="is missing"):
        paper_table.load(Path("nowhere.yaml"))
