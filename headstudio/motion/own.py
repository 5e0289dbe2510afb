"""Our own recordings: an `.npz` that says everything itself.

    fps                        one number
    expression                 (T, E) coefficients of FLAME's expression space
    arkit, arkit_names         (T, K) weights from 0 to 1, and the K names they belong to
    root, neck, jaw,           (T, 3) axis-angle in radians: x the subject's left, y up, z out of the face;
    eye_left, eye_right        a positive x turns down
    shape                      (S,) FLAME shape of the person

Anything may be missing but fps and one field of frames; without fps, `motion.fps` says it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstudio.errors import UserError
from headstudio.motion.arkit import ARKIT_NAMES, INDEX
from headstudio.motion.recording import ROTATIONS, Recording, checked
from headstudio.motion.vhap import stated_fps

Array = NDArray[Any]
KEYS = ("fps", "expression", "arkit", "arkit_names", *ROTATIONS, "shape")


def from_arrays(arrays: Mapping[str, Array], keys: Sequence[str], source: str, fps: float | None) -> Recording:
    """The recording in the arrays of one file.

    Args:
        arrays: by key, as far as they can be of use.
        keys: all that the file has; a misspelt one must not pass in silence.
        source: the file, for messages.
        fps: the setting, or None.

    Raises:
        UserError: for unknown keys, when fps is nowhere, or a field is wrong.
    """
    unknown = [key for key in keys if key not in KEYS]
    if len(unknown) == len(keys):
        told = ", ".join(unknown[:6]) or "nothing"
        raise UserError(f"{source} is no motion: it holds {told}, but expr (VHAP) or {', '.join(KEYS)} is wanted.")
    if unknown:
        near = difflib.get_close_matches(unknown[0], KEYS, n=1)
        hint = f" Did you mean {near[0]}?" if near else f" The keys are {', '.join(KEYS)}."
        raise UserError(f"{source} has an unknown key {unknown[0]}.{hint}")
    rate = stated_fps(arrays, source, fps)
    if rate is None:
        raise UserError(f"{source} lacks fps, its frames per second; add the key, or say motion.fps=30.")
    fields = {key: arrays[key] for key in ("expression", *ROTATIONS, "shape") if key in arrays}
    return Recording(source=source, fps=rate, arkit=_arkit(arrays, source), **fields)


def write(path: Path, recording: Recording) -> None:
    """Write what the module says; the names of all 52 weights are written with them."""
    arrays: dict[str, Any] = {"fps": np.float64(recording.fps), **recording.tracks}
    if "arkit" in arrays:
        arrays["arkit_names"] = np.array(ARKIT_NAMES)
    if recording.shape is not None:
        arrays["shape"] = recording.shape
    np.savez_compressed(path, **arrays)


def _arkit(arrays: Mapping[str, Array], source: str) -> Array | None:
    """(T, 52) in our order; names that the file does not have are 0 throughout."""
    if "arkit" not in arrays and "arkit_names" not in arrays:
        return None
    for key in ("arkit", "arkit_names"):
        if key not in arrays:
            raise UserError(f"{source} lacks {key}: arkit holds the weights, arkit_names says whose they are.")
    names = [str(name) for name in arrays["arkit_names"].reshape(-1)]
    given = checked(arrays["arkit"], "arkit", None, source)
    if given.shape[1] != len(names):
        raise UserError(f"{source}: arkit has {given.shape[1]} columns but arkit_names {len(names)} names.")
    columns = [_column(name, source) for name in names]
    if len(set(columns)) < len(columns):
        twice = next(name for name, column in zip(names, columns, strict=True) if columns.count(column) > 1)
        raise UserError(f"{source}: arkit_names has {twice} twice.")
    weights = np.zeros((len(given), len(ARKIT_NAMES)), np.float32)
    weights[:, columns] = given
    return weights


def _column(name: str, source: str) -> int:
    """Of a name in ARKit's spelling, with a capital first letter (Live Link) or with _L and _R (Unreal, Blender)."""
    plain = name[:-2] + {"_L": "Left", "_R": "Right"}[name[-2:]] if name.endswith(("_L", "_R")) else name
    plain = plain[:1].lower() + plain[1:]
    if plain not in INDEX:
        near = difflib.get_close_matches(plain, ARKIT_NAMES, n=1)
        raise UserError(
            f"{source}: arkit_names has {name}, which is none of ARKit's 52 names."
            + (f" Did you mean {near[0]}?" if near else "")
        )
    return INDEX[plain]
