"""Pickles of numbers, read without trusting them: FLAME's models, its side files, TalkSHOW's motions.

A pickle is a program. This one may only build containers, numpy arrays and scalars, scipy's sparse matrices and
chumpy's arrays (which real FLAME files hold, and which no current Python can import). Every class and function that a
file names is replaced by one of `pickle_parts`; a file that names another is refused. Nothing of numpy, scipy or chumpy
runs at the file's command, and no array is larger than the bytes that the file holds for it, nor are these copied as
often as the file likes. Tensors become arrays; their numbers are read by torch's own restricted loader
(`weights_only`).
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from headstudio.errors import UserError
from headstudio.head.pickle_parts import (
    Array,
    Call,
    Chumpy,
    DType,
    Encoded,
    Plain,
    Refused,
    Set,
    Sparse,
    SparseRows,
    Storage,
    Tensor,
    from_buffer,
    new_object,
    no_bytes,
    only_keys,
    reconstruct,
    scalar,
    table,
)

_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}


def load_pickle(path: Path, *, offset: int = 0) -> Any:
    """What a pickle holds: dicts, lists, tuples, strings, numbers and numpy arrays (sparse and chumpy ones made dense).

    Strings of Python 2 are read as latin-1. A chumpy expression that is not stored with its value becomes None.

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
        return Plain().of(_Unpickler(content).load())
    except Refused as refused:
        raise UserError(
            f"{path} is refused because it {refused}; a pickle can run code, so get the file again from its authors."
        ) from None
    except RecursionError:
        raise UserError(f"{path} is refused because it is nested too deeply for a file of arrays.") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise UserError(f"{path} is no pickle of arrays, or it is cut off ({_short(error)}).") from error


def load_object_npy(path: Path) -> Any:
    """The one Python object that an `.npy` holds (`numpy.save` of a dict), read as `load_pickle` reads.

    Raises:
        UserError: as `load_pickle`, or the file holds plain numbers or several objects.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            _, _, dtype = reader(file)  # type: ignore[no-untyped-call]
            offset = file.tell()
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path} cannot be read as an .npy ({_short(error)}).") from error
    held = load_pickle(path, offset=offset) if dtype.hasobject else None
    if not isinstance(held, np.ndarray) or held.dtype != object or held.size != 1:
        raise UserError(f"{path} does not hold one Python object, as numpy.save writes a dict.")
    return held.item()


def _scan(content: bytes) -> None:
    """Walk the instructions without obeying them: complete, and no table larger than the file asked for."""
    for name, argument in _instructions(content):
        if ("PUT" in name or name == "FRAME") and isinstance(argument, int) and argument > len(content):
            raise Refused("asks for more memory than it can fill")
        if name in ("EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER"):
            raise Refused(f"uses the instruction {name}")


def _instructions(content: bytes) -> Iterator[tuple[str, Any]]:
    """Each instruction's name and argument, as `pickletools.genops`, which cannot read Python 2's strings of bytes."""
    stream = io.BytesIO(content)
    name = ""
    while name != "STOP":
        code = stream.read(1)
        if not code:
            raise EOFError("no end of the pickle")
        opcode = _OPCODES[code.decode("latin1")]
        name = opcode.name
        if name == "STRING":
            yield name, stream.readline()
        else:
            yield name, None if opcode.arg is None else opcode.arg.reader(stream)


_BY_NAME: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): DType,
    ("_codecs", "encode"): Encoded,
    ("__builtin__", "bytes"): Call(no_bytes),
    ("collections", "OrderedDict"): Call(table),
    ("torch.storage", "_load_from_bytes"): Storage,
    ("torch._utils", "_rebuild_tensor_v2"): Tensor,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Call(reconstruct) for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): Call(scalar) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): Call(from_buffer) for core in ("core", "_core")},
    **{(f"scipy.sparse.{name}", "csc_matrix"): Sparse for name in ("csc", "_csc")},
    **{(f"scipy.sparse.{name}", "csr_matrix"): SparseRows for name in ("csr", "_csr")},
    **{(module, "_reconstructor"): Call(new_object) for module in ("copy_reg", "copyreg")},
    **{(module, "__newobj__"): Call(new_object) for module in ("copy_reg", "copyreg")},
    **{(module, "set"): Set for module in ("__builtin__", "builtins")},
    **{(module, "object"): Array for module in ("__builtin__", "builtins")},  # only ever a base that is not used
}


class _Unpickler(pickle._Unpickler):  # the one in Python, whose instructions can be watched
    """Finds nothing but the stand-ins above, and hashes nothing but words and numbers."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), fix_imports=False, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        if module == "chumpy" or module.startswith("chumpy."):
            return Chumpy
        found = _BY_NAME.get((module, name))
        if found is None:
            shown = "".join(letter if letter.isprintable() else "?" for letter in f"{module}.{name}")
            raise Refused(f"names {shown[:100]}")
        return found


def _watched(code: bytes, keys: slice) -> None:
    """Before an instruction that hashes, look at what it would hash: `keys` of what lies on the stack."""
    obeyed = _Unpickler.dispatch[code[0]]

    def load(reader: Any) -> None:
        only_keys(reader.stack[keys])
        obeyed(reader)

    _Unpickler.dispatch[code[0]] = load


_watched(pickle.SETITEM, slice(-2, -1))
for _code in (pickle.SETITEMS, pickle.DICT):
    _watched(_code, slice(0, None, 2))
for _code in (pickle.ADDITEMS, pickle.FROZENSET):
    _watched(_code, slice(None))


def _short(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:100]
