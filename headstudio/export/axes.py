"""Which way a file of Gaussians is turned: viewers of 3DGS scenes expect y to point down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Axes:
    """A half turn, or none, from the world of `headstudio.types` to a file.

    Args:
        name: as the command line has it.
        line: one line for its help.
        signs: factor of x, y and z; an even number of them is negative, so that nothing is mirrored.
    """

    name: str
    line: str
    signs: tuple[int, int, int]

    def points(self, world: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Points in the file's axes; its own inverse."""
        turned: NDArray[np.float32] = world * np.array(self.signs, world.dtype)
        return turned

    def quaternions(self, world: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 4"]:
        """Rotations (wxyz) in the file's axes.

        A half turn about an axis is the unit quaternion of that axis. Multiplied from the left it permutes the four
        components and changes signs.
        """
        w, x, y, z = world.T
        turned = {
            (1, 1, 1): (w, x, y, z),
            (1, -1, -1): (-x, w, -z, y),
            (-1, 1, -1): (-y, z, w, -x),
            (-1, -1, 1): (-z, -y, x, w),
        }[self.signs]
        return np.stack(turned, axis=-1)


AXES: dict[str, Axes] = {
    axes.name: axes
    for axes in (
        Axes("supersplat", "y down, the face looks along +z: upright and facing you in SuperSplat", (-1, -1, 1)),
        Axes(
            "opencv", "x right, y down, z forward, so that the face looks along -z: COLMAP's and OpenCV's", (1, -1, -1)
        ),
        Axes("world", "x right, y up, the face looks along +z: ours, glTF's and three.js'", (1, 1, 1)),
    )
}
