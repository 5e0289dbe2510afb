"""A head in the files of FLAME: the open head's mesh with FLAME's numbers of everything, its keys and its side files.

It looks like the open head and not like FLAME. A command that works with it works with the real files, which their
licence keeps out of this package.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstudio.standins.flame_mesh import Mesh, flame_mesh

Array = NDArray[Any]
NOTE = "A stand-in made from the open head; it is not FLAME."
NUM_SHAPE, NUM_EXPRESSION, NUM_POSE = 300, 100, 36
NAMES: Mapping[tuple[int, str], str] = {
    (2020, "generic"): "generic_model",
    (2020, "male"): "male_model",
    (2020, "female"): "female_model",
    (2023, "generic"): "flame2023",
}
ROOTS_PARENT = 2**32 - 1  # as FLAME's kintree_table says "none"


def write_flame(
    folder: Path,
    *,
    version: int = 2020,
    gender: str = "generic",
    npz: bool = False,
    mediapipe: bool = True,
    static: bool = True,
    masks: bool = True,
    chumpy: bool = True,
) -> Path:
    """Write the model and its side files into `folder`; the same bytes every time.

    Args:
        folder: is made.
        version, gender: choose the file's name, which is the official one.
        npz: `.npz` instead of `.pkl`.
        mediapipe: also `mediapipe_landmark_embedding.npz`.
        static: also `flame_static_embedding.pkl`.
        masks: also `FLAME_masks.pkl`.
        chumpy: blend shapes are chumpy arrays in the pickle, as in the real one; `smplx` needs them plain.

    Returns:
        The model's file.

    Raises:
        KeyError: for a version and gender that are not published.
    """
    from headstudio.standins import flame_side_files

    path = folder / f"{NAMES[version, gender]}.{'npz' if npz else 'pkl'}"
    folder.mkdir(parents=True, exist_ok=True)
    mesh = flame_mesh()
    model = flame_arrays(mesh)
    if npz:
        np.savez(path, **model)  # type: ignore[arg-type]
    else:
        path.write_bytes(_pickled(model, chumpy=chumpy))
    if mediapipe:
        flame_side_files.write_mediapipe(folder / "mediapipe_landmark_embedding.npz", mesh)
    if static:
        flame_side_files.write_static(folder / "flame_static_embedding.pkl", mesh)
    if masks:
        flame_side_files.write_masks(folder / "FLAME_masks.pkl", mesh)
    return path


def flame_arrays(mesh: Mesh, *, seed: int = 0) -> dict[str, Array | str]:
    """FLAME's keys: lengths in metres, y up, the face looks along +z, float64."""
    rng = np.random.default_rng(seed)
    smooth = _Smooth(mesh.vertices, rng)
    shape = np.concatenate([mesh.shapedirs, smooth(NUM_SHAPE - mesh.shapedirs.shape[-1], 0.0015)], -1)
    expression = np.concatenate([mesh.exprdirs, smooth(NUM_EXPRESSION - mesh.exprdirs.shape[-1], 0.0008)], -1)
    return {
        "v_template": mesh.vertices,
        "f": mesh.faces.astype(np.uint32),
        "shapedirs": np.concatenate([shape, expression], -1),
        "posedirs": smooth(NUM_POSE, 0.0015),
        "weights": mesh.weights,
        "J_regressor": mesh.joint_regressor,
        "kintree_table": np.array([[ROOTS_PARENT, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.int64),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
        "note": NOTE,
    }


class _Smooth:
    """Random displacements that neighbours share: sums of a few long waves over the head."""

    def __init__(self, vertices: Array, rng: np.random.Generator, *, waves: int = 4, per_metre: float = 12.0) -> None:
        self.vertices, self.rng, self.waves, self.per_metre = vertices, rng, waves, per_metre

    def __call__(self, count: int, metres: float) -> Array:
        """(V, 3, count) of about this size."""
        frequency = self.rng.normal(0, self.per_metre, (count, self.waves, 3))
        phase = self.rng.uniform(0, 2 * np.pi, (count, self.waves))
        direction = self.rng.normal(0, metres / self.waves**0.5, (count, self.waves, 3))
        wave = np.sin(np.einsum("vc,nwc->vnw", self.vertices, frequency) + phase)
        return np.einsum("vnw,nwc->vcn", wave, direction)


def _pickled(model: Mapping[str, Array | str], *, chumpy: bool) -> bytes:
    """Protocol 2, as Python 2 wrote it: the joint regressor sparse, blend shapes as chumpy arrays."""
    from scipy.sparse import csc_matrix

    with _chumpy() as array:
        content: dict[str, Any] = dict(model)
        content["J_regressor"] = csc_matrix(model["J_regressor"])
        for name in ("v_template", "shapedirs", "posedirs", "weights") if chumpy else ():
            content[name] = array(content[name])
        return pickle.dumps(content, protocol=2)


@contextmanager
def _chumpy() -> Iterator[type]:
    """For as long as it takes to write, a class that calls itself `chumpy.ch.Ch`."""

    class Ch:
        def __init__(self, x: Array) -> None:
            # What the leaves of the real files carry besides their numbers.
            self.x, self._dirty_vars, self._itr, self._depends_on_deps = x, {"x"}, None, {}  # type: ignore[var-annotated]

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module = ModuleType("chumpy.ch")
    module.Ch = Ch  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in ("chumpy", "chumpy.ch")}
    sys.modules |= {"chumpy": ModuleType("chumpy"), "chumpy.ch": module}
    try:
        yield Ch
    finally:
        for name, old in before.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old
