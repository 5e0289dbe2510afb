"""FLAME's own model file: found by its official names, read without trusting it, and checked before it is used.

FLAME 2020 (generic, male, female) and FLAME 2023 (generic, with and without the jaw in the expressions) share one
layout: lengths in metres, x towards the subject's left, y up, z out of the face. The files are free after registration
at https://flame.is.tue.mpg.de and are not part of this package.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstudio.errors import UserError
from headstudio.head.safe_pickle import load_pickle

Array = NDArray[Any]
NUM_VERTICES, NUM_FACES, NUM_JOINTS = 5023, 9976, 5
NUM_SHAPE, NUM_EXPRESSION = 300, 100  # columns of `shapedirs`: shape first
PARENTS = (-1, 0, 1, 1, 1)
SITE = "https://flame.is.tue.mpg.de"
NAMES: Mapping[tuple[int, str], tuple[str, ...]] = {
    (2020, "generic"): ("generic_model", "FLAME_NEUTRAL"),
    (2020, "male"): ("male_model", "FLAME_MALE"),
    (2020, "female"): ("female_model", "FLAME_FEMALE"),
    (2023, "generic"): ("flame2023", "flame2023_Open", "flame2023_no_jaw", "FLAME_NEUTRAL"),
}
SUBFOLDERS = (".", "FLAME2020", "FLAME2023", "FLAME2023Open")
SHAPES: Mapping[str, tuple[int, ...]] = {
    "v_template": (NUM_VERTICES, 3),
    "f": (NUM_FACES, 3),
    "shapedirs": (NUM_VERTICES, 3, NUM_SHAPE + NUM_EXPRESSION),
    "posedirs": (NUM_VERTICES, 3, 9 * (NUM_JOINTS - 1)),
    "weights": (NUM_VERTICES, NUM_JOINTS),
    "J_regressor": (NUM_JOINTS, NUM_VERTICES),
    "kintree_table": (2, NUM_JOINTS),
}
OTHERS = {6890: "SMPL or SMPL+H", 10475: "SMPL-X", 778: "MANO", 5143: "FLAME with teeth added to it"}
TOLERANCE = 1e-3  # of weights, which must add up to one
REGRESSOR_TOLERANCE = 0.05  # joint regressors are fitted, and only pulled towards adding up to one
LARGEST_ENTRY = 400_000_000  # bytes of one array of an .npz; FLAME's largest has 48 million


@dataclass(frozen=True)
class FlameFile:
    """FLAME's arrays as the file has them, float64, metres, not to be written to; `path` is the file."""

    path: Path
    v_template: Array  # (5023, 3)
    faces: Array  # (9976, 3) int64
    shapedirs: Array  # (5023, 3, 400): 300 of shape, 100 of expression
    posedirs: Array  # (5023, 3, 36)
    weights: Array  # (5023, 5), rows sum to 1
    J_regressor: Array  # (5, 5023), rows sum to 1
    note: str  # what a stand-in says of itself; FLAME says nothing


def find_file(path: Path, *, version: int, gender: str) -> Path:
    """The model's file: `path` itself, or the official name under it.

    Raises:
        UserError: there is no such FLAME, nothing there has its name, or the file's name says it is another one.
    """
    file = located(path, version=version, gender=gender)
    if file is None:
        raise UserError(f"No FLAME {version} {gender} at head.path={path}: {how_to_get(path, version, gender)}.")
    return file


def located(path: Path, *, version: int, gender: str) -> Path | None:
    """As `find_file`, but None where nothing has the name.

    Raises:
        UserError: there is no such FLAME, or the file's name says it is another one.
    """
    if (version, gender) not in NAMES:
        known = ", ".join(f"version={v} gender={g}" for v, g in NAMES)
        raise UserError(f"head.version={version} with head.gender={gender} is not published; choose among {known}.")
    if path.is_file():
        other = _said_by_name(path)
        if other and (version, gender) not in other:
            is_version, is_gender = other[0]
            raise UserError(
                f"{path} is FLAME {is_version} {is_gender} by its name but the setting asks for FLAME {version} "
                f"{gender}; set head.version={is_version} head.gender={is_gender}, or head.path to the other file."
            )
        return path
    named = {file.stem.lower(): file for file in reversed(list(_files(path)))}
    return next((named[name.lower()] for name in NAMES[version, gender] if name.lower() in named), None)


def _files(folder: Path) -> Iterator[Path]:
    """Model files in a folder and the sub-folders of the archives, pickles first."""
    for sub in SUBFOLDERS:
        for ending in (".pkl", ".npz"):
            yield from sorted(file for file in (folder / sub).glob(f"*{ending}") if _said_by_name(file))


def _said_by_name(file: Path) -> list[tuple[int, str]]:
    """Which FLAME a file is by its name; empty if the name says nothing."""
    return [kind for kind, names in NAMES.items() if file.stem.lower() in (name.lower() for name in names)]


def how_to_get(path: Path, version: int, gender: str) -> str:
    """Half a sentence: which file to put where, or which setting reads what is there."""
    name = NAMES[version, gender][0]
    if there := next(_files(path), None):
        version_there, gender_there = _said_by_name(there)[0]
        return (
            f"it holds {there.name}, which head.version={version_there} head.gender={gender_there} reads; "
            f"put {name}.pkl from {SITE} there, or change the setting"
        )
    return (
        f"register at {SITE}, download FLAME {version}, and put {name}.pkl there, or say where it is by "
        "head.path= or the variable HEADSTUDIO_FLAME"
    )


def read_file(path: Path, *, gender: str) -> FlameFile:
    """Read and check one file; about two seconds for a pickle, once: the last one is kept (60 MB) while it is the same.

    Raises:
        UserError: the file cannot be read, is cut off, asks to run code, holds another model, or one of its
            fields is not FLAME's; the sentence names the file and the field.
    """
    status = path.stat()
    return _read(path.absolute(), gender, (status.st_ino, status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=1)
def _read(path: Path, gender: str, state: tuple[int, ...]) -> FlameFile:
    """`read_file` of a file in one state."""
    content: Any = read_npz(path) if path.suffix == ".npz" else load_pickle(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no table of FLAME's fields but a {type(content).__name__}.")
    fields = {str(key): value for key, value in content.items()}
    _check_kind(path, fields, gender)
    arrays = {name: numbers(path, name, fields[name]) for name in SHAPES}
    for name, shape in SHAPES.items():
        if arrays[name].shape != shape:
            raise UserError(f"{path}: {name} has the shape {arrays[name].shape} but FLAME's has {shape}.")
    _check_mesh(path, arrays)
    _check_skinning(path, arrays)
    numbers64: dict[str, Array] = {
        name: array.astype(np.int64 if name == "f" else np.float64) for name, array in arrays.items()
    }
    for name in ("weights", "J_regressor"):
        numbers64[name] /= numbers64[name].sum(1, keepdims=True)
    for array in numbers64.values():
        array.flags.writeable = False
    return FlameFile(
        path=path,
        v_template=numbers64["v_template"],
        faces=numbers64["f"],
        shapedirs=numbers64["shapedirs"],
        posedirs=numbers64["posedirs"],
        weights=numbers64["weights"],
        J_regressor=numbers64["J_regressor"],
        note=str(fields.get("note", "")),
    )


def beside(key: str, named: str | None, model_path: Path, names: tuple[str, ...]) -> Path | None:
    """A side file: the one that is named, else the first of `names` beside the model or in the folder above it.

    The archives of the side files unpack to folders of their own names (`FLAME_masks/FLAME_masks.pkl`).

    Raises:
        UserError: the named one is not there.
    """
    if named is not None:
        path = Path(named).expanduser()
        if not path.is_file():
            raise UserError(f"head.{key}={path} is not there; name the file, or null to look beside the model.")
        return path
    folders = [model_path.parent]
    if model_path.parent.name in SUBFOLDERS:
        folders.append(model_path.parent.parent)
    found = (folder / inner / name for name in names for folder in folders for inner in ("", Path(name).stem))
    return next((path for path in found if path.is_file()), None)


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of an `.npz`; nothing that could run code, nothing larger than FLAME could be.

    Raises:
        UserError: it cannot be read, is damaged, or holds objects.
    """
    try:
        with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as file:
            if large := [entry.filename for entry in archive.infolist() if entry.file_size > LARGEST_ENTRY]:
                raise UserError(f"{path} is refused because {large[0]} is larger than any array of FLAME's.")
            for entry in archive.namelist():
                _check_header(path, archive, entry)
            return {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, MemoryError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is no .npz of plain arrays, or it is cut off ({reason[:100]}).") from error


def _check_header(path: Path, archive: zipfile.ZipFile, entry: str) -> None:
    """No array that would be larger than the bytes there are for it (numpy makes room first and reads then)."""
    with archive.open(entry) as member:
        version = np.lib.format.read_magic(member)  # type: ignore[no-untyped-call]
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(member)  # type: ignore[no-untyped-call]
    if math.prod(shape) * dtype.itemsize > archive.getinfo(entry).file_size:
        raise UserError(f"{path} is no .npz of plain arrays, or it is cut off ({entry} is shorter than it says).")


def _check_kind(path: Path, fields: Mapping[str, Any], gender: str) -> None:
    """It is FLAME and not one of its relatives, complete, and of the gender that was asked for."""
    vertices = len(fields["v_template"]) if isinstance(fields.get("v_template"), np.ndarray) else NUM_VERTICES
    if vertices != NUM_VERTICES:
        name = OTHERS.get(vertices)
        raise UserError(
            f"{path} is {'not FLAME but ' + name if name else 'not FLAME'}: v_template has {vertices} vertices and "
            f"FLAME's has {NUM_VERTICES}; get FLAME from {SITE}."
        )
    if lacking := [name for name in SHAPES if name not in fields]:
        there = ", ".join(sorted(fields)[:8]) or "nothing"
        raise UserError(f"{path} lacks {', '.join(lacking)}, which every FLAME model has; it holds {there}.")
    stored = np.asarray(fields.get("gender", "")).ravel()[:1].tolist()
    said = "".join(word.decode("latin1") if isinstance(word, bytes) else str(word) for word in stored).lower()
    said = said.replace("neutral", "generic")
    if said in ("generic", "male", "female") and said != gender:
        raise UserError(f"{path}: gender is {said} but the setting is head.gender={gender}; set head.gender={said}.")


def numbers(path: Path, name: str, value: Any) -> Array:
    """A field as an array of finite numbers.

    Raises:
        UserError: it holds something else.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path}: {name} holds {array.dtype} where FLAME's holds numbers.")
    if not np.isfinite(array).all():
        raise UserError(f"{path}: {name} holds numbers that are not finite.")
    return array


def _check_mesh(path: Path, fields: Mapping[str, Array]) -> None:
    """Triangles of its own vertices, on a head as large as one, that is nearly its own mirror image."""
    vertices, faces = fields["v_template"], fields["f"].astype(np.int64)
    if faces.min() < 0 or faces.max() >= NUM_VERTICES or (faces != fields["f"]).any():
        raise UserError(f"{path}: f holds vertices outside 0..{NUM_VERTICES - 1}.")
    ordered = np.sort(faces, axis=1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        raise UserError(f"{path}: f holds a triangle that has one vertex twice.")
    size = np.ptp(vertices, axis=0)
    if not 0.1 < size.max() < 1.0:
        raise UserError(f"{path}: v_template is {size.max():.3g} long where FLAME's head is about 0.3 metres.")
    if size.argmax() != 1:
        raise UserError(f"{path}: v_template is not upright: y (up) must be its longest side.")
    _check_mirror(path, vertices)


def _check_mirror(path: Path, vertices: Array, *, near: float = 0.02) -> None:
    """Real heads are only nearly symmetric, so a mirrored vertex need only have neighbours (metres) nearby."""
    from scipy.spatial import cKDTree

    middle = (vertices[:, 0].max() + vertices[:, 0].min()) / 2
    mirrored = vertices * [-1, 1, 1] + [2 * middle, 0, 0]
    distance, _ = cKDTree(vertices).query(mirrored)
    if np.quantile(distance, 0.98) > near:
        raise UserError(f"{path}: v_template is not nearly symmetric in x, as a head is.")


def _check_skinning(path: Path, fields: Mapping[str, Array]) -> None:
    """Shares that are shares, joints in FLAME's order: root, neck, jaw, the subject's left eye, the right."""
    weights, regressor, table = fields["weights"], fields["J_regressor"], fields["kintree_table"]
    if weights.min() < -TOLERANCE:
        raise UserError(f"{path}: weights are negative ({weights.min():.3g}) and must be at least 0.")
    for name, array, tolerance in (("weights", weights, TOLERANCE), ("J_regressor", regressor, REGRESSOR_TOLERANCE)):
        sums = array.sum(1)
        worst = int(np.abs(sums - 1).argmax())
        if abs(sums[worst] - 1) > tolerance:
            raise UserError(f"{path}: row {worst} of {name} adds up to {sums[worst]:.5g} where it must be 1.")
    parents = table[0].astype(np.int64)
    if tuple(parents[1:]) != PARENTS[1:] or not (parents[0] < 0 or parents[0] >= NUM_JOINTS):
        raise UserError(f"{path}: kintree_table says the parents are {parents.tolist()} where FLAME's are {PARENTS}.")
    joints = regressor @ fields["v_template"]
    if not (joints[3, 0] > joints[4, 0] and joints[3:, 1].min() > joints[1, 1] and joints[3:, 2].min() > joints[1, 2]):
        raise UserError(
            f"{path}: J_regressor puts the eyes where FLAME does not (the left at +x, both above and before the neck)."
        )
