"""A synthetic model in FLAME's file format, for smplx.FLAME as an oracle. No licensed data is involved."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

VERTICES, FACES, LANDMARKS = 60, 80, 7
SHAPE_COLUMNS, EXPRESSION_COLUMNS = 300, 100  # smplx expects expressions after 300 columns of shape


@dataclass(frozen=True)
class FlameFiles:
    """A folder that smplx.FLAME opens, and the arrays in it."""

    folder: Path
    data: dict[str, np.ndarray]


def write_flame(folder: Path, *, seed: int = 0) -> FlameFiles:
    """Write FLAME_NEUTRAL.pkl and flame_static_embedding.pkl with random numbers of FLAME's shapes (5 joints)."""
    rng = np.random.default_rng(seed)
    weights = rng.random((VERTICES, 5)) ** 4
    regressor = rng.random((5, VERTICES)) ** 4
    data = {
        "v_template": rng.normal(size=(VERTICES, 3)),
        "shapedirs": 0.05 * rng.normal(size=(VERTICES, 3, SHAPE_COLUMNS + EXPRESSION_COLUMNS)),
        "posedirs": 0.05 * rng.normal(size=(VERTICES, 3, 36)),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.int64),
        "f": rng.integers(0, VERTICES, size=(FACES, 3)).astype(np.uint32),
    }
    barycentric = rng.random((LANDMARKS, 3))
    embedding = {
        "lmk_face_idx": rng.integers(0, FACES, size=LANDMARKS).astype(np.uint32),
        "lmk_b_coords": barycentric / barycentric.sum(1, keepdims=True),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "FLAME_NEUTRAL.pkl").write_bytes(pickle.dumps(data))
    (folder / "flame_static_embedding.pkl").write_bytes(pickle.dumps(embedding))
    return FlameFiles(folder=folder, data=data | embedding)


@pytest.fixture
def flame_files(tmp_path: Path) -> FlameFiles:
    return write_flame(tmp_path / "flame")


@pytest.fixture(scope="session")
def flame_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in of FLAME 2020 with all its side files; `.npz`, which is read quickest."""
    from headstudio.standins import flame

    return flame.write_flame(tmp_path_factory.mktemp("flame2020"), npz=True).parent


@pytest.fixture(scope="session")
def flame_numbers() -> dict[str, np.ndarray | str]:
    """What the stand-in's model file holds. Copy before you change it."""
    from headstudio.standins import flame, flame_mesh

    return flame.flame_arrays(flame_mesh.flame_mesh())
