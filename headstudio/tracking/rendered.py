"""Pictures of the open head with known motion, and what the landmarker sees in them: the truth that tracking is
fitted to and measured by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from headstudio.camera import cameras_from_orbit
from headstudio.head.landmarks import posed_landmarks
from headstudio.head.model import axis_angle_to_matrix
from headstudio.motion.arkit import ARKIT_NAMES, INDEX, pose_of
from headstudio.motion.procedural import ProceduralMotion
from headstudio.synthetic.samples import ShapeSampler, random_attributes
from headstudio.synthetic.vocabulary import Attributes
from headstudio.types import Pose

if TYPE_CHECKING:
    from headstudio.head.model import HeadModel
    from headstudio.synthetic.world import World
    from headstudio.tracking.landmarker import Landmarker
    from headstudio.types import Cameras

Array = NDArray[Any]
SIZE = 384  # pixels
SKINS = ("pale", "tan", "brown", "dark")
SEEN = tuple(name for name in ARKIT_NAMES if not name.startswith("eyeLook") and name != "tongueOut")
FACES: dict[str, float] = {
    "neutral": 0.1, "talking": 0.6, "expression": 0.5, "blink": 0.3, "glance": 0.0, "turn": 0.0, "wild": 0.0,
    "gaze_yaw_deg": 0.0, "gaze_pitch_deg": 0.0, "neck_yaw_deg": 0.0, "neck_pitch_deg": 0.0, "neck_roll_deg": 0.0,
}  # fmt: skip
STILL = 3  # frames at rest that begin each subject's film


@dataclass(frozen=True, eq=False)
class Observed:
    """T pictures of one subject: what was shown, and what was seen (NaN where no face was found)."""

    weights: Array  # (T, 52) shown
    projections: Array  # (T, 3, 4) from the skull at rest (world units) to homogeneous pixels
    rotations: Array  # (T, 3, 3) of the skull, in axes of the camera's picture: x right, y up, z towards the viewer
    landmarks: Array  # (T, 478, 3) pixels
    scores: Array  # (T, 52)
    lip_gap: Array  # (T,) between the middles of the lips, world units
    size: int


def human(rng: np.random.Generator) -> Attributes:
    """Looks that a person can have: no paint, no cap over the brows, lips of any colour."""
    while True:
        looks = random_attributes(rng)
        plain = looks.paint == "none" and looks.mouth == "normal" and looks.hat == "none"
        if plain and looks.skin in SKINS and looks.beard in ("none", "moustache", "goatee", "full"):
            return looks


def random_weights(world: World, count: int, rng: np.random.Generator) -> Array:
    """(T, 52): one half talks or has a mood, the other shows one or two expressions alone, at any strength."""
    pairs = sorted({name.removesuffix("Left").removesuffix("Right") for name in SEEN} - {"jaw", "mouth"})
    names = [*pairs, "jawLeft", "jawRight", "mouthLeft", "mouthRight"]
    motion = ProceduralMotion(world.head, **FACES)
    drawn = motion.sample(count, torch.Generator().manual_seed(int(rng.integers(2**31))))
    weights = shown_weights(world.head, drawn)
    weights[rng.random(count) < 0.5] = 0.0
    for row in weights:
        if row.any():
            continue
        for name in rng.choice(names, size=rng.integers(1, 3), replace=False):
            strength = rng.random()
            if name in INDEX:
                row[INDEX[name]] = strength
                continue
            row[INDEX[f"{name}Left"]] = strength
            row[INDEX[f"{name}Right"]] = strength if rng.random() < 0.6 else rng.random()
    return weights


class Subject:
    """A head of the synthetic world with a random face, or the looks given."""

    def __init__(self, world: World, rng: np.random.Generator, looks: Attributes | None = None) -> None:
        self.world, self.head = world, world.head
        self.looks = human(rng) if looks is None else looks
        sampler = ShapeSampler(age_step=0.8, gender_step=0.8, spread=0.6)
        self.shape = sampler(self.looks, world.head.num_shape, rng)

    def cameras(self, count: int, rng: np.random.Generator, *, size: int = SIZE) -> Cameras:
        """One camera for all frames, somewhere in front."""
        fovy = rng.uniform(25.0, 55.0)
        distance = rng.uniform(0.65, 0.95) / np.tan(np.radians(fovy / 2))
        side, above = rng.uniform(-12.0, 12.0), rng.uniform(-8.0, 8.0)
        return cameras_from_orbit([side] * count, above, distance, fovy, size, size)

    def pictures(self, pose: Pose, cameras: Cameras) -> Array:
        """(T, H, W, 3) RGB, uint8."""
        rgb = self.world.render(self.looks, self.shape, pose, cameras).rgb
        return (rgb.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()

    def observed(self, pose: Pose, cameras: Cameras, landmarker: Landmarker) -> Observed:
        """Rendered and looked at, frame by frame; the largest face counts."""
        landmarks = np.full((len(pose), 478, 3), np.nan)
        scores = np.full((len(pose), len(ARKIT_NAMES)), np.nan)
        for frame, picture in enumerate(self.pictures(pose, cameras)):
            if faces := landmarker.faces(picture):
                face = max(faces, key=lambda found: found.extent)
                landmarks[frame], scores[frame] = face.landmarks, face.scores
        skull = self._skull(pose)
        view = cameras.camera_from_world.double().numpy() @ skull
        return Observed(
            weights=shown_weights(self.head, pose),
            projections=cameras.intrinsics.double().numpy() @ view[:, :3],
            rotations=np.diag([1.0, -1.0, -1.0]) @ view[:, :3, :3],
            landmarks=landmarks,
            scores=scores,
            lip_gap=lip_gap(self.head, self.shape, pose),
            size=cameras.width,
        )

    def _skull(self, pose: Pose) -> Array:
        """(T, 4, 4): where the neck's joint takes what rides on it alone."""
        head = self.head
        neck = head.joint_names.index("neck")
        turn = axis_angle_to_matrix(pose.joints[:, neck]).double().numpy()
        joint = head(self.shape, replace(pose, joints=torch.zeros_like(pose.joints))).joints[:, neck].double().numpy()
        moved = np.tile(np.eye(4), (len(pose), 1, 1))
        moved[:, :3, :3] = turn
        moved[:, :3, 3] = joint - (turn @ joint[..., None])[..., 0]
        return moved


def lip_gap(head: HeadModel, shape: torch.Tensor, pose: Pose) -> Array:
    """(T,) between the middles of upper and lower lip, world units."""
    lines = posed_landmarks(head, head(shape, pose))
    first, end = next((a, b) for name, a, b, _ in lines.polylines if name == "lips_inner")
    inner = lines.points[:, first:end].double().numpy()
    count = inner.shape[1]
    one = int(np.abs(inner[0, :, 0]).argmin())  # a lip's middle; the other's lies across the line
    across = (one + np.arange(count // 4, count - count // 4 + 1)) % count
    other = int(across[np.abs(inner[0, across, 0]).argmin()])
    gap: Array = np.linalg.norm(inner[:, one] - inner[:, other], axis=-1)
    return gap


def shown_weights(head: HeadModel, pose: Pose) -> Array:
    """(T, 52) of a pose of the open head, in the order of `ARKIT_NAMES`."""
    names = head.expression_names
    return pose.expression[:, [names.index(name) for name in ARKIT_NAMES]].double().numpy()


def random_pose(world: World, count: int, rng: np.random.Generator) -> Pose:
    """Random expressions, glances and turns of the head; the first `STILL` frames rest."""
    weights = random_weights(world, count, rng)
    moving = (np.arange(count) >= STILL)[:, None]
    glance = (rng.random((count, 1)) < 0.6) & moving
    gaze = rng.uniform(-1, 1, (count, 2)) * [30.0, 18.0] * glance
    neck = rng.uniform(-1, 1, (2, count, 3)).mean(0) * [25.0, 14.0, 14.0] * moving
    parts = (weights * moving, gaze, neck)
    return pose_of(world.head, *(torch.from_numpy(part).float() for part in parts))
