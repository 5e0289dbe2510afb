"""What the names in a pickle become (`safe_pickle`): stand-ins that keep what they are given, and arrays made of them.

A stand-in runs nothing of what it stands for. Arrays are made when all is read, and each once, so that the result is
about as large as the file.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

MOST_MADE = 20_000_000  # numbers that a file may make without holding them: its sparse matrices once they are dense
_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|c(8|16)|O[48]?|[SUV]\d{1,6})")


class Refused(Exception):
    """What the file does that no file of arrays has to."""


class Sealed(type):
    """A class that a pickle cannot change."""

    def __setattr__(cls, name: str, value: object) -> NoReturn:
        raise Refused(f"changes the class {cls.__name__}")


class Call:
    """One of this module's functions, which a pickle can call and not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> NoReturn:
        raise Refused(f"changes the function {self._function.__name__}")


class DType(metaclass=Sealed):
    """Stands in for `numpy.dtype`: plain numbers and strings only."""

    def __init__(self, code: str, align: Any = False, copy: Any = False) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise Refused(f"holds an array of the type {code[:40] if isinstance(code, str) else '?'!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class Array(metaclass=Sealed):
    """Stands in for `numpy.ndarray`; keeps the bytes and makes the array of them when all is read."""

    def __init__(self, *ignored: Any) -> None:
        self.state: tuple[Any, ...] = (1, (0,), DType("f8"), False, b"")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


class Sparse(metaclass=Sealed):
    """Stands in for scipy's compressed matrices."""

    by_columns = True

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class SparseRows(Sparse):
    by_columns = False


class Chumpy(metaclass=Sealed):
    """Stands in for chumpy's arrays (their value is the attribute `x`) and selections of their entries."""

    def __init__(self, *ignored: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class Set(metaclass=Sealed):
    """Stands in for a set, which chumpy's arrays keep for their own ends; nothing is read of it."""

    def __init__(self, *ignored: Any) -> None: ...


class Encoded(metaclass=Sealed):
    """What `_codecs.encode` returns, by which Python 3 writes bytes into old protocols."""

    def __init__(self, text: Any, encoding: Any = "latin1") -> None:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise Refused("encodes something else than bytes")
        self.text = text


class Storage(metaclass=Sealed):
    """Stands in for torch's `_load_from_bytes`: a tensor's numbers."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw


class Tensor(metaclass=Sealed):
    """Stands in for torch's `_rebuild_tensor_v2`: a window of a storage, in numbers."""

    def __init__(self, storage: Storage, offset: int, shape: Any, strides: Any, *ignored: Any) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides


def reconstruct(kind: Any, shape: Any, code: Any) -> Array:
    """numpy's `_reconstruct`: an empty array that gets its state afterwards."""
    return Array()


def from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> Array:
    """numpy's `_frombuffer` (protocol 5)."""
    array = Array()
    array.state = (1, shape, dtype, order == "F", buffer)
    return array


def scalar(dtype: Any, raw: Any = b"") -> Array:
    """numpy's `scalar`, kept as an array without axes."""
    array = Array()
    array.state = (1, (), dtype, False, raw)
    return array


def new_object(kind: Any, *arguments: Any) -> Any:
    """`copyreg._reconstructor` and `__newobj__`, for this module's classes only."""
    if not isinstance(kind, Sealed):
        raise Refused("makes an object of an unknown class")
    return kind()


def only_keys(values: Any) -> None:
    """Refuse what is hashed and no word or number: a tuple's hash walks all that it holds, however often and deep."""
    if not all(isinstance(value, str | bytes | int | float | None) for value in values):
        raise Refused("holds a table whose keys are no words or numbers")


def table(pairs: Any = ()) -> dict[Any, Any]:
    """`collections.OrderedDict`, which Python 2 made of a list of pairs."""
    only_keys([key for key, _ in pairs])
    return dict(pairs)


def no_bytes(*arguments: Any) -> bytes:
    """`bytes()`, by which Python 3 writes an empty string; with an argument it could fill the memory."""
    if arguments:
        raise Refused("calls bytes with an argument")
    return b""


class Plain:
    """Stand-ins become arrays, whatever holds them; what is held twice is made once."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}
        self._room = MOST_MADE

    def of(self, value: Any) -> Any:
        if isinstance(value, str | bytes | bytearray | int | float | complex | bool | None):
            return value
        return self._once(value, self._make)

    def _once(self, value: Any, make: Callable[[Any], Any]) -> Any:
        if id(value) not in self._made:
            self._made[id(value)] = None  # what holds itself finds nothing
            self._made[id(value)] = make(value)
        return self._made[id(value)]

    def _make(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.of(key): self.of(held) for key, held in value.items()}
        if isinstance(value, list | tuple):
            return type(value)([self.of(held) for held in value])
        makers: dict[type, Callable[[Any], Any]] = {
            Array: self._array,
            Sparse: self._dense,
            SparseRows: self._dense,
            Chumpy: self._chumpy,
            Encoded: self._bytes,
            Tensor: self._tensor,
        }
        maker = makers.get(type(value))
        if maker is None:
            raise Refused(f"holds a {type(value).__name__.lower()}")
        return maker(value)

    def _bytes(self, raw: Any) -> Any:
        """Bytes, of a file of Python 2 (which has them as text) or 3; made once for each text."""
        text = raw.text if isinstance(raw, Encoded) else raw
        return self._once(text, lambda text: text.encode("latin1")) if isinstance(text, str) else text

    def _array(self, value: Array) -> Any:
        shape, dtype, by_columns, raw = value.state[-4:]
        if not isinstance(dtype, DType):
            raise Refused("holds an array without a type")
        if dtype.dtype.hasobject:
            array = np.empty(len(raw), object)
            array[:] = [self.of(held) for held in raw]
        else:
            array = np.frombuffer(self._bytes(raw), dtype.dtype)
        array = array.reshape(tuple(int(size) for size in shape), order="F" if by_columns else "C")
        return array if array.ndim or dtype.dtype.hasobject else array[()]

    def _take(self, numbers: int) -> None:
        self._room -= numbers
        if self._room < 0:
            raise Refused("makes more numbers than it holds")

    def _dense(self, value: Sparse) -> Any:
        from scipy.sparse import csc_matrix, csr_matrix

        rows, columns = (int(size) for size in value.state["_shape" if "_shape" in value.state else "shape"])
        self._take(rows * columns)
        parts = tuple(self._numbers(value.state[name]) for name in ("data", "indices", "indptr"))
        matrix = (csc_matrix if value.by_columns else csr_matrix)(parts, shape=(rows, columns))
        matrix.check_format(full_check=True)
        return matrix.toarray()

    def _chumpy(self, value: Chumpy) -> Any:
        """`Ch` and `reordering.Select`: `a.ravel()[idxs].reshape(preferred_shape)`; None for other expressions."""
        state = value.state
        if "x" in state:
            return self._numbers(state["x"])
        if "a" not in state or "idxs" not in state:
            return None
        source, entries = self._numbers(state["a"]).ravel(), self._numbers(state["idxs"])
        self._take(entries.size)
        chosen = source[entries]
        return chosen.reshape(tuple(state["preferred_shape"])) if "preferred_shape" in state else chosen

    def _numbers(self, value: Any) -> Any:
        """An array of numbers, and no list, which could hold one list again and again."""
        array = np.asarray(self.of(value) if isinstance(value, Array | Chumpy | int | float) else None)
        if array.dtype.kind not in "biuf":
            raise Refused("holds something else where numbers belong")
        return array

    def _tensor(self, value: Tensor) -> Any:
        """A window of its storage, not a copy; it ends where the storage ends."""
        if not isinstance(value.storage, Storage):
            raise Refused("holds a tensor without numbers")
        stored = self._once(value.storage, self._stored)
        shape, strides, offset = tuple(value.shape), tuple(value.strides), value.offset
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if min((offset, *strides, *shape)) < 0 or last >= len(stored) or math.prod(shape) > len(stored):
            raise Refused("holds a tensor that is larger than its numbers")
        return np.lib.stride_tricks.as_strided(stored[offset:], shape, [stored.itemsize * s for s in strides])

    def _stored(self, value: Storage) -> Any:
        import torch

        stored = torch.load(io.BytesIO(self._bytes(value.raw)), map_location="cpu", weights_only=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # files hold the typed storages that torch wants to get rid of
            return torch.empty(0, dtype=stored.dtype).set_(stored.untyped()).numpy()
