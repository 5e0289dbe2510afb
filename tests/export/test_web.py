"""Pages as files: what is in them, how big they are, and what is refused."""

from __future__ import annotations

import base64
import wave
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from web_pages import HOSTILE, mesh, opened, read_page, rigged, static

from headstudio.errors import UserError
from headstudio.export.ply import save_avatar
from headstudio.export.web import write_web
from headstudio.export.web_controls import all_sliders, common_sliders, pose_numbers
from headstudio.export.web_scene import ANGLE_TOLERANCE, DIRECTION_TOLERANCE, LOCAL_MEAN_TOLERANCE, WEIGHT_TOLERANCE
from headstudio.head.anny import load_anny
from headstudio.head.model import HeadModel
from headstudio.motion.arkit import ARKIT_NAMES, pose_of
from headstudio.motion.files import write_npz
from headstudio.motion.recording import Recording
from headstudio.motion.transfer import pose_of_recording
from headstudio.types import Pose


class Elements(HTMLParser):
    """Every element's name, and the text of the title."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.title, self.within = "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.names.append(tag)
        self.within = tag

    def handle_data(self, data: str) -> None:
        if self.within in ("title", "h1"):
            self.title += data


def written(tmp_path: Path, avatar: Any, **changed: Any) -> Path:
    given = {"prompt": "a head", "motion": None, "fps": 24.0} | changed
    return write_web(opened(avatar, given.pop("prompt")), tmp_path / "page.html", **given)


def test_a_page_holds_the_avatar(tmp_path: Path, tiny_head: HeadModel, random_pose: Pose) -> None:
    avatar = rigged(tiny_head)
    header, arrays = read_page(written(tmp_path, avatar, motion=random_pose))
    assert header["kind"] == "rigged"
    assert np.abs(arrays["means"] - avatar.means.numpy()).max() <= LOCAL_MEAN_TOLERANCE
    assert np.array_equal(arrays["triangle"], avatar.triangle.numpy())
    assert np.abs(arrays["opacities"][:, 0] - avatar.opacity_logits.sigmoid().numpy()).max() < 1e-5
    shaped = tiny_head(avatar.shape, tiny_head.neutral_pose())
    assert np.abs(arrays["template"] - shaped.vertices[0].detach().numpy()).max() < 1e-6
    assert np.abs(arrays["joints"] - shaped.joints[0].detach().numpy()).max() < 1e-6
    assert np.abs(arrays["film_weights"] - random_pose.expression.numpy()).max() <= WEIGHT_TOLERANCE
    assert np.abs(arrays["film_turns"] - random_pose.joints.flatten(1).numpy()).max() <= ANGLE_TOLERANCE
    assert DIRECTION_TOLERANCE < 1e-4


def test_gaussians_that_no_renderer_draws_stay_out(tmp_path: Path, tiny_head: HeadModel) -> None:
    avatar = rigged(tiny_head)
    with torch.no_grad():
        avatar.opacity_logits[3] = -9.0
        avatar.means[5, 1] = torch.nan
    _, arrays = read_page(written(tmp_path, avatar))
    assert len(arrays["means"]) == avatar.num_gaussians - 2
    with torch.no_grad():
        avatar.opacity_logits.fill_(-9.0)
    with pytest.raises(UserError, match="no Gaussian that could be seen"):
        written(tmp_path, avatar)


def test_a_default_avatar_with_ten_seconds_of_film_is_under_three_megabytes(tmp_path: Path) -> None:
    head = load_anny(num_shape=10)
    generator = torch.Generator().manual_seed(0)
    film = Pose(
        expression=torch.rand(240, head.num_expression, generator=generator),
        joints=0.1 * torch.randn(240, head.num_joints, 3, generator=generator),
    )
    page = written(tmp_path, rigged(head), motion=film)
    assert 500_000 < page.stat().st_size < 3_000_000


def test_what_a_person_wrote_is_text(tmp_path: Path, tiny_head: HeadModel) -> None:
    plain, hostile = (
        Elements(written(tmp_path, rigged(tiny_head), prompt=prompt).read_text("utf-8")) for prompt in ("a", HOSTILE)
    )
    assert hostile.names == plain.names
    assert hostile.title.split("headstudio")[0].strip(" –\n") == HOSTILE
    assert hostile.title.count(HOSTILE) == 2  # title and heading


@pytest.mark.parametrize(("make", "kind"), [(static, "static"), (mesh, "mesh")])
def test_other_representations_have_a_page(tmp_path: Path, tiny_head: HeadModel, make: Any, kind: str) -> None:
    header, arrays = read_page(written(tmp_path, make(tiny_head), motion=tiny_head.neutral_pose(3)))
    assert header["kind"] == kind
    assert ("film_turns" in arrays) == (kind == "mesh")
    assert bool(header["all"]) == (kind == "mesh")


def test_texels_lie_where_the_mesh_has_them(tmp_path: Path, tiny_head: HeadModel) -> None:
    avatar = mesh(tiny_head, subdivisions=3)
    _, arrays = read_page(written(tmp_path, avatar))
    triangles, faces = arrays["texel_triangles"], tiny_head.faces.numpy()
    assert len(triangles) == 9 * len(faces)
    rest = tiny_head.v_template.numpy()
    places = (arrays["texel_weights"][..., None] * rest[arrays["texel_corners"]]).sum(1)
    small = np.cross(
        places[triangles[:, 1]] - places[triangles[:, 0]], places[triangles[:, 2]] - places[triangles[:, 0]]
    )
    whole = np.cross(rest[faces[:, 1]] - rest[faces[:, 0]], rest[faces[:, 2]] - rest[faces[:, 0]])
    assert np.abs(small.reshape(len(faces), 9, 3) - whole[:, None] / 9).max() < 1e-6  # nine equal parts, turned alike
    assert np.abs(arrays["texel_colors"] - avatar.color_logits.sigmoid().numpy()).max() <= 0.5 / 255 + 1e-6


def test_a_recording_is_put_on_the_head(tmp_path: Path, tiny_head: HeadModel) -> None:
    weights = np.random.default_rng(0).uniform(0, 0.4, (7, len(ARKIT_NAMES)))
    recording = Recording(source="clip", fps=30.0, arkit=weights, neck=0.1 * np.ones((7, 3)), root=np.ones((7, 3)))
    header, arrays = read_page(written(tmp_path, rigged(tiny_head), motion=recording, fps=15.0))
    wanted = pose_of_recording(tiny_head, recording.resampled(15.0), ("neck", "jaw", "eyes"))
    assert header["fps"] == 15.0
    assert np.abs(arrays["film_weights"] - wanted.expression.numpy()).max() <= WEIGHT_TOLERANCE
    assert np.abs(arrays["film_turns"] - wanted.joints.flatten(1).numpy()).max() <= ANGLE_TOLERANCE


def driven(head: HeadModel, sliders: list[dict[str, Any]], label: str, value: float) -> Pose:
    """The pose with one slider moved, by the rule that web_controls.py states."""
    numbers = torch.zeros(len(pose_numbers(head)))
    slider = next(slider for slider in sliders if slider["label"] == label)
    for place, plus, minus in slider["targets"]:
        numbers[place] = value * (plus if value >= 0 else minus)
    return Pose(
        expression=numbers[None, : head.num_expression],
        joints=numbers[head.num_expression :].view(1, head.num_joints, 3),
    )


@pytest.mark.parametrize("value", [-30.0, -12.0, 0.0, 20.0, 25.0])
@pytest.mark.parametrize(("label", "axis"), [("Look sideways", 0), ("Look up, down", 1)])
def test_the_gaze_sliders_are_the_gaze(label: str, axis: int, value: float) -> None:
    head = load_anny(num_shape=1)
    gaze = torch.zeros(1, 2)
    gaze[0, axis] = value
    wanted, found = pose_of(head, torch.zeros(1, 52), gaze), driven(head, common_sliders(head), label, value)
    assert torch.allclose(found.expression, wanted.expression, atol=1e-6)
    assert torch.allclose(found.joints, wanted.joints, atol=1e-6)


@pytest.mark.parametrize(("label", "axis"), [("Turn", 0), ("Nod", 1), ("Lean", 2)])
def test_the_neck_sliders_are_the_neck(label: str, axis: int, tiny_head: HeadModel) -> None:
    neck = torch.zeros(1, 3)
    neck[0, axis] = 17.0
    wanted = pose_of(tiny_head, torch.zeros(1, 52), neck_deg=neck)
    assert torch.allclose(driven(tiny_head, common_sliders(tiny_head), label, 17.0).joints, wanted.joints, atol=1e-6)


def test_sliders_are_those_of_the_head(tiny_arrays: dict[str, Any]) -> None:
    anny = load_anny(num_shape=1)
    assert len(all_sliders(anny)) == 52
    labels = [(slider["group"], slider["label"]) for slider in common_sliders(anny)]
    assert len(set(labels)) == len(labels)
    assert list(dict.fromkeys(group for group, _ in labels)) == ["Jaw", "Lips", "Smile", "Brows", "Eyes", "Neck"]
    names = [f"flame_{n:03d}" for n in range(6)]
    flame = HeadModel(**tiny_arrays | {"expression_names": names})
    wanted = pose_of(flame, torch.eye(52)[ARKIT_NAMES.index("jawOpen")][None])
    assert torch.allclose(driven(flame, common_sliders(flame), "Open", 1.0).joints, wanted.joints, atol=1e-6)
    assert {(slider["low"], slider["high"]) for slider in all_sliders(flame)} == {(-3.0, 3.0)}


def refusals(tmp_path: Path, head: HeadModel) -> list[tuple[str, dict[str, Any]]]:
    text = tmp_path / "talk.txt"
    text.write_text("la la la")
    silent = tmp_path / "notes.mp3"
    silent.touch()
    broken = head.neutral_pose(2)
    broken.joints[1, 0, 0] = torch.nan
    return [
        (r"page.txt must end in .html", {"path": tmp_path / "page.txt"}),
        (r"there is no folder .*nowhere", {"path": tmp_path / "nowhere" / "page.html"}),
        (r"fps=0 must be a number above 0", {"fps": 0}),
        (r"fps=nan", {"fps": float("nan")}),
        (r"talk.txt must be a file that browsers play: .aac", {"sound": text}),
        (r"There is no sound file .*talk.wav", {"sound": tmp_path / "talk.wav"}),
        (r"The sound .*notes.mp3 is empty", {"sound": silent, "motion": head.neutral_pose(2)}),
        (
            r"expressions \(1, 5\).*takes \(T, 6\) and \(T, 5, 3\)",
            {"motion": Pose(torch.zeros(1, 5), torch.zeros(1, 5, 3))},
        ),
        (r"at least one frame", {"motion": head.neutral_pose(0)}),
        (r"values that are not finite", {"motion": broken}),
    ]


def test_what_cannot_be_is_said_in_a_sentence_and_leaves_nothing(tmp_path: Path, tiny_head: HeadModel) -> None:
    run = opened(rigged(tiny_head))
    for sentence, changed in refusals(tmp_path, tiny_head):
        before = set(tmp_path.rglob("*"))
        given: dict[str, Any] = {"path": tmp_path / "page.html", "motion": None, "fps": 24.0} | changed
        with pytest.raises(UserError, match=sentence):
            write_web(run, given.pop("path"), **given)
        assert set(tmp_path.rglob("*")) == before


def test_an_unknown_representation_is_refused(tmp_path: Path, tiny_head: HeadModel) -> None:
    class Cloud:
        head = tiny_head

    with pytest.raises(UserError, match="Cloud; it draws RiggedGaussians, StaticGaussians, TexturedMesh"):
        written(tmp_path, Cloud())


def test_a_flame_head_is_named_for_its_licence(
    tmp_path: Path, tiny_arrays: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"flame_{n:03d}" for n in range(6)]
    written(tmp_path, rigged(HeadModel(**tiny_arrays | {"expression_names": names})))
    assert "FLAME's licence" in caplog.text


def test_the_lines_of_the_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "web.md").read_text("utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    head = load_anny(num_shape=4)
    (tmp_path / "RUN").mkdir()
    save_avatar(rigged(head, per_triangle=1), tmp_path / "RUN" / "avatar.ply", head_name="anny")
    setting = "prompt: a head\nhead: {_target_: headstudio.head.anny.load_anny, num_shape: 4}\n"
    (tmp_path / "RUN" / "config.yaml").write_text(setting, "utf-8")
    (tmp_path / "RUN" / "DONE").write_text("0123456789abcdef", "utf-8")
    write_npz(tmp_path / "talk.npz", Recording(source="talk", fps=30.0, jaw=np.zeros((4, 3))))
    with wave.open(str(tmp_path / "talk.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    _, arrays = read_page(tmp_path / "head.html")
    assert len(arrays["film_turns"]) == 4
    sound = base64.b64encode((tmp_path / "talk.wav").read_bytes()).decode()
    assert f"data:audio/wav;base64,{sound}" in (tmp_path / "head.html").read_text("utf-8")
