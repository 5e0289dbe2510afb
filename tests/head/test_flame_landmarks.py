"""FLAME's lines and regions: from its side files where they are, from the open head where they are not."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headstudio.errors import UserError
from headstudio.head import flame_landmarks, flame_regions
from headstudio.head.flame import load_flame
from headstudio.head.flame_landmarks import LINES, MEDIAPIPE
from headstudio.head.flame_register import OpenHead, Skinned, register
from headstudio.head.model import HeadModel
from headstudio.standins.flame_mesh import OFFSET, Mesh, flame_mesh

Array = NDArray[Any]
SETTING: dict[str, Any] = {"version": 2020, "gender": "generic", "num_shape": 0, "num_expression": 0}


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return flame_mesh()


@pytest.fixture(scope="module")
def heads(flame_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, HeadModel]:
    """By the source of the landmarks; "none" has no masks either."""
    model = flame_folder / "generic_model.npz"
    alone = tmp_path_factory.mktemp("alone") / model.name
    alone.symlink_to(model)

    def load(path: Path, landmark_path: str | None) -> HeadModel:
        return load_flame(path=str(path), landmark_path=landmark_path, mask_path=None, arkit_path=None, **SETTING)

    return {
        "mediapipe": load(flame_folder, None),
        "static": load(flame_folder, str(flame_folder / "flame_static_embedding.pkl")),
        "none": load(alone, None),
    }


def line(head: HeadModel, name: str) -> Array:
    points = (head.v_template[head.faces[head.landmark_faces]] * head.landmark_bary[..., None]).sum(1).numpy()
    first, last = next((first, last) for found, first, last, _ in head.landmark_polylines if found == name)
    return np.asarray(points[first:last])


def to_world(metres: Array, mesh: Mesh) -> Array:
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    return np.asarray((metres - (low + high) / 2) * 1.5 / (high - low)[1])


def distance_to(points: Array, polyline: Array) -> Array:
    """From each point to a closed line of many points, by sampling it densely."""
    ends = np.concatenate([polyline, polyline[:1]])
    dense = np.concatenate([np.linspace(a, b, 20) for a, b in pairwise(ends)])
    return np.asarray(np.linalg.norm(points[:, None] - dense, axis=-1).min(1))


@pytest.mark.parametrize("source", ["mediapipe", "static", "none"])
def test_lines_lie_where_the_stand_in_has_them(heads: dict[str, HeadModel], source: str, mesh: Mesh) -> None:
    head = heads[source]
    assert tuple((name, closed) for name, _, _, closed in head.landmark_polylines) == LINES
    # few points cut corners, and the 51 have one brow of two
    tolerance = {"mediapipe": 0.012, "static": 0.03, "none": 0.006}[source]
    for name, _ in LINES:
        expected = to_world(mesh.lines[name], mesh)
        allowed = 0.012 if name.endswith("pupil") else tolerance
        assert distance_to(line(head, name), expected).max() < allowed, name
        if "brow" in name:  # from the nose outwards
            assert (np.diff(np.abs(line(head, name)[:, 0])) > 0).all(), name
    assert (line(head, "left_eye")[:, 0] > 0).all()
    assert (line(head, "right_eye")[:, 0] < 0).all()
    for side in ("left", "right"):
        upper, lower = line(head, f"{side}_brow_upper"), line(head, f"{side}_brow_lower")
        assert (upper[:, 1] > lower[:, 1]).all()
        assert lower[:, 1].min() > line(head, f"{side}_eye")[:, 1].max() - 0.02
    assert line(head, "lips_inner")[:, 1].max() < line(head, "lips_outer")[:, 1].max()
    assert line(head, "face_oval")[:, 1].min() < line(head, "lips_outer")[:, 1].min()


def test_each_source_gives_its_own_number_of_points(heads: dict[str, HeadModel]) -> None:
    counts = {source: [last - first for _, first, last, _ in head.landmark_polylines] for source, head in heads.items()}
    assert counts["mediapipe"] == [36, 20, 20, 16, 5, 5, 1, 16, 5, 5, 1]
    assert counts["static"] == [36, 12, 8, 6, 5, 5, 1, 6, 5, 5, 1]
    assert counts["none"] == [36, 24, 24, 16, 5, 5, 1, 16, 5, 5, 1]


def test_mediapipes_lists_are_whole_and_mirror_each_other() -> None:
    """The numbers of points that FACEMESH_LIPS, _EYES and _EYEBROWS join, each once."""
    together = [index for indices in MEDIAPIPE.values() for index in indices]
    assert len(together) == len(set(together)) == 40 + 32 + 20
    assert max(together) < 468
    sizes = {name: len(indices) for name, indices in MEDIAPIPE.items()}
    assert all(sizes[name] == sizes[name.replace("right", "left")] for name in sizes)


def shifted(vertices: Array) -> Array:
    """The mouth region lower."""
    out = vertices.copy()
    out[:, 1] -= 0.06 * np.exp(-(((vertices[:, 1] + 0.25) / 0.2) ** 2))
    return out


def wavy(vertices: Array) -> Array:
    """A smooth symmetric change of proportions."""
    rng = np.random.default_rng(0)
    frequency, phase, direction = rng.normal(0, 3, (4, 3)), rng.uniform(0, 6, 4), rng.normal(0, 0.02, (4, 3))
    wave = np.sin(np.abs(vertices) * [1, 0, 0] @ frequency.T + vertices * [0, 1, 1] @ frequency.T + phase) @ direction
    wave[:, 0] *= np.clip(vertices[:, 0] / 0.1, -1, 1)
    return np.asarray(vertices + wave)


@pytest.mark.parametrize(
    ("warp", "allowed"),
    [
        (lambda v: v, 0.003),
        (lambda v: 0.9 * v + [0.02, 0.05, -0.03], 0.003),
        (lambda v: v * [1.1, 0.95, 1.0], 0.02),
        (lambda v: v @ np.array([[1, 0, 0], [0, 0.99, 0.14], [0, -0.14, 0.99]]), 0.003),
        (shifted, 0.02),
        (wavy, 0.03),
    ],
    ids=["same", "moved", "wider", "tilted", "mouth lower", "other proportions"],
)
def test_the_open_head_finds_its_lines_on_a_head_of_other_proportions(
    warp: Callable[[Array], Array], allowed: float, mesh: Mesh
) -> None:
    """What is drawn on the open head is known on the warped stand-in too: it is the same mesh, split."""
    head = OpenHead.shipped()
    units = 1.5 / np.ptp(mesh.vertices[:, 1])
    other = Skinned(warp((mesh.vertices - OFFSET) * units), mesh.faces, mesh.weights)
    carried = register(head, other)
    truth = warp(head.mesh.vertices)
    for name, (corners, bary, _) in head.lines.items():
        expected = (truth[corners] * bary[..., None]).sum(1)
        error = np.linalg.norm(carried.line(name) - expected, axis=1).mean()
        assert error < (3 * allowed if name == "face_oval" else allowed), name


def test_the_same_head_gives_the_same_lines(mesh: Mesh) -> None:
    other = Skinned(wavy((mesh.vertices - OFFSET) * 5.67), mesh.faces, mesh.weights)
    first, again = register(OpenHead.shipped(), other), register(OpenHead.shipped(), other)
    assert np.array_equal(first.vertices, again.vertices)


def test_a_head_without_a_jaw_cannot_be_laid_over(mesh: Mesh) -> None:
    weights = mesh.weights.copy()
    weights[:, 1] += weights[:, 2]
    weights[:, 2] = 0
    with pytest.raises(ValueError, match="parted by the jaw"):
        register(OpenHead.shipped(), Skinned(mesh.vertices * 5.67, mesh.faces, weights))


@pytest.mark.parametrize("source", ["mediapipe", "none"])
def test_regions_are_the_open_heads(heads: dict[str, HeadModel], source: str, mesh: Mesh) -> None:
    head = heads[source]
    assert set(head.region_names) == set(mesh.region_names) - {"teeth", "tongue"}
    for name in head.region_names:
        found, expected = head.region_faces(name).numpy(), mesh.face_region == mesh.region_names.index(name)
        if name == "mouth":
            expected |= mesh.face_region == mesh.region_names.index("tongue")
        common = (found & expected).sum() / (found | expected).sum()
        assert common > 0.95, (name, common)
    where = head.v_template[head.faces].mean(1)
    centre = {name: where[head.region_faces(name)].mean(0) for name in head.region_names}
    assert centre["scalp"][1] > centre["brows"][1] > centre["iris"][1] > centre["lips"][1] > centre["neck"][1]
    assert centre["lips"][2] > centre["ears"][2]


def test_masks_decide_over_what_is_carried_over(flame_folder: Path, tmp_path: Path, mesh: Mesh) -> None:
    """Lips that the file puts on the crown are there and nowhere else."""
    crown = np.flatnonzero(mesh.vertices[:, 1] > mesh.vertices[:, 1].max() - 0.02)
    path = tmp_path / "masks.pkl"
    path.write_bytes(pickle.dumps({"lips": crown, "face": np.arange(5)}))
    head = load_flame(path=str(flame_folder), landmark_path=None, mask_path=str(path), arkit_path=None, **SETTING)
    expected = np.isin(mesh.faces, crown).all(1)
    assert expected.sum() > 20
    assert np.array_equal(head.region_faces("lips").numpy(), expected)
    assert head.region_faces("neck").any()


BAD_MARKS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no faces": (lambda m: m.pop("lmk_face_idx"), "lacks lmk_face_idx and lmk_b_coords"),
    "another mesh": (lambda m: m["lmk_face_idx"].__setitem__(3, 20000), "lmk_face_idx holds triangles outside 0..9975"),
    "weights": (lambda m: m["lmk_b_coords"].__setitem__(3, 0.9), "lmk_b_coords must be at least 0 and add up to 1"),
    "shape": (lambda m: m.update(lmk_b_coords=m["lmk_b_coords"][:5]), r"lmk_b_coords \(5, 3\)"),
    "nan": (lambda m: m["lmk_b_coords"].__setitem__(3, np.nan), "lmk_b_coords holds numbers that are not finite"),
    "shuffled": (lambda m: m.update(lmk_face_idx=m["lmk_face_idx"][::-1]), "puts eyes and mouth where FLAME does not"),
    "lacking": (
        lambda m: m["landmark_indices"].__setitem__(list(m["landmark_indices"]).index(13), 400),
        r"landmark_indices lacks MediaPipe's points \[13\]",
    ),
    "few indices": (
        lambda m: m.update(landmark_indices=m["landmark_indices"][:9]),
        "landmark_indices names 9 points and lmk_face_idx 92",
    ),
    "number of points": (lambda m: m.pop("landmark_indices"), "lmk_face_idx has 92 points"),
}


@pytest.mark.parametrize("name", sorted(BAD_MARKS))
def test_a_damaged_embedding_is_refused(
    name: str, flame_folder: Path, tmp_path: Path, heads: dict[str, HeadModel], mesh: Mesh
) -> None:
    with np.load(flame_folder / flame_landmarks.MEDIAPIPE_FILE) as file:
        marks = {key: file[key].copy() for key in file.files}
    change, message = BAD_MARKS[name]
    change(marks)
    path = tmp_path / "marks.npz"
    np.savez(path, **marks)
    skinned = Skinned(heads["none"].v_template.numpy(), mesh.faces, mesh.weights)
    with pytest.raises(UserError, match=message) as error:
        flame_landmarks._completed(flame_landmarks.read_embedding(path), skinned)
    assert str(path) in str(error.value)


def test_masks_of_another_mesh_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "masks.pkl"
    for content, message in (
        ({"lips": np.array([1, 5023])}, "lips holds vertices outside 0..5022"),
        ({"lips": np.array([1.5])}, "lips holds vertices outside"),
        ({"lips": "all"}, "lips holds <U3"),
        ({"nose": np.array([1])}, "it has none of"),
        ([1], "it has none of"),
    ):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(UserError, match=message):
            flame_regions.read_masks(path)


def test_side_files_are_found_beside_the_model_and_above_its_archives_folder(tmp_path: Path) -> None:
    model = tmp_path / "FLAME2020" / "generic_model.pkl"
    model.parent.mkdir()
    assert flame_landmarks.find_file(None, model) is None
    above = tmp_path / flame_landmarks.STATIC_FILE
    above.touch()
    assert flame_landmarks.find_file(None, model) == above
    beside = model.parent / flame_landmarks.MEDIAPIPE_FILE
    beside.touch()
    assert flame_landmarks.find_file(None, model) == beside
    with pytest.raises(UserError, match=r"head\.landmark_path=.*absent\.npz is not there"):
        flame_landmarks.find_file(str(tmp_path / "absent.npz"), model)
