"""A table of what ARKit's weights do to FLAME: the stand-in, whose first components are the open head's shapes, then
moves as the open head does, and whatever is wrong with a table is told in a sentence.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstudio.errors import UserError
from headstudio.findings import State
from headstudio.head.anny import load_anny
from headstudio.head.flame import load_flame
from headstudio.head.flame_arkit import MEDIAPIPE_NAMES, read_mapping
from headstudio.head.model import HeadModel
from headstudio.motion.arkit import ARKIT_NAMES, INDEX, JAW_OPEN_DEG, pose_of, weights_of
from headstudio.motion.procedural import ProceduralMotion
from headstudio.motion.recorded import RecordedMotion
from headstudio.motion.recording import Recording
from headstudio.motion.transfer import JOINTS, losses, pose_of_recording
from headstudio.view.face import Face, slider_names

SETTING: dict[str, Any] = {
    "version": 2020,
    "gender": "generic",
    "num_shape": 0,
    "num_expression": 100,
    "landmark_path": None,
    "mask_path": None,
}
STRENGTH = 1 / 0.3  # of a component of the stand-in at an ARKit weight of 1
SHOWN = {"jawOpen": 0.5, "mouthSmile": 0.6, "browInnerUp": 0.8, "eyeBlinkLeft": 0.7}
NAMES = load_anny(num_shape=0).expression_names  # the stand-in's first components, in this order


def table() -> np.ndarray:
    """(52, 52): each of ARKit's names is one component."""
    expression = np.zeros((len(NAMES), len(NAMES)))
    expression[range(len(NAMES)), range(len(NAMES))] = STRENGTH
    return expression


def load(folder: Path, arkit_path: str | None = None, **changed: Any) -> HeadModel:
    return load_flame(path=str(folder), arkit_path=arkit_path, **SETTING | changed)


@pytest.fixture
def folder(flame_folder: Path, tmp_path: Path) -> Path:
    """The stand-in with nothing beside it."""
    shutil.copy(flame_folder / "generic_model.npz", tmp_path)
    return tmp_path


@pytest.fixture
def driven(folder: Path) -> HeadModel:
    """With a table beside it that leaves the jaw's joint alone."""
    np.savez(folder / "arkit_mapping.npz", arkit_names=NAMES, expression=table(), jaw=np.zeros((52, 3)))
    return load(folder)


def moved(head: HeadModel, weights: torch.Tensor) -> torch.Tensor:
    shape = torch.zeros(head.num_shape)
    posed, rest = (head(shape, p).vertices[0] for p in (pose_of(head, weights[None]), head.neutral_pose()))
    return posed - rest


def test_the_stand_in_moves_as_the_open_head(driven: HeadModel) -> None:
    open_head = load_anny(num_shape=0)
    no_teeth = open_head.face_region != open_head.region_names.index("teeth")
    same = torch.unique(open_head.faces[no_teeth])  # the stand-in's vertices begin with these, in this order
    expected = moved(open_head, weights_of(SHOWN))[same]
    assert float(expected.norm(dim=-1).max()) > 0.05
    assert torch.allclose(moved(driven, weights_of(SHOWN))[: len(same)], expected, atol=2e-3)


@pytest.mark.parametrize("jaw_file", ["bs2jaw.npy", "bs2pose.npy", None])
@pytest.mark.parametrize("place", ["", "mappings"])
def test_mediapipes_order_is_read(folder: Path, jaw_file: str | None, place: str) -> None:
    rng = np.random.default_rng(0)
    scores, expression, jaw = rng.random(52), rng.normal(size=(52, 50)), 0.1 * rng.normal(size=(52, 3))
    scores[0] = 0.0  # _neutral, which moves nothing here
    (folder / place).mkdir(exist_ok=True)
    np.save(folder / place / "bs2exp.npy", expression)
    if jaw_file is not None:
        np.save(folder / place / jaw_file, jaw)
    mapping = load(folder).arkit_mapping
    assert mapping is not None
    weights = torch.zeros(52)
    for name, score in zip(MEDIAPIPE_NAMES, scores, strict=True):
        if name in INDEX:
            weights[INDEX[name]] = score
    assert np.allclose((weights @ mapping.expression)[:50], scores @ expression, atol=1e-5)
    assert not mapping.expression[:, 50:].any()
    if jaw_file is not None:
        assert np.allclose(weights @ mapping.jaw, scores @ jaw, atol=1e-5)
    else:
        degrees = JAW_OPEN_DEG * float(weights[INDEX["jawOpen"]] - weights[INDEX["mouthClose"]])
        assert np.allclose(np.degrees((weights @ mapping.jaw).numpy()), [degrees, 0, 0], atol=1e-4)


def test_mediapipes_names_are_in_the_order_of_its_landmarker() -> None:
    landmarker = pytest.importorskip("mediapipe.tasks.python.vision.face_landmarker")
    own = [shape.name.lower().replace("_", "") for shape in landmarker.Blendshapes]
    assert [name.lower().replace("_", "") for name in MEDIAPIPE_NAMES] == own


def test_fewer_coefficients_take_the_first(folder: Path) -> None:
    rows = np.arange(6.0).reshape(2, 3)
    np.savez(folder / "few.npz", arkit_names=["jawOpen", "mouthSmileLeft"], expression=rows)
    mapping = read_mapping(folder / "few.npz", num_expression=2)
    assert mapping.expression[INDEX["mouthSmileLeft"]].tolist() == [3.0, 4.0]
    assert int(mapping.expression.any(1).sum()) == 2


def test_a_recording_moves_the_face_and_nothing_is_said_to_be_lost(driven: HeadModel, folder: Path) -> None:
    arkit = weights_of(SHOWN)[None].numpy()
    recording = Recording(source="made", fps=30.0, arkit=arkit, jaw=np.full((1, 3), 0.3))
    assert losses(driven, recording) == []
    pose = pose_of_recording(driven, recording, JOINTS)
    assert torch.equal(pose.expression, pose_of(driven, weights_of(SHOWN)[None]).expression)
    assert not pose.joints.any()  # the table opens the mouth, so that the joint would open it twice
    (folder / "arkit_mapping.npz").unlink()
    (told,) = losses(load(folder), recording)
    assert "head.arkit_path" in told


def test_coefficients_that_were_recorded_go_before_the_table(driven: HeadModel) -> None:
    arkit, own = weights_of(SHOWN)[None].numpy(), np.full((1, 2), 0.5)
    pose = pose_of_recording(driven, Recording(source="made", fps=30.0, arkit=arkit, expression=own), JOINTS)
    assert pose.expression[0, :2].tolist() == [0.5, 0.5]
    assert not pose.expression[0, 2:].any()


def test_drawn_and_recorded_motions_use_it(driven: HeadModel, folder: Path) -> None:
    arkit = np.repeat(weights_of({"mouthSmile": 0.6})[None].numpy(), 4, 0)
    names = np.array(ARKIT_NAMES)
    np.savez(folder / "smile.npz", fps=30.0, arkit=arkit, arkit_names=names)
    recorded = RecordedMotion(
        driven, paths=[folder / "smile.npz"], fps=None, joints=["jaw"], equal_recordings=False, strength_power=0.0
    )
    smile = recorded.sample(1, torch.Generator().manual_seed(0)).expression[0]
    column = NAMES.index("mouthSmileLeft")
    assert float(smile[column]) == pytest.approx(0.6 * STRENGTH)
    still = dict.fromkeys(("neutral", "expression", "blink", "glance", "turn", "wild"), 0.0)
    angles = dict.fromkeys(("gaze_yaw_deg", "gaze_pitch_deg", "neck_yaw_deg", "neck_pitch_deg", "neck_roll_deg"), 0.0)
    drawn = ProceduralMotion(driven, talking=1.0, **still, **angles)
    assert drawn.sample(8, torch.Generator().manual_seed(0)).expression.any()


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no names": ({"expression": np.zeros((1, 2))}, r"lacks arkit_names"),
    "a name of its own": (
        {"arkit_names": ["mouthSmileLef"], "expression": np.zeros((1, 2))},
        r"holds mouthSmileLef, .* Did you mean 'mouthSmileLeft'\?",
    ),
    "a name twice": ({"arkit_names": ["jawOpen"] * 2, "expression": np.zeros((2, 2))}, r"holds jawOpen twice"),
    "a row less": (
        {"arkit_names": ["jawOpen", "jawLeft"], "expression": np.zeros((1, 2))},
        r"expression has shape \(1, 2\) but must be \(2, coefficients\)",
    ),
    "no columns": ({"arkit_names": ["jawOpen"], "expression": np.zeros((1, 0))}, r"must be \(1, coefficients\)"),
    "a flat jaw": (
        {"arkit_names": ["jawOpen"], "expression": np.zeros((1, 2)), "jaw": np.zeros(3)},
        r"jaw has shape \(3,\) but must be \(1, 3\)",
    ),
    "no number": ({"arkit_names": ["jawOpen"], "expression": np.full((1, 2), np.nan)}, r"not finite"),
    "words": ({"arkit_names": ["jawOpen"], "expression": np.array([["a", "b"]])}, r"holds <U1"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_table_of_no_use_is_one_sentence(folder: Path, case: str) -> None:
    fields, sentence = BROKEN[case]
    np.savez(folder / "arkit_mapping.npz", **fields)
    with pytest.raises(UserError, match=sentence):
        load(folder)
    finding = load_flame.look(path=str(folder), arkit_path=None, **SETTING)[-1]  # type: ignore[attr-defined]
    assert finding.state is State.BROKEN


def test_other_files_are_refused(folder: Path) -> None:
    (folder / "bs2exp.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match=r"bs2exp\.npy is no \.npy of plain numbers"):
        load(folder)
    np.save(folder / "bs2exp.npy", np.zeros((51, 50)))
    with pytest.raises(UserError, match=r"shape \(51, 50\) but must be \(52, coefficients\)"):
        load(folder)
    with pytest.raises(UserError, match=r"head\.arkit_path=.*absent\.npz is not there"):
        load(folder, arkit_path=str(folder / "absent.npz"))


def test_the_doctor_says_what_is_there(folder: Path) -> None:
    look = load_flame.look  # type: ignore[attr-defined]
    assert look(path=str(folder), arkit_path=None, **SETTING)[-1].state is State.NOTE
    np.savez(folder / "arkit_mapping.npz", arkit_names=NAMES, expression=table())
    finding = look(path=str(folder), arkit_path=None, **SETTING)[-1]
    assert (finding.state, finding.detail) == (State.READY, str(folder / "arkit_mapping.npz"))


def test_the_manuals_example_is_such_a_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "motion.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(folder)
    exec(example, {})
    mapping = load(folder).arkit_mapping
    assert mapping is not None
    assert mapping.expression[INDEX["mouthSmileLeft"], :3].tolist() == pytest.approx([1.2, -0.4, 0.6])
    assert mapping.jaw[INDEX["jawOpen"]].tolist() == pytest.approx([0.42, 0, 0])


def test_the_viewers_sliders_have_arkits_names_then(driven: HeadModel, folder: Path) -> None:
    assert slider_names(driven) == ARKIT_NAMES
    pose = Face(expression={"mouthSmileLeft": 0.6, "jawOpen": 0.3}).pose(driven)
    assert float(pose.expression[0, NAMES.index("mouthSmileLeft")]) == pytest.approx(0.6 * STRENGTH)
    (folder / "arkit_mapping.npz").unlink()
    assert slider_names(load(folder))[0] == "flame_000"
