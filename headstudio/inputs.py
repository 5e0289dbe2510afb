"""Which files of the user's a run was made from, by their contents: `inputs.json` in its directory.

A signature names a licensed head or a model by its path, and a path can come to hold something else. So a run writes
down what it read, and one that was interrupted does not go on with other files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from headstudio.errors import UserError
from headstudio.files import put
from headstudio.findings import Finding

MANY = 64
"""A folder of more files than this (a corpus of recordings) is told by their names and sizes."""


def identify(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """What, file, bytes and sha256 of everything that was found, in order; each file once."""
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    for finding in findings:
        for entry in _entries(finding):
            entries[entry["what"], entry["file"]] = entry
    return list(entries.values())


def _entries(finding: Finding) -> Iterator[dict[str, Any]]:
    files = [(file, file.stat().st_size) for file in finding.files]
    if len(files) > MANY:
        listed = "\n".join(f"{file.name} {size}" for file, size in sorted(files))
        total, digest = sum(size for _, size in files), hashlib.sha256(listed.encode()).hexdigest()
        told = f"{files[0][0].parent} and others: names and sizes of {len(files)} files"
        yield {"what": finding.what, "file": told, "bytes": total, "sha256": digest}
        return
    for file, size in files:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        yield {"what": finding.what, "file": str(file), "bytes": size, "sha256": digest}


def keep(path: Path, found: Sequence[dict[str, Any]], *, resumed: bool) -> None:
    """Write `found`; of a run that goes on, see first that it is what the run began with.

    Args:
        path: the run's `inputs.json`.
        found: what `identify` gave; nothing is written where it is empty.
        resumed: whether the run goes on from a checkpoint.

    Raises:
        UserError: a file has changed since; what was saved is kept.
    """
    if resumed and path.exists():
        before, now = _contents(json.loads(path.read_text(encoding="utf-8"))), _contents(found)
        changed = [what for what in {**before, **now} if before.get(what) != now.get(what)]
        if changed:
            raise UserError(
                f"This run was begun with other files for {', '.join(changed)} than are there now ({path} has their "
                f"hashes); put them back to go on, or delete {path.parent} to begin anew."
            )
        return
    if found:
        put(path, json.dumps(list(found), indent=2) + "\n")


def _contents(entries: Sequence[dict[str, Any]]) -> dict[str, set[str]]:
    """The hashes under each name, wherever the files lie."""
    hashes: dict[str, set[str]] = {}
    for entry in entries:
        hashes.setdefault(entry["what"], set()).add(entry["sha256"])
    return hashes
