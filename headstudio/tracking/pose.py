"""How a head is turned: rigid points of a known head, fitted to where they lie in a picture.

Axes are the picture's as a viewer sees it: x right, y up, z out of the picture. A head that looks straight into the
camera is unrotated. Pictures have y down; the pixels that come in do too.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

FLIP = np.array([1.0, -1.0, -1.0])  # between the axes above and the camera's (x right, y down, z forward)


def similarity(
    points: Float[np.ndarray, "K 3"], seen: Float[np.ndarray, "T K 3"], weights: Float[np.ndarray, " K"]
) -> tuple[Float[np.ndarray, "T 3 3"], Float[np.ndarray, " T"]]:
    """Rotations and scales that take `points` nearest to `seen`, up to a shift; least squares, in closed form.

    Source: Umeyama (1991), Eq. 40-43.
    """
    shares = weights / weights.sum()
    at_rest = points - shares @ points
    moved = seen - np.einsum("k,tkc->tc", shares, seen)[:, None]
    left, size, right = np.linalg.svd(np.einsum("k,tki,kj->tij", shares, moved, at_rest))
    size = size * _signs(left, right)
    return _proper(left, right), size.sum(-1) / (shares @ (at_rest**2).sum(-1))


def _signs(left: Float[np.ndarray, "T 3 3"], right: Float[np.ndarray, "T 3 3"]) -> Float[np.ndarray, "T 3"]:
    signs = np.ones(left.shape[:2])
    signs[:, 2] = np.sign(np.linalg.det(left) * np.linalg.det(right))
    return signs


def _proper(left: Float[np.ndarray, "T 3 3"], right: Float[np.ndarray, "T 3 3"]) -> Float[np.ndarray, "T 3 3"]:
    """The rotation nearest to a product whose singular vectors these are: never a reflection."""
    return (left * _signs(left, right)[:, None]) @ right
