"""Pickles of numbers, read without trusting them: FLAME's models, its side files, TalkSHOW's motions.

A pickle is a program. This one may only build containers, numpy arrays and scalars, scipy's sparse matrices and
chumpy's arrays (which real FLAME files hold, and which no current Python can import). Every class and function that a
file names is replaced by one of this module's; a file that names another is refused. Nothing of numpy, scipy or chumpy
runs at the file's command, and no array is larger than the bytes that the file holds for it. Tensors become arrays;
their numbers are read by torch's own restricted loader (`weights_only`).
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from headstudio.errors import UserError

LARGEST_DENSE = 50_000_000  # numbers of a sparse matrix once it is dense; FLAME's joint regressor has 25,115
_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|c(8|16)|O[48]?|[SUV]\d{1,6})")


def load_pickle(path: Path, *, offset: int = 0) -> Any:
    """What a pickle holds: dicts, lists, tuples, strings, numbers and numpy arrays (sparse and chumpy ones made dense).

    Strings of Python 2 are read as latin-1.

    Args:
        path: the file.
        offset: where in it the pickle begins, bytes.

    Raises:
        UserError: the file cannot be read, is cut off or damaged, or names anything but arrays of numbers.
    """
    try:
        content = path.read_bytes()[offset:]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error
    try:
        _scan(content)
        return _Plain().of(_Unpickler(content).load())
    except _Refused as refused:
        raise UserError(
            f"{path} is refused because it {refused}; a pickle can run code, so get the file again from its authors."
        ) from None
    except RecursionError:
        raise UserError(f"{path} is refused because it is nested too deeply for a file of arrays.") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise UserError(f"{path} is no pickle of arrays, or it is cut off ({_short(error)}).") from error


class _Refused(Exception):
    """What the file does that no file of arrays has to."""


def _scan(content: bytes) -> None:
    """Walk the instructions without obeying them: complete, and no table larger than the file asked for."""
    for opcode, argument, _ in pickletools.genops(content):
        if "PUT" in opcode.name and isinstance(argument, int) and argument > len(content):
            raise _Refused("asks for more memory than it can fill")
        if opcode.name in ("EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER"):
            raise _Refused(f"uses the instruction {opcode.name}")


class _Sealed(type):
    """A class that a pickle cannot change."""

    def __setattr__(cls, name: str, value: object) -> NoReturn:
        raise _Refused(f"changes the class {cls.__name__}")


class _DType(metaclass=_Sealed):
    """Stands in for `numpy.dtype`: plain numbers and strings only."""

    def __init__(self, code: str, align: Any = False, copy: Any = False) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise _Refused(f"holds an array of the type {str(code)[:40]!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(metaclass=_Sealed):
    """Stands in for `numpy.ndarray`; keeps the bytes and makes the array of them when all is read."""

    def __init__(self, *ignored: Any) -> None:
        self.state: tuple[Any, ...] = (1, (0,), _DType("f8"), False, b"")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


class _Sparse(metaclass=_Sealed):
    """Stands in for scipy's compressed matrices."""

    by_columns = True

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class _SparseRows(_Sparse):
    by_columns = False


class _Chumpy(metaclass=_Sealed):
    """Stands in for chumpy's arrays, whose value is their attribute `x`."""

    def __init__(self, *ignored: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    """numpy's `_reconstruct`: an empty array that gets its state afterwards."""
    return _Array()


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """numpy's `_frombuffer` (protocol 5)."""
    array = _Array()
    array.state = (1, shape, dtype, order == "F", buffer)
    return array


def _scalar(dtype: Any, raw: Any = b"") -> _Array:
    """numpy's `scalar`, kept as an array without axes."""
    array = _Array()
    array.state = (1, (), dtype, False, raw)
    return array


def _storage(raw: Any) -> Any:
    """torch's `_load_from_bytes`: a tensor's numbers, as a flat array."""
    import torch

    stored = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files hold the typed storages that torch wants to get rid of
        return torch.empty(0, dtype=stored.dtype).set_(stored.untyped()).numpy()


def _tensor(storage: Any, offset: int, shape: Any, strides: Any, *ignored: Any) -> _Array:
    """torch's `_rebuild_tensor_v2`: a window of a storage, copied into an array."""
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if min((offset, *strides)) < 0 or last >= len(storage) or math.prod(shape) > len(storage):
        raise _Refused("holds a tensor that is larger than its numbers")
    window = np.lib.stride_tricks.as_strided(storage[offset:], shape, [storage.itemsize * s for s in strides])
    array = _Array()
    array.state = (1, shape, _DType(storage.dtype.str), False, window.tobytes())
    return array


def _new_object(kind: Any, *arguments: Any) -> Any:
    """`copyreg._reconstructor` and `__newobj__`, for this module's classes only."""
    if not isinstance(kind, _Sealed):
        raise _Refused("makes an object of an unknown class")
    return kind()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """`_codecs.encode`, by which Python 3 writes bytes into old protocols."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"encodes text as {str(encoding)[:20]!r}")
    return str(text).encode("latin1")


def _bytes(*arguments: Any) -> bytes:
    """`bytes()`, by which Python 3 writes an empty string; with an argument it could fill the memory."""
    if arguments:
        raise _Refused("calls bytes with an argument")
    return b""


_BY_NAME: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _bytes,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    **{(f"scipy.sparse.{name}", "csc_matrix"): _Sparse for name in ("csc", "_csc")},
    **{(f"scipy.sparse.{name}", "csr_matrix"): _SparseRows for name in ("csr", "_csr")},
    **{(module, "_reconstructor"): _new_object for module in ("copy_reg", "copyreg")},
    **{(module, "__newobj__"): _new_object for module in ("copy_reg", "copyreg")},
    **{(module, "object"): _Array for module in ("__builtin__", "builtins")},  # only ever a base that is not used
}


class _Unpickler(pickle.Unpickler):
    """Finds nothing but the stand-ins above."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), fix_imports=False, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        if module == "chumpy" or module.startswith("chumpy."):
            return _Chumpy
        found = _BY_NAME.get((module, name))
        if found is None:
            raise _Refused(f"names {module}.{name}"[:120])
        return found


class _Plain:
    """Stand-ins become arrays, whatever holds them; what is held twice is made once."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        if isinstance(value, str | bytes | bytearray | int | float | complex | bool | None):
            return value
        if id(value) not in self._made:
            self._made[id(value)] = None  # what holds itself finds nothing
            self._made[id(value)] = self._make(value)
        return self._made[id(value)]

    def _make(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.of(key): self.of(held) for key, held in value.items()}
        if isinstance(value, list | tuple):
            return type(value)([self.of(held) for held in value])
        if isinstance(value, _Array):
            return self._array(value)
        if isinstance(value, _Sparse):
            return self._dense(value)
        if isinstance(value, _Chumpy):
            return self._chumpy(value)
        raise _Refused(f"holds a {type(value).__name__.lstrip('_')}")

    def _array(self, value: _Array) -> Any:
        shape, dtype, by_columns, raw = value.state[-4:]
        if not isinstance(dtype, _DType):
            raise _Refused("holds an array without a type")
        if dtype.dtype.hasobject:
            array = np.empty(len(raw), object)
            array[:] = [self.of(held) for held in raw]
        else:
            array = np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, dtype.dtype)
        array = array.reshape(tuple(int(size) for size in shape), order="F" if by_columns else "C")
        return array if array.ndim or dtype.dtype.hasobject else array[()]

    def _dense(self, value: _Sparse) -> Any:
        from scipy.sparse import csc_matrix, csr_matrix

        state = {str(key): self.of(held) for key, held in value.state.items()}
        rows, columns = state["_shape" if "_shape" in state else "shape"]
        if int(rows) * int(columns) > LARGEST_DENSE:
            raise _Refused(f"holds a sparse matrix of {rows} x {columns}")
        kind = csc_matrix if value.by_columns else csr_matrix
        matrix = kind((state["data"], state["indices"], state["indptr"]), shape=(int(rows), int(columns)))
        matrix.check_format(full_check=True)
        return matrix.toarray()

    def _chumpy(self, value: _Chumpy) -> Any:
        if "x" not in value.state:
            raise _Refused("holds a chumpy expression and not its value")
        return np.asarray(self.of(value.state["x"]))


def _short(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:100]
