"""What ARKit's weights do to FLAME: the user's own table, which lies beside the model as its landmarks and masks do.

FLAME's expressions are principal components without names, and no free table says which of them make a smile. Those
that researchers have fitted are theirs to hand out: none ships with this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headstudio.cli import nearest
from headstudio.errors import UserError
from headstudio.head.flame_file import beside, numbers, read_npz
from headstudio.motion.arkit import ARKIT_NAMES, INDEX, plain_jaw
from headstudio.types import ArkitMapping

Array = NDArray[Any]
OWN_FILE = "arkit_mapping.npz"
MEDIAPIPE_FILE, MEDIAPIPE_JAW_FILES = "bs2exp.npy", ("bs2jaw.npy", "bs2pose.npy")
MEDIAPIPE_NAMES = ("_neutral", *sorted(set(ARKIT_NAMES) - {"tongueOut"}))  # MediaPipe's 52 scores, in its order


def find_file(arkit_path: str | None, model_path: Path) -> Path | None:
    """The table that is named, or lies beside the model (there also in `mappings/`); None if there is none.

    Raises:
        UserError: the file that is named is not there.
    """
    names = (OWN_FILE, MEDIAPIPE_FILE, f"mappings/{MEDIAPIPE_FILE}")
    return beside("arkit_path", arkit_path, model_path, names)


def read_mapping(path: Path, *, num_expression: int) -> ArkitMapping:
    """The table of an `arkit_mapping.npz` or of a `bs2exp.npy`, for FLAME's first `num_expression` coefficients.

    * `.npz`: `arkit_names` (K,), `expression` (K, E) and, if it turns the jaw otherwise than by 24 degrees for jawOpen,
      `jaw` (K, 3) axis-angle in radians. Names that it lacks do nothing.
    * `bs2exp.npy` (52, E) with `bs2jaw.npy` (or `bs2pose.npy`, its older name) (52, 3) beside it, rows in MediaPipe's
      order, as https://github.com/PeizhiYan/mediapipe-blendshapes-to-flame fits them. Its `bs2eye.npy` is not read:
      the eyes follow the eyeLook weights.

    Raises:
        UserError: it is damaged, or holds other names or shapes.
    """
    if path.suffix == ".npz":
        names, expression, jaw = _own(path)
    else:
        names, expression, jaw = _mediapipe(path)
    rows = [(row, INDEX[name]) for row, name in enumerate(names) if name in INDEX]
    kept = min(num_expression, expression.shape[1])
    mapping = ArkitMapping(expression=torch.zeros(len(ARKIT_NAMES), num_expression), jaw=plain_jaw())
    if jaw is not None:
        mapping.jaw.zero_()
    for row, index in rows:
        mapping.expression[index, :kept] = torch.from_numpy(expression[row, :kept].astype(np.float32))
        if jaw is not None:
            mapping.jaw[index] = torch.from_numpy(jaw[row].astype(np.float32))
    return mapping


def _own(path: Path) -> tuple[Sequence[str], Array, Array | None]:
    fields = read_npz(path)
    if lacking := [key for key in ("arkit_names", "expression") if key not in fields]:
        raise UserError(f"{path} lacks {' and '.join(lacking)}; it needs arkit_names (K,) and expression (K, E).")
    names = [str(name) for name in np.atleast_1d(fields["arkit_names"]).reshape(-1)]
    for name in names:
        if name not in INDEX:
            raise UserError(f"{path}: arkit_names holds {name}, which is no name of ARKit's.{nearest(name, INDEX)}")
    if twice := [name for name in INDEX if names.count(name) > 1]:
        raise UserError(f"{path}: arkit_names holds {twice[0]} twice.")
    jaw = fields.get("jaw")
    return (
        names,
        _table(path, "expression", fields["expression"], len(names), None),
        None if jaw is None else _table(path, "jaw", jaw, len(names), 3),
    )


def _mediapipe(path: Path) -> tuple[Sequence[str], Array, Array | None]:
    count = len(MEDIAPIPE_NAMES)
    expression = _table(path, path.name, _loaded(path), count, None)
    beside_it = (path.with_name(name) for name in MEDIAPIPE_JAW_FILES)
    jaw_path = next((file for file in beside_it if file.is_file()), None)
    jaw = None if jaw_path is None else _table(jaw_path, jaw_path.name, _loaded(jaw_path), count, 3)
    return MEDIAPIPE_NAMES, expression, jaw


def _loaded(path: Path) -> Array:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (ValueError, EOFError, OSError, TypeError, MemoryError) as error:
        raise UserError(f"{path} is no .npy of plain numbers, or it is cut off.") from error


def _table(path: Path, name: str, value: Any, rows: int, columns: int | None) -> Array:
    """(rows, columns) finite numbers; any columns above 0 where `columns` is None."""
    table = numbers(path, name, value)
    if table.ndim != 2 or len(table) != rows or table.shape[1] != (columns or max(1, table.shape[1])):
        raise UserError(
            f"{path}: {name} has shape {table.shape} but must be ({rows}, {columns or 'coefficients'}), a row for each "
            "of ARKit's names."
        )
    return table
