"""The binary part of a glTF file: arrays as accessors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from jaxtyping import Float

COMPONENTS = {"f4": 5126, "u1": 5121, "u2": 5123, "u4": 5125}
SHAPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
VERTEX_DATA, INDEX_DATA = 34962, 34963  # a buffer view's target


class Buffer:
    """Collects arrays into one little-endian buffer, with a view and an accessor each.

    `accessors` and `views` are pygltflib's, `content` is the buffer.
    """

    def __init__(self) -> None:
        self.content = bytearray()
        self.accessors: list[Any] = []
        self.views: list[Any] = []

    def add(self, array: NDArray[Any], *, target: int | None = None, bounds: bool = False) -> int:
        """The accessor's index of an array (count, ...) of float32, uint8, uint16 or uint32.

        Args:
            array: matrices are given by their rows, as elsewhere, and stored by their columns.
            target: `VERTEX_DATA` or `INDEX_DATA` for what a GPU draws.
            bounds: whether to state the smallest and the largest value, as positions and times must.
        """
        from pygltflib import Accessor

        shape = SHAPES[array.shape[1:]]
        ordered = array.transpose(0, 2, 1) if shape == "MAT4" else array
        accessor = Accessor(
            bufferView=self._view(ordered, target),
            componentType=COMPONENTS[array.dtype.str[1:]],
            count=len(array),
            type=shape,
            **(_bounds(array) if bounds else {}),
        )
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def add_sparse(self, array: Float[np.ndarray, "V 3"]) -> int:
        """The accessor's index of vectors most of which are zero: only the others are stored.

        A morph target moves a part of the face only, so that a file shrinks to a third.
        """
        from pygltflib import Accessor, AccessorSparseIndices, AccessorSparseValues, Sparse

        moved = np.flatnonzero(array.any(-1))
        moved = moved if len(moved) else np.zeros(1, np.int64)  # an empty list is not allowed
        indices = moved.astype("<u2" if len(array) <= 2**16 else "<u4")
        sparse = Sparse(
            count=len(moved),
            indices=AccessorSparseIndices(
                bufferView=self._view(indices, None), componentType=COMPONENTS[indices.dtype.str[1:]]
            ),
            values=AccessorSparseValues(bufferView=self._view(array[moved].astype("<f4"), None)),
        )
        self.accessors.append(
            Accessor(
                byteOffset=None,
                componentType=COMPONENTS["f4"],
                count=len(array),
                type="VEC3",
                sparse=sparse,
                **_bounds(array),
            )
        )
        return len(self.accessors) - 1

    def _view(self, array: NDArray[Any], target: int | None) -> int:
        """The view's index; views begin at multiples of 4 bytes."""
        from pygltflib import BufferView

        self.content += bytes(-len(self.content) % 4)
        content = np.ascontiguousarray(array).tobytes()
        self.views.append(BufferView(buffer=0, byteOffset=len(self.content), byteLength=len(content), target=target))
        self.content += content
        return len(self.views) - 1


def _bounds(array: NDArray[Any]) -> dict[str, list[float]]:
    flat = array.reshape(len(array), -1)
    return {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
