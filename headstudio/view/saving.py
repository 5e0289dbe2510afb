"""What can be taken along: a picture, the motion of the sliders, the camera's path."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstudio.motion.files import write_npz
from headstudio.view.face import Face, recording_of
from headstudio.view.splats import UNIT

if TYPE_CHECKING:
    from viser import CameraHandle

PICTURE_PX = 1024


def png(pixels: Any) -> bytes:
    """The bytes of a picture (H, W, 3 or 4) uint8."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()


def motion(faces: list[Face], fps: float) -> bytes:
    """The bytes of our own motion file (docs/motion.md)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "motion.npz"
        write_npz(path, recording_of(faces, fps))
        return path.read_bytes()


def keyframe(camera: CameraHandle) -> dict[str, Any]:
    """Where a camera is: world units and degrees; axes as in `headstudio.types`."""
    return {
        "position": [round(UNIT * float(v), 5) for v in camera.position],
        "look_at": [round(UNIT * float(v), 5) for v in camera.look_at],
        "fovy_deg": round(float(np.degrees(camera.fov)), 3),
    }


def camera_path(keyframes: list[dict[str, Any]]) -> bytes:
    """Keyframes as JSON, a second apart."""
    timed = [{"seconds": float(second), **frame} for second, frame in enumerate(keyframes)]
    return (json.dumps({"keyframes": timed}, indent=2) + "\n").encode()
