"""Every mistake in an ablation's file is one sentence that names the file, the key and what would be right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstudio.cli import nearest
from headstudio.errors import UserError


@dataclass(frozen=True)
class Checks:
    """Parts of one file, each given back as it is if it is what it must be."""

    path: Path

    def _entries(self, node: Any, key: str, required: str, optional: str = "") -> dict[str, Any]:
        """A mapping with these keys and no other."""
        known = [*required.split(), *optional.split()]
        if not isinstance(node, dict):
            raise self._wrong(key or "the file", node, f"a mapping with the keys {', '.join(known)}")
        at = f"{key}." if key else ""
        for name in node:
            self._one_of(name, known, f"{at}{name}")
        for name in required.split():
            if name not in node:
                raise UserError(f"The ablation {self.path}: {at}{name} is missing.")
        return node

    def _one_of(self, name: Any, known: Iterable[str], told: str) -> str:
        if name not in (names := list(known)):
            hint = nearest(str(name), names)
            raise UserError(f"The ablation {self.path}: {told} is not one of {', '.join(names)}.{hint}")
        return str(name)

    def _whole(self, node: Any, key: str, least: int) -> int:
        if not isinstance(node, int) or isinstance(node, bool) or node < least:
            raise self._wrong(key, node, f"a whole number of at least {least}")
        return node

    def _arm_name(self, name: Any, names: Sequence[str], key: str) -> str:
        if name not in names:
            raise self._wrong(key, name, f"the name of an arm ({', '.join(names)})")
        return str(name)

    def _list(self, node: Any, key: str) -> list[Any]:
        if not isinstance(node, list):
            raise self._wrong(key, node, "a list")
        return node

    def _words(self, node: Any, key: str) -> str:
        if not isinstance(node, str) or not node.strip():
            raise self._wrong(key, node, "words")
        return node.strip()

    def _wrong(self, key: str, value: Any, right: str) -> UserError:
        return UserError(f"The ablation {self.path}: {key}={value!r} must be {right}.")
