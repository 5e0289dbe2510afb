"""FLAME as its archives unpack, and the side files of other projects, are found and read."""

from __future__ import annotations

import logging
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from headstudio.errors import UserError
from headstudio.findings import State
from headstudio.head import flame, flame_landmarks
from headstudio.head.flame_landmarks import read_embedding
from headstudio.head.safe_pickle import load_object_npy, load_pickle
from headstudio.standins.flame import NOTE, write_flame
from headstudio.standins.flame_mesh import flame_mesh
from headstudio.standins.flame_side_files import write_static

SETTINGS: dict[str, Any] = {
    "gender": "generic",
    "num_shape": 3,
    "num_expression": 2,
    "landmark_path": None,
    "mask_path": None,
    "arkit_path": None,
}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archives of the open FLAME 2023, of the masks and of MediaPipe's landmarks, unpacked side by side."""
    folder = tmp_path_factory.mktemp("unpacked")
    model = write_flame(folder / "FLAME2023Open", version=2023, static=False)
    model.rename(model.with_name("flame2023_Open.pkl"))
    for file in ("FLAME_masks.pkl", "mediapipe_landmark_embedding.npz"):
        (folder / Path(file).stem).mkdir()
        shutil.move(folder / "FLAME2023Open" / file, folder / Path(file).stem / file)
    return folder


def test_what_the_archives_unpack_to_is_found_and_a_stand_in_says_so(
    unpacked: Path, caplog: pytest.LogCaptureFixture
) -> None:
    *findings, table = flame.look(path=str(unpacked), version=2023, **SETTINGS)
    assert table.state is State.NOTE
    assert [finding.state for finding in findings] == [State.READY] * 3
    names = ["flame2023_Open.pkl", "mediapipe_landmark_embedding.npz", "FLAME_masks.pkl"]
    assert [Path(finding.detail).name for finding in findings] == names
    with caplog.at_level(logging.INFO):
        flame.load_flame(path=str(unpacked), version=2023, **SETTINGS)
    assert "flame2023_Open.pkl" in caplog.text
    assert "MediaPipe's" in caplog.text
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert NOTE in warning.getMessage()


def test_decas_embedding_is_the_static_one(tmp_path: Path) -> None:
    """It holds torch's tensors beside numpy's arrays, and nothing of it is obeyed."""
    write_static(tmp_path / "flame_static_embedding.pkl", flame_mesh())
    static = load_pickle(tmp_path / "flame_static_embedding.pkl")
    content = {
        "static_lmk_faces_idx": static["lmk_face_idx"],
        "static_lmk_bary_coords": static["lmk_b_coords"],
        "full_lmk_faces_idx": torch.arange(68)[None],
        "dynamic_lmk_bary_coords": torch.ones(4, 17, 3).double() / 3,
    }
    path = tmp_path / "landmark_embedding.npy"
    np.save(path, np.array(content, dtype=object))
    assert_array_equal(load_object_npy(path)["full_lmk_faces_idx"], np.arange(68)[None])
    expected, found = read_embedding(tmp_path / "flame_static_embedding.pkl"), read_embedding(path)
    assert found.lines.keys() == expected.lines.keys() == flame_landmarks.STATIC.keys()
    for name, points in expected.lines.items():
        assert_array_equal(found.lines[name].faces, points.faces)
        assert_array_equal(found.lines[name].bary, points.bary)
    assert flame_landmarks.find_file(None, tmp_path / "generic_model.pkl") == tmp_path / "flame_static_embedding.pkl"
    (tmp_path / "flame_static_embedding.pkl").unlink()
    assert flame_landmarks.find_file(None, tmp_path / "generic_model.pkl") == path


@pytest.mark.parametrize("held", [np.zeros(3), np.array([{}, {}], dtype=object)])
def test_an_npy_that_is_no_dict(tmp_path: Path, held: np.ndarray) -> None:
    path = tmp_path / "landmark_embedding.npy"
    np.save(path, held)
    with pytest.raises(UserError, match="does not hold one Python object"):
        read_embedding(path)


def test_an_npy_that_is_cut_off_or_hostile(tmp_path: Path) -> None:
    path = tmp_path / "landmark_embedding.npy"
    np.save(path, np.array({"static_lmk_faces_idx": np.arange(51)}, dtype=object))
    whole = path.read_bytes()
    for end in (0, 5, 60, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(UserError, match=r"landmark_embedding.npy (cannot be read|is no pickle)"):
            read_embedding(path)
    header = whole[: whole.index(b"\n") + 1]
    path.write_bytes(header + b"cposix\nsystem\n(S'touch touched'\ntR.")
    with pytest.raises(UserError, match=r"names posix.system"):
        read_embedding(path)
    path.write_bytes(header + pickle.dumps(np.array([1], dtype=object)))
    with pytest.raises(UserError, match="lacks lmk_face_idx"):
        read_embedding(path)
