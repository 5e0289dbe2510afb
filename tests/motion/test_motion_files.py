"""Files in the exact layouts of the upstream code, written here; oracles: what was written, scipy's products."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import expm, logm

from headstudio.errors import UserError
from headstudio.motion.arkit import ARKIT_NAMES, INDEX
from headstudio.motion.files import read_file, read_recordings, write_npz
from headstudio.motion.recording import Recording
from headstudio.standins.motion import write_talkshow

FRAMES = 6
RNG = np.random.default_rng(4)
EXPRESSION = RNG.normal(size=(FRAMES, 100)).astype(np.float32)
JAW, LEFT, RIGHT, NECK, ROOT = (0.2 * RNG.normal(size=(FRAMES, 3)).astype(np.float32) for _ in range(5))


def one(path: Path, fps: float | None = None) -> Recording:
    (recording,) = read_file(path, fps=fps)
    return recording


def skew(vector: Any) -> Any:
    x, y, z = vector
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=float)


def show_clip(**changes: Any) -> dict[str, Any]:
    """The keys of a file of ExpressiveWholeBodyDatasetReleaseV1.0, as TalkSHOW's mesh_dataset.py reads them."""
    body = 0.1 * RNG.normal(size=(FRAMES, 63)).astype(np.float32)
    clip = {
        "betas": np.zeros((1, 300)),
        "expression": EXPRESSION,
        "jaw_pose": JAW,
        "leye_pose": LEFT,
        "reye_pose": RIGHT,
        "global_orient": np.zeros((FRAMES, 1, 3)),
        "transl": np.zeros((FRAMES, 3)),
        "body_pose_axis": body,
        "left_hand_pose": np.zeros((FRAMES, 12)),
        "right_hand_pose": np.zeros((FRAMES, 12)),
    }
    return {key: value for key, value in (clip | changes).items() if value is not None}


def write_pickle(path: Path, content: Any, protocol: int = pickle.HIGHEST_PROTOCOL) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def vhap(path: Path, frames: int = FRAMES, **changes: Any) -> Path:
    """As VHAP's export_as_nerf_dataset.py and GaussianAvatars' save_ply write it."""
    arrays: dict[str, Any] = {
        "translation": np.zeros((frames, 3), np.float32),
        "rotation": ROOT[:frames],
        "neck_pose": NECK[:frames],
        "jaw_pose": JAW[:frames],
        "eyes_pose": np.concatenate([LEFT, RIGHT], axis=1)[:frames],
        "shape": np.arange(300, dtype=np.float32),
        "expr": EXPRESSION[:frames],
        "static_offset": np.zeros((1, 5143, 3), np.float32),
    }
    np.savez(path, **{key: value for key, value in (arrays | changes).items() if value is not None})
    return path


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_talkshow_clip(tmp_path: Path, protocol: int) -> None:
    recording = one(write_pickle(tmp_path / "clip.pkl", show_clip(), protocol))
    assert (recording.fps, len(recording)) == (30.0, FRAMES)
    for name, wanted in {"expression": EXPRESSION, "jaw": JAW, "eye_left": LEFT, "eye_right": RIGHT}.items():
        assert np.array_equal(recording.tracks[name], wanted)
    assert recording.root is None  # the camera's, y down


def test_the_neck_is_smplx_neck_then_head(tmp_path: Path) -> None:
    """Body joints without the pelvis: 11 neck, 14 head (smplx joint_names.py); 12 is the left collar bone."""
    body = np.zeros((FRAMES, 21, 3))
    body[:, 11], body[:, 14], body[:, 12] = (0.3, 0.0, 0.1), (0.0, 0.4, 0.0), (0.7, 0.7, 0.7)
    recording = one(write_pickle(tmp_path / "clip.pkl", show_clip(body_pose_axis=body.reshape(FRAMES, 63))))
    turned = np.real(logm(expm(skew(body[0, 11])) @ expm(skew(body[0, 14]))))
    wanted = [turned[2, 1], turned[0, 2], turned[1, 0]]
    assert np.abs(recording.tracks["neck"] - wanted).max() < 1e-6


def test_a_clip_of_the_face_alone(tmp_path: Path) -> None:
    clip = show_clip(body_pose_axis=None, leye_pose=None, reye_pose=None)
    assert list(one(write_pickle(tmp_path / "clip.pkl", clip)).tracks) == ["expression", "jaw"]


def test_talkshows_rows(tmp_path: Path) -> None:
    """Columns of TalkSHOW's demo.py: jaw, left eye, right eye, global orientation, body, hands, expression."""
    rows = np.zeros((FRAMES, 265), np.float64)
    rows[:, 0:3], rows[:, 3:6], rows[:, 6:9], rows[:, 9:12] = JAW, LEFT, RIGHT, 3.07
    rows[:, 12 + 3 * 11 : 12 + 3 * 12] = NECK
    rows[:, 165:265] = EXPRESSION
    np.save(tmp_path / "speech.npy", rows)
    recording = one(tmp_path / "speech.npy")
    assert recording.fps == 30.0
    for name, wanted in {"expression": EXPRESSION, "jaw": JAW, "eye_left": LEFT, "eye_right": RIGHT}.items():
        assert np.array_equal(recording.tracks[name], wanted)
    assert np.abs(recording.tracks["neck"] - NECK).max() < 1e-6


def test_headstudios_training_array(tmp_path: Path) -> None:
    """As uncond_rand_exp.py reads it: an array of dicts; its neck is the collar bone's and is left out."""
    clip: dict[str, Any] = {
        "expression": EXPRESSION,
        "jaw_pose": JAW,
        "leye_pose": LEFT,
        "reye_pose": RIGHT,
        "neck_pose": NECK,
        "video_name": "quiz",
    }
    shorter = {key: value if isinstance(value, str) else value[:2] for key, value in clip.items()}
    np.save(tmp_path / "chemistry_exp.npy", np.array([clip, shorter], dtype=object), allow_pickle=True)
    long, short = read_recordings([tmp_path / "chemistry_exp.npy"], fps=None)
    assert (len(long), len(short), long.fps) == (FRAMES, 2, 30.0)
    assert np.array_equal(long.tracks["expression"], EXPRESSION)
    assert list(short.tracks) == ["expression", "jaw", "eye_left", "eye_right"]
    assert short.source.endswith("chemistry_exp.npy[1]")


def test_flame_parameters_of_vhap(tmp_path: Path) -> None:
    recording = one(vhap(tmp_path / "flame_param.npz"))
    assert recording.fps == 25.0
    wanted = {"expression": EXPRESSION, "root": ROOT, "neck": NECK, "jaw": JAW, "eye_left": LEFT, "eye_right": RIGHT}
    for name, values in wanted.items():
        assert np.array_equal(recording.tracks[name], values)
    assert recording.shape is not None
    assert recording.shape[-1] == 299
    assert one(vhap(tmp_path / "other.npz"), fps=24.3).fps == 24.3
    assert one(vhap(tmp_path / "said.npz", fps=np.array(73))).fps == 73.0


def test_a_folder_of_single_frames_is_one_recording(tmp_path: Path) -> None:
    """GaussianAvatars' datasets keep `flame_param/00000.npz` and so on, and one mouth-open pose above."""
    (tmp_path / "flame_param").mkdir()
    for frame in range(FRAMES):
        part = {"expr": EXPRESSION[[frame]], "jaw_pose": JAW[[frame]], "rotation": ROOT[[frame]]}
        vhap(tmp_path / "flame_param" / f"{frame:05d}.npz", 1, **part)
    vhap(tmp_path / "canonical_flame_param.npz", 1)
    (joined,) = read_recordings([tmp_path], fps=None)  # that pose is where the mesh was built, and no motion
    assert len(joined) == FRAMES
    assert np.array_equal(joined.tracks["jaw"], JAW)
    assert joined.source == str(tmp_path / "flame_param")


def test_clips_with_holes_are_left_out_of_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The SHOW dataset has such clips; TalkSHOW's dataset_preprocess.py leaves them out."""
    hole = np.where(np.arange(3 * FRAMES).reshape(FRAMES, 3) == 4, np.nan, JAW)
    write_pickle(tmp_path / "a.pkl", show_clip(jaw_pose=hole))
    with pytest.raises(UserError, match=r"a.pkl: jaw_pose is nan at frame 1"):
        read_recordings([tmp_path], fps=None)
    write_pickle(tmp_path / "b.pkl", show_clip())
    with caplog.at_level("WARNING"):
        (whole,) = read_recordings([tmp_path], fps=None)
    assert whole.source == str(tmp_path / "b.pkl")
    assert "Left out 1 of 2 files" in caplog.text
    with pytest.raises(UserError, match=r"nan at frame 1"):  # one that is named must be whole
        read_recordings([tmp_path / "a.pkl", tmp_path / "b.pkl"], fps=None)
    clips = np.array([show_clip(jaw_pose=hole), show_clip()], dtype=object)
    np.save(tmp_path / "chemistry_exp.npy", clips, allow_pickle=True)
    (whole,) = read_file(tmp_path / "chemistry_exp.npy", fps=None)
    assert whole.source.endswith("[1]")
    assert "Left out 1 of 2 clips" in caplog.text


def test_what_show_itself_writes_is_a_list_of_one_clip(tmp_path: Path) -> None:
    recording = one(write_pickle(tmp_path / "all.pkl", [show_clip(center=[256.0, 256.0], batch_size=FRAMES)]))
    assert np.array_equal(recording.tracks["jaw"], JAW)


def test_folders_and_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    write_pickle(tmp_path / "b" / "2.pkl", show_clip())
    write_pickle(tmp_path / "b" / "10.PKL", show_clip())
    vhap(tmp_path / "a.npz")
    (tmp_path / "b" / "talk.wav").write_bytes(b"RIFF")
    sources = [Path(r.source).name for r in read_recordings([tmp_path / "b", tmp_path / "a.npz"], fps=None)]
    assert sources == ["10.PKL", "2.pkl", "a.npz"]


def test_our_own_format_there_and_back(tmp_path: Path) -> None:
    first = Recording(
        source=str(tmp_path / "own.npz"),
        fps=23.976,
        expression=EXPRESSION,
        arkit=RNG.uniform(size=(FRAMES, 52)),
        neck=NECK,
        eye_left=LEFT,
        shape=np.arange(5),
    )
    write_npz(tmp_path / "own.npz", first)
    again = one(tmp_path / "own.npz", fps=23.976)
    assert again.fps == first.fps
    assert again.source == first.source
    assert list(again.tracks) == list(first.tracks) == ["expression", "arkit", "neck", "eye_left"]
    assert all(np.array_equal(again.tracks[name], first.tracks[name]) for name in first.tracks)
    assert np.array_equal(again.shape, first.shape)  # type: ignore[arg-type]


def test_names_of_weights_in_the_spellings_of_others(tmp_path: Path) -> None:
    """ARKit's, Live Link's (EyeBlinkLeft) and those with _L, in any order and number."""
    names = ["jawOpen", "EyeBlinkLeft", "mouthSmile_R"]
    values = RNG.uniform(size=(FRAMES, 3)).astype(np.float32)
    np.savez(tmp_path / "phone.npz", fps=60, arkit=values, arkit_names=np.array(names))
    recording = one(tmp_path / "phone.npz")
    assert recording.arkit is not None
    columns = [INDEX["jawOpen"], INDEX["eyeBlinkLeft"], INDEX["mouthSmileRight"]]
    assert np.array_equal(recording.arkit[:, columns], values)
    assert np.count_nonzero(recording.arkit.any(0)) == 3


def test_the_stand_in_is_read_like_the_real_one(tmp_path: Path) -> None:
    recording = one(write_talkshow(tmp_path / "new"))
    assert (len(recording), recording.fps) == (300, 30.0)
    jaw = recording.tracks["jaw"][:, 0]
    openings = int(((jaw[1:] > 0.1) & (jaw[:-1] <= 0.1)).sum())
    assert 15 <= openings <= 60
    assert 0.15 < jaw.max() < 0.3
    assert 0.05 < np.abs(recording.tracks["neck"]).max() < 0.6
    for name, steepest in {"expression": 1.5, "neck": 0.15, "eye_left": 0.15}.items():
        assert np.abs(np.diff(recording.tracks[name], axis=0)).max() < steepest, name
    assert recording.tracks["expression"][:, 0].std() > recording.tracks["expression"][:, 99].std()
    with (tmp_path / "new" / "talk.pkl").open("rb") as file:
        assert set(show_clip()) == set(pickle.load(file))


def test_a_clip_of_tensors(tmp_path: Path) -> None:
    """TalkSHOW's own reader expects them (CPU_Unpickler in mesh_dataset.py): whole, cut out and turned over."""
    wide = torch.from_numpy(np.concatenate([LEFT, JAW, RIGHT], axis=1))
    turned_over = torch.from_numpy(np.ascontiguousarray(EXPRESSION.T)).T
    clip = show_clip(jaw_pose=wide[:, 3:6], expression=turned_over, betas=torch.zeros(1, 300, dtype=torch.float64))
    recording = one(write_pickle(tmp_path / "clip.pkl", clip))
    assert np.array_equal(recording.tracks["jaw"], JAW)
    assert np.array_equal(recording.tracks["expression"], EXPRESSION)


class Swollen:
    """A tensor whose file says that one number is a billion."""

    def __reduce__(self) -> Any:
        stored = torch.zeros(1).__reduce_ex__(2)[1][0]
        return torch._utils._rebuild_tensor_v2, (stored, 0, (10**9, 3), (0, 0), False, {})


class Torched:
    """Harm within the bytes that only torch reads."""

    def __reduce__(self) -> Any:
        return torch.storage._load_from_bytes, (pickle.dumps(Harm(), 2),)


class Harm:
    def __reduce__(self) -> Any:
        return os.system, ("touch harmed",)


def test_nothing_in_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pickle(tmp_path / "evil.pkl", show_clip(jaw_pose=Harm()))
    np.save(tmp_path / "evil.npy", np.array([Harm()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "evil.npz", fps=30, jaw=np.array([Harm()], dtype=object))
    write_pickle(tmp_path / "evil2.pkl", show_clip(jaw_pose=Torched()))
    write_pickle(tmp_path / "evil3.pkl", show_clip(jaw_pose=Swollen()))
    for name in ("evil.pkl", "evil.npy", "evil.npz", "evil2.pkl", "evil3.pkl"):
        with pytest.raises(UserError, match=name):
            read_file(tmp_path / name, fps=None)
    assert not (tmp_path / "harmed").exists()


def faulty(folder: Path, what: str) -> Path:
    """A file with one fault."""
    path = folder / "x.npz"
    nan = np.where(np.arange(18).reshape(FRAMES, 3) == 13, np.nan, JAW)
    if what == "truncated":
        vhap(path)
        path.write_bytes(path.read_bytes()[:-400])
    elif what == "text":
        path.write_text("hello")
    elif what == "array in npz":
        with path.open("wb") as file:
            np.save(file, JAW)
    elif what == "no motion":
        np.savez(path, v_template=np.zeros((3, 3)), faces=np.zeros((1, 3)))
    elif what == "misspelt":
        np.savez(path, fps=30, jaw=JAW, eyes_left=LEFT)
    elif what == "other's key":
        np.savez(path, fps=30, jaw=JAW, rotation=ROOT)
    elif what == "no fps":
        np.savez(path, jaw=JAW)
    elif what == "two fps":
        np.savez(path, jaw=JAW, fps=np.array([30, 25]))
    elif what == "bad fps":
        np.savez(path, jaw=JAW, fps=np.array(-30))
    elif what == "no jaw":
        vhap(path, jaw_pose=None)
    elif what == "nan":
        vhap(path, jaw_pose=nan)
    elif what == "eyes":
        vhap(path, eyes_pose=LEFT)
    elif what == "lengths":
        vhap(path, neck_pose=NECK[:3])
    elif what == "no names":
        np.savez(path, fps=30, arkit=np.zeros((FRAMES, 52)))
    elif what == "names":
        np.savez(path, fps=30, arkit=np.zeros((FRAMES, 52)), arkit_names=np.array(ARKIT_NAMES[:51]))
    elif what == "unknown name":
        np.savez(path, fps=30, arkit=np.zeros((FRAMES, 1)), arkit_names=np.array(["mouthSmileLefy"]))
    elif what == "twice":
        np.savez(path, fps=30, arkit=np.zeros((FRAMES, 2)), arkit_names=np.array(["jawOpen", "JawOpen"]))
    elif what == "txt":
        path = folder / "x.txt"
        path.write_text("0,1")
    elif what == "narrow rows":
        path = folder / "x.npy"
        np.save(path, np.zeros((FRAMES, 232)))
    elif what == "no rows":
        path = folder / "x.npy"
        np.save(path, np.zeros((0, 265)))
    elif what == "short npy":
        path = folder / "x.npy"
        np.save(path, np.zeros((FRAMES, 265)))
        path.write_bytes(path.read_bytes()[:-8])
    elif what == "numbers in collection":
        path = folder / "x.npy"
        np.save(path, np.array([{"expression": EXPRESSION, "jaw_pose": JAW}, 7], dtype=object), allow_pickle=True)
    elif what == "list":
        path = write_pickle(folder / "x.pkl", [1, 2])
    elif what == "tuple":
        path = write_pickle(folder / "x.pkl", (1, 2))
    elif what == "clip without jaw":
        path = write_pickle(folder / "x.pkl", show_clip(jaw_pose=None))
    elif what == "clip with bad body":
        path = write_pickle(folder / "x.pkl", show_clip(body_pose_axis=np.zeros((FRAMES, 66))))
    elif what == "clip with nan":
        path = write_pickle(folder / "x.pkl", show_clip(reye_pose=nan))
    elif what == "no pickle":
        path = folder / "x.pkl"
        path.write_bytes(b"not a pickle")
    return path


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("missing", r"x.npz does not exist; .*talkshow.is.tue.mpg.de.*HEADSTUDIO_MOTION"),
        ("truncated", r"x.npz cannot be read as an .npz .*cut off"),
        ("text", r"x.npz cannot be read"),
        ("array in npz", r"x.npz is a single array under the name of an .npz"),
        ("no motion", r"x.npz is no motion: it holds v_template, faces"),
        ("misspelt", r"unknown key eyes_left. Did you mean eye_left"),
        ("other's key", r"unknown key rotation"),
        ("no fps", r"x.npz lacks fps"),
        ("two fps", r"fps must be one number"),
        ("bad fps", r"fps=-30.0 must be a number from 0.1"),
        ("no jaw", r"x.npz lacks jaw_pose"),
        ("nan", r"jaw_pose is nan at frame 4"),
        ("eyes", r"eyes_pose has shape \(6, 3\) but must be \(frames, 6\)"),
        ("lengths", r"differ in their number of frames"),
        ("no names", r"lacks arkit_names"),
        ("names", r"arkit has 52 columns but arkit_names 51 names"),
        ("unknown name", r"mouthSmileLefy, which is none of ARKit's 52 names. Did you mean mouthSmileLeft"),
        ("twice", r"arkit_names has jawOpen twice"),
        ("txt", r"x.txt cannot be a motion: its suffix is .txt"),
        ("narrow rows", r"x.npy: the array is 232 wide, but TalkSHOW's rows have 265"),
        ("no rows", r"x.npy: the array has no frames"),
        ("short npy", r"x.npy cannot be read as an .npy"),
        ("numbers in collection", r"x.npy holds int at 1, but a clip is a dict"),
        ("list", r"x.pkl holds int at 0, but a clip is a dict"),
        ("tuple", r"x.pkl holds tuple, but a TalkSHOW clip is a dict"),
        ("clip without jaw", r"x.pkl lacks jaw_pose"),
        ("clip with bad body", r"body_pose_axis has shape \(6, 66\) but must be \(frames, 63\)"),
        ("clip with nan", r"reye_pose is nan at frame 4"),
        ("no pickle", r"x.pkl"),
    ],
)
def test_every_bad_file_has_its_sentence(tmp_path: Path, what: str, sentence: str) -> None:
    path = faulty(tmp_path, what)
    with pytest.raises(UserError, match=sentence) as told:
        read_recordings([path], fps=None)
    assert len(str(told.value)) < 460


def test_settings_that_do_not_fit_the_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", fps=30, jaw=JAW)
    with pytest.raises(UserError, match=r"motion.fps=25 contradicts .*own.npz, which says 30"):
        read_recordings([tmp_path], fps=25)
    with pytest.raises(UserError, match=r"motion.fps=-1"):
        read_recordings([tmp_path], fps=-1)
    with pytest.raises(UserError, match=r"motion.paths is empty"):
        read_recordings([], fps=None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty holds no .npz, .npy, .pkl file"):
        read_recordings([tmp_path / "empty"], fps=None)
    np.savez(tmp_path / "plain.npz", jaw=JAW)
    assert one(tmp_path / "plain.npz", fps=48).fps == 48.0
