"""The formats that a finished run can be written in: a table that the command line and its help are made of."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Format:
    """How one format is written.

    Args:
        line: one line for the help.
        suffix: of its file; "" where it is a folder.
        writer: `module:function`, imported when it is used. The function takes `(opened, path, *, ...)` with the
            keywords of `takes`, writes the file or folder `path`, and returns one sentence about it (or None).
        takes: which of `pose` (one `types.Pose`), `motion` (a `moves.Film`), `axes` (an `axes.Axes`) and `sound` (a
            file) it takes.
        always_moves: whether it has a film even where none is asked for; else `motion` is then None.
    """

    line: str
    suffix: str
    writer: str
    takes: tuple[str, ...] = ()
    always_moves: bool = False

    def write(self) -> Any:
        """The writer itself."""
        module, _, function = self.writer.partition(":")
        return getattr(import_module(f"headstudio.export.{module}"), function)


FORMATS: dict[str, Format] = {
    "ply": Format("Gaussians at one pose, as 3DGS saves them: SuperSplat and all other viewers", ".ply",
                  "splat_files:write_ply", ("pose", "axes")),
    "splat": Format("the same in 32 bytes per Gaussian, for viewers in browsers", ".splat",
                    "splat_files:write_splat", ("pose", "axes")),
    "spz": Format("the same packed by Niantic's format: a quarter of the PLY", ".spz",
                  "splat_files:write_spz", ("pose", "axes")),
    "ply-sequence": Format("a folder with a PLY for each frame of a motion", "",
                           "sequence:write_sequence", ("motion", "axes"), True),
    "gaussian-avatars": Format("a folder that GaussianAvatars' viewer animates (head=flame only)", "",
                               "gaussian_avatars:write_gaussian_avatar", ("pose", "motion")),
    "web": Format("one HTML file that plays the head and lets anyone drive it, in any browser", ".html",
                  "web:write_page", ("motion", "sound"), True),
    "glb": Format("the head's mesh with joints, expressions and baked colours: Blender, three.js, game engines", ".glb",
                  "glb:write_glb", ("pose", "motion")),
}  # fmt: skip
