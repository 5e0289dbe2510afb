"""The files of one run's directory as plain values; what is broken is told, never raised."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Curve:
    """What a run logged: a value (or None) of every quantity at every step."""

    steps: tuple[int, ...] = ()
    values: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)


def flattened(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _yaml(path: Path) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where libyaml is there
    return yaml.load(path.read_bytes(), Loader=loader)


def read_config(path: Path, problems: list[str]) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = _yaml(path)
    except Exception as error:  # yaml has many errors
        problems.append(f"config.yaml cannot be read ({type(error).__name__})")
        return {}
    return content if isinstance(content, dict) else {}


def read_hydra(root: Path) -> tuple[dict[str, str], tuple[str, ...] | None]:
    """The options taken and the overrides given, where Hydra wrote them down."""
    try:
        choices = _yaml(root / ".hydra" / "hydra.yaml")["hydra"]["runtime"]["choices"]
        given = _yaml(root / ".hydra" / "overrides.yaml")
    except Exception:  # not there, or not what it should be
        return {}, None
    taken = {name: as_text(value) for name, value in choices.items() if not name.startswith("hydra/")}
    return taken, tuple(str(word) for word in given)


def read_metrics(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            return content
        problems.append("metrics.json is not what a run writes")
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        problems.append("metrics.json is missing" if missing else "metrics.json is broken: its scores are left out")
    return {}


def read_curve(path: Path, problems: list[str], *, most: int = 200) -> tuple[Curve, int]:
    """The readable lines of metrics.jsonl, thinned to `most`; and how many steps the last one says are done."""
    lines, broken = [], 0
    try:
        texts = path.read_bytes().splitlines()
    except OSError:
        return Curve(), 0
    for text in texts:
        try:
            line = json.loads(text)
            lines.append((int(line["step"]), line))
        except (ValueError, KeyError, TypeError):
            broken += 1
    if broken:
        problems.append(f"{broken} of {len(texts)} lines of metrics.jsonl cannot be read and are left out")
    if not lines:
        return Curve(), 0
    done = lines[-1][0] + 1
    stride = math.ceil(len(lines) / most)
    lines = lines[::stride] if (len(lines) - 1) % stride == 0 else [*lines[::stride], lines[-1]]
    names = [name for name in dict.fromkeys(n for _, line in lines for n in line) if name != "step"]
    values = {name: tuple(_number(line.get(name)) for _, line in lines) for name in names}
    values = {name: column for name, column in values.items() if any(value is not None for value in column)}
    return Curve(tuple(step for step, _ in lines), values), done


def _number(value: Any) -> float | None:
    """Four digits of a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(f"{value:.4g}")


def read_views(details: Any) -> dict[str, tuple[float, ...]]:
    """The cosines of which the CLIP scores of each model are means."""
    found: dict[str, tuple[float, ...]] = {}
    for name, part in details.items() if isinstance(details, Mapping) else ():
        if not isinstance(part, Mapping):
            continue
        models = {name: part} if "cosine" in part else {k: v for k, v in part.items() if isinstance(v, Mapping)}
        for model, of_model in models.items():
            cosine, front = of_model.get("cosine", ()), part.get("front", ())
            found[f"{model}_score"] = tuple(float(value) for value in cosine)
            if len(front) == len(cosine):
                pairs = zip(cosine, front, strict=True)
                found[f"{model}_score_front"] = tuple(float(value) for value, is_front in pairs if is_front)
    return found


def as_text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
