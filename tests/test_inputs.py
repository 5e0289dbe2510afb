"""A run knows its files by their contents: written once, compared when it goes on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from headstudio import inputs
from headstudio.errors import UserError
from headstudio.findings import Finding, State


def found(*files: Path, what: str = "A head") -> Finding:
    return Finding(what=what, state=State.READY, files=files)


def test_contents_and_not_places_are_what_counts(tmp_path: Path) -> None:
    one, moved = tmp_path / "one.pkl", tmp_path / "elsewhere.pkl"
    one.write_bytes(b"a head")
    (entry,) = inputs.identify([found(one), found(one), Finding(what="A note", state=State.NOTE)])
    assert entry == {
        "what": "A head",
        "file": str(one),
        "bytes": 6,
        "sha256": hashlib.sha256(b"a head").hexdigest(),
    }
    kept = tmp_path / "inputs.json"
    inputs.keep(kept, [entry], resumed=False)
    assert json.loads(kept.read_text()) == [entry]
    one.rename(moved)
    inputs.keep(kept, inputs.identify([found(moved)]), resumed=True)
    assert json.loads(kept.read_text()) == [entry]  # as the run began


@pytest.mark.parametrize("change", ["content", "gone", "more"])
def test_a_run_does_not_go_on_with_other_files(tmp_path: Path, change: str) -> None:
    head, mask, kept = tmp_path / "head", tmp_path / "mask", tmp_path / "run" / "inputs.json"
    kept.parent.mkdir()
    head.write_bytes(b"1")
    mask.write_bytes(b"2")
    inputs.keep(kept, inputs.identify([found(head), found(mask, what="Masks")]), resumed=False)
    before = kept.read_bytes()
    if change == "content":
        mask.write_bytes(b"3")
    now = [found(head), *([] if change == "gone" else [found(mask, what="Masks")])]
    now += [found(mask, what="A motion")] if change == "more" else []
    named = "A motion" if change == "more" else "Masks"
    with pytest.raises(UserError, match=f"begun with other files for {named} than are there now.*to begin anew"):
        inputs.keep(kept, inputs.identify(now), resumed=True)
    assert kept.read_bytes() == before
    inputs.keep(kept, inputs.identify(now), resumed=False)  # begun anew
    assert kept.read_bytes() != before


def test_a_corpus_is_told_by_names_and_sizes(tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.npz" for n in range(inputs.MANY + 1)]
    for file in files:
        file.write_bytes(b"12")
    (entry,) = inputs.identify([found(*files)])
    assert entry["bytes"] == 2 * len(files)
    files[3].write_bytes(b"123")
    assert inputs.identify([found(*files)])[0]["sha256"] != entry["sha256"]


def test_a_run_without_files_of_the_users_has_no_list(tmp_path: Path) -> None:
    inputs.keep(tmp_path / "inputs.json", inputs.identify([]), resumed=False)
    assert not (tmp_path / "inputs.json").exists()
