"""Files that are not FLAME's, or not whole, are refused in one sentence that says what is wrong and where."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from headstudio.errors import UserError
from headstudio.findings import Finding, State
from headstudio.head import flame_file
from headstudio.head.flame import load_flame

Fields = dict[str, Any]
SETTING: dict[str, Any] = {
    "version": 2020,
    "gender": "generic",
    "num_shape": 3,
    "num_expression": 2,
    "landmark_path": None,
    "mask_path": None,
    "arkit_path": None,
}


def load(path: Path, **changed: Any) -> None:
    load_flame(**{"path": str(path), **SETTING} | changed)


def looked(path: Path, **changed: Any) -> list[Finding]:
    found: list[Finding] = load_flame.look(**{"path": str(path), **SETTING} | changed)  # type: ignore[attr-defined]
    return found


def refused(path: Path, *parts: str, **changed: Any) -> str:
    """The one sentence by which the setting is refused, by the doctor in the same words."""
    with pytest.raises(UserError) as error:
        load(path, **changed)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    for part in parts:
        assert part in sentence
    (finding,) = looked(path, **changed)
    assert finding.state is State.BROKEN
    assert finding.detail == sentence
    return sentence


def test_a_regressor_that_nearly_adds_up_and_a_triangle_twice_are_read(
    flame_numbers: Mapping[str, Any], tmp_path: Path
) -> None:
    """Regressors are fitted with a pull towards 1; rows then have to be 1, as the world's origin is not FLAME's."""
    changed = dict(flame_numbers) | {"J_regressor": 0.99 * flame_numbers["J_regressor"]}
    changed["f"] = np.array(changed["f"])
    changed["f"][5] = changed["f"][9, [1, 2, 0]]
    np.savez(tmp_path / "mine.npz", **changed)
    read = flame_file.read_file(tmp_path / "mine.npz", gender="generic")
    assert np.abs(read.J_regressor - flame_numbers["J_regressor"]).max() < 1e-9
    assert (np.sort(read.faces[5]) == np.sort(read.faces[9])).all()


def test_a_file_is_read_once_until_it_changes(flame_numbers: Mapping[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, **flame_numbers)
    first = flame_file.read_file(path, gender="generic")
    assert flame_file.read_file(path, gender="generic") is first
    with pytest.raises(ValueError, match="read-only"):
        first.v_template[0] = 0.0
    moved = dict(flame_numbers) | {"v_template": flame_numbers["v_template"] + 0.01}
    np.savez(path, **moved)
    assert_allclose(flame_file.read_file(path, gender="generic").v_template, moved["v_template"])


def changed_entry(name: str, index: Any, value: Any) -> Callable[[Fields], None]:
    def change(fields: Fields) -> None:
        fields[name] = np.array(fields[name])
        fields[name][index] = value

    return change


def replaced(name: str, make: Callable[[Any], Any]) -> Callable[[Fields], None]:
    def change(fields: Fields) -> None:
        fields[name] = make(fields[name])

    return change


BAD: dict[str, tuple[Callable[[Fields], Any], tuple[str, ...]]] = {
    "no faces": (lambda f: f.pop("f"), ("lacks f,",)),
    "no template": (lambda f: f.pop("v_template"), ("lacks v_template,",)),
    "smpl": (replaced("v_template", lambda _: np.zeros((6890, 3))), ("not FLAME but SMPL ", "6890")),
    "smpl-x": (replaced("v_template", lambda _: np.zeros((10475, 3))), ("not FLAME but SMPL-X", "10475")),
    "with teeth": (replaced("v_template", lambda _: np.zeros((5143, 3))), ("FLAME with teeth", "5143")),
    "unknown mesh": (replaced("v_template", lambda v: v[:-1]), ("is not FLAME:", "5022")),
    "fewer faces": (replaced("f", lambda f: f[:-1]), ("f has the shape (9975, 3)", "(9976, 3)")),
    "no expressions": (replaced("shapedirs", lambda d: d[..., :300]), ("shapedirs has the shape (5023, 3, 300)",)),
    "flat posedirs": (replaced("posedirs", lambda d: d.reshape(-1, 36).T), ("posedirs has the shape (36, 15069)",)),
    "words": (replaced("weights", lambda w: np.full(w.shape, "a")), ("weights holds <U1",)),
    "nan": (changed_entry("shapedirs", (7, 1, 320), np.nan), ("shapedirs holds numbers that are not finite",)),
    "infinite": (changed_entry("posedirs", (7, 1, 3), np.inf), ("posedirs holds numbers that are not finite",)),
    "face outside": (changed_entry("f", (5, 1), 5023), ("f holds vertices outside 0..5022",)),
    "half a vertex": (replaced("f", lambda f: f + 0.5), ("f holds vertices outside",)),
    "degenerate": (lambda f: changed_entry("f", (5, 1), f["f"][5, 0])(f), ("f holds a triangle that has one vertex",)),
    "centimetres": (replaced("v_template", lambda v: 100 * v), ("v_template is 26", "0.3 metres")),
    "z up": (replaced("v_template", lambda v: v[:, [0, 2, 1]]), ("v_template is not upright",)),
    "lopsided": (
        replaced("v_template", lambda v: v + np.where(v[:, :1] > 0.02, [0, 0.06, 0], 0)),
        ("v_template is not nearly symmetric",),
    ),
    "negative weight": (
        changed_entry("weights", (3, slice(None)), [1.2, -0.2, 0, 0, 0]),
        ("weights are negative (-0.2)",),
    ),
    "weights": (changed_entry("weights", (3, slice(None)), [0.5, 0, 0, 0, 0]), ("row 3 of weights adds up to 0.5",)),
    "regressor": (replaced("J_regressor", lambda j: 1.1 * j), ("of J_regressor adds up to 1.1 where it must be 1",)),
    "parents": (
        changed_entry("kintree_table", (0, 3), 2),
        ("kintree_table says the parents are", "[4294967295, 0, 1, 2, 1]"),
    ),
    "root": (changed_entry("kintree_table", (0, 0), 1), ("kintree_table says the parents are",)),
    "eyes swapped": (replaced("J_regressor", lambda j: j[[0, 1, 2, 4, 3]]), ("J_regressor puts the eyes",)),
    "no eyeballs": (replaced("weights", lambda w: np.eye(5)[[1] * len(w)]), ("no separate part of the mesh follows",)),
    "gender": (lambda f: f.update(gender="female"), ("gender is female", "set head.gender=female")),
    "gender as bytes": (lambda f: f.update(gender=b"MALE"), ("gender is male", "set head.gender=male")),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_wrong_field_is_named(name: str, flame_numbers: Mapping[str, Any], tmp_path: Path) -> None:
    fields = dict(flame_numbers)
    change, parts = BAD[name]
    change(fields)
    path = tmp_path / "mine.npz"
    np.savez(path, **fields)
    if name == "no eyeballs":  # found when the heads are laid over each other, which looking does not do
        with pytest.raises(UserError, match=f"{path}.*{parts[0]}"):
            load(path)
    else:
        refused(path, str(path), *parts)


@pytest.mark.parametrize("ending", ["npz", "pkl"])
def test_a_file_that_is_cut_off(ending: str, flame_folder: Path, tmp_path: Path) -> None:
    whole = (flame_folder / "generic_model.npz").read_bytes()
    if ending == "pkl":
        whole = pickle.dumps({"v_template": np.zeros((5023, 3))}, protocol=2)
    for end in (0, 100, len(whole) // 2, len(whole) - 100):
        path = tmp_path / f"cut.{ending}"
        path.write_bytes(whole[:end])
        refused(path, str(path), "cut off")


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, ("touch touched",)

    monkeypatch.chdir(tmp_path)
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(pickle.dumps({"v_template": Evil()}))
    refused(tmp_path, "is refused because it names")
    np.savez(tmp_path / "evil.npz", v_template=np.array([Evil()], dtype=object))
    refused(tmp_path / "evil.npz", "is no .npz of plain arrays")
    assert not (tmp_path / "touched").exists()


def test_a_pickle_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(pickle.dumps([1, 2]))
    refused(path, "holds no table of FLAME's fields but a list")
    path.write_bytes(pickle.dumps({}))
    refused(path, "it holds nothing")


def test_an_array_that_claims_more_than_it_has_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "giant.npz"
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 3), }\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("v_template.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    refused(path, "v_template.npy is shorter than it says")


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"num_shape": 301}, ("head.num_shape=301", "300")),
        ({"num_shape": -1}, ("head.num_shape=-1",)),
        ({"num_expression": 101}, ("head.num_expression=101", "100")),
        ({"version": 2021}, ("head.version=2021", "version=2020")),
        ({"gender": "neutral"}, ("head.gender=neutral", "gender=generic")),
        ({"version": 2023, "gender": "male"}, ("head.version=2023 with head.gender=male",)),
    ],
)
def test_a_setting_that_cannot_be(changed: dict[str, Any], parts: tuple[str, ...], tmp_path: Path) -> None:
    refused(tmp_path / "absent", *parts, **changed)


def test_a_file_of_another_gender_or_version_by_its_name(flame_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "female_model.npz"
    path.symlink_to(flame_folder / "generic_model.npz")
    refused(path, "is FLAME 2020 female by its name", "head.gender=female")
    path = tmp_path / "FLAME2023.npz"
    path.symlink_to(flame_folder / "generic_model.npz")
    refused(path, "is FLAME 2023 generic by its name", "head.version=2023")


def test_what_is_missing_is_said_with_where_to_get_it(flame_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path / "absent")
    for part in ("https://flame.is.tue.mpg.de", "generic_model.pkl", "head.path", "HEADSTUDIO_FLAME", "FLAME 2020"):
        assert part in str(error.value)
    (finding,) = looked(tmp_path / "absent", version=2023)
    assert finding.state is State.LACKING
    assert "flame2023.pkl" in finding.remedy
    (tmp_path / "male_model.npz").symlink_to(flame_folder / "generic_model.npz")
    with pytest.raises(UserError, match=r"it holds male_model\.npz, which head\.version=2020 head\.gender=male reads"):
        load(tmp_path)


def test_official_names_are_found_in_the_archives_own_folders(flame_folder: Path, tmp_path: Path) -> None:
    places: dict[str, dict[str, Any]] = {
        "generic_model": {},
        "FLAME2020/generic_model": {},
        "FLAME_NEUTRAL": {},
        "flame2023": {"version": 2023},
        "FLAME2023/flame2023_no_jaw": {"version": 2023},
        "male_model": {"gender": "male"},
        "FLAME2020/FLAME_FEMALE": {"gender": "female"},
    }
    for place, setting in places.items():
        path = tmp_path / place.replace("/", "-") / f"{place}.npz"
        path.parent.mkdir(parents=True)
        path.symlink_to(flame_folder / "generic_model.npz")
        model, *_ = looked(tmp_path / place.replace("/", "-"), **setting)
        assert (model.state, model.detail) == (State.READY, str(path))


def test_the_doctor_tells_which_side_files_are_used(flame_folder: Path, tmp_path: Path) -> None:
    model, marks, masks, _ = looked(flame_folder)
    assert [finding.state for finding in (model, marks, masks)] == [State.READY] * 3
    assert marks.detail.endswith("mediapipe_landmark_embedding.npz")
    (tmp_path / "generic_model.npz").symlink_to(flame_folder / "generic_model.npz")
    model, marks, masks, _ = looked(tmp_path)
    assert [finding.state for finding in (model, marks, masks)] == [State.READY, State.NOTE, State.NOTE]
    assert "mediapipe_landmark_embedding.npz" in marks.remedy
    assert "FLAME_masks.pkl" in masks.remedy
    static = str(flame_folder / "flame_static_embedding.pkl")
    _, marks, *_ = looked(tmp_path, landmark_path=static)
    assert (marks.state, static in marks.detail) == (State.NOTE, True)
    _, marks, masks, _ = looked(tmp_path, landmark_path="absent.npz", mask_path="absent.pkl")
    assert (
        marks.detail == "head.landmark_path=absent.npz is not there; name the file, or null to look beside the model."
    )
    assert masks.state is marks.state is State.BROKEN
