"""Pickles are read without obeying them: the same arrays as pickle's own, and nothing that a hostile file asks for."""

from __future__ import annotations

import functools
import io
import operator
import os
import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csc_matrix, csr_matrix

from headstudio.errors import UserError
from headstudio.head.safe_pickle import load_pickle


def written(tmp_path: Path, content: Any, protocol: int = 2) -> Path:
    path = tmp_path / "file.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_back_as_pickles_own_reader_has_them(tmp_path: Path, protocol: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "rows": rng.normal(size=(3, 4, 2)),
        "columns": np.asfortranarray(rng.normal(size=(3, 4)).astype(np.float32)),
        "big endian": rng.integers(0, 9, 5).astype(">u4"),
        "view": rng.normal(size=(6, 4))[::2],
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3)),
        "words": np.array(["a", "bc"]),
    }
    content = {
        **arrays,
        "scalar": np.float64(2.5),
        "text": "é",
        "nested": [(1, 2.0), {"deep": arrays["rows"]}],
        "none": None,
    }
    path = written(tmp_path, content, protocol)
    expected, found = pickle.loads(path.read_bytes()), load_pickle(path)
    for name in arrays:
        assert found[name].dtype.newbyteorder("=") == expected[name].dtype.newbyteorder("=")
        assert_array_equal(found[name], expected[name])
    assert_array_equal(found["nested"][1]["deep"], expected["rows"])
    assert (found["scalar"], found["text"], found["none"]) == (2.5, "é", None)
    assert found["nested"][0] == (1, 2.0)


@pytest.mark.parametrize("kind", [csc_matrix, csr_matrix])
def test_sparse_matrices_become_dense(tmp_path: Path, kind: Callable[[Any], Any]) -> None:
    dense = np.random.default_rng(1).normal(size=(5, 40)) * (np.random.default_rng(2).random((5, 40)) < 0.1)
    assert_array_equal(load_pickle(written(tmp_path, {"m": kind(dense)}))["m"], dense)


def chumpy_bytes(monkeypatch: pytest.MonkeyPatch, name: str, state: dict[str, Any]) -> bytes:
    """What Python 2 wrote for a chumpy object: its class by name and its attributes."""
    module = ModuleType("chumpy.ch")
    kind = type(name, (), {"__module__": "chumpy.ch", "__qualname__": name})
    setattr(module, name, kind)
    monkeypatch.setitem(sys.modules, "chumpy", ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    instance = kind()
    instance.__dict__.update(state)
    return pickle.dumps({"value": instance}, protocol=2)


def test_chumpys_arrays_and_selections_are_their_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).normal(size=(4, 3))
    path = written(tmp_path, chumpy_bytes(monkeypatch, "Ch", {"x": values, "_dirty_vars": set()}))
    assert_array_equal(load_pickle(path)["value"], values)
    picked = {"a": values, "idxs": np.array([1, 5, 7, 2]), "preferred_shape": (2, 2)}
    path = written(tmp_path, chumpy_bytes(monkeypatch, "Select", picked))
    assert_array_equal(load_pickle(path)["value"], values.ravel()[[1, 5, 7, 2]].reshape(2, 2))


def test_what_python_2_wrote(tmp_path: Path) -> None:
    """Strings of bytes as names and as the content of arrays (protocol 0 to 2 of Python 2)."""
    raw = struct.pack("<2d", 1.5, -2.0)
    content = (
        b"\x80\x02}U\x01xcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U" + bytes([len(raw)]) + raw + b"tbs."
    )
    assert_array_equal(load_pickle(written(tmp_path, content))["x"], [1.5, -2.0])


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


TOUCH = "import pathlib; pathlib.Path('touched').touch()"
HOSTILE: dict[str, Any] = {
    "os.system": Calls(os.system, "touch touched"),
    "eval": Calls(eval, f"exec({TOUCH!r})"),
    "exec": Calls(exec, TOUCH),
    "import": Calls(__import__, "antigravity"),
    "getattr chain": Calls(getattr, Calls(__import__, "os"), "system"),
    "partial": Calls(functools.partial, os.system, "touch touched"),
    "reduce": Calls(functools.reduce, operator.add, [[1], [2]]),
    "attrgetter": Calls(operator.attrgetter, "system"),
    "methodcaller": Calls(operator.methodcaller, "system", "touch touched"),
    "numpy load": Calls(np.load, "file.npy"),
    "numpy fromfile": Calls(np.fromfile, "/etc/passwd"),
    "numpy memmap": Calls(np.memmap, "touched", "u1", "w+", 0, (4,)),
    "open": Calls(open, "touched", "w"),
    "bytes": Calls(bytes, 10**12),
    "bytearray": Calls(bytearray, 10**12),
    "bytes of python 2": b"c__builtin__\nbytes\n(I1000000000000\ntR.",
    "runner of numpy's tests": b"cnumpy.testing._private.utils\nrunstring\n(S'1'\n(dtR.",
    "attribute of an allowed module": b"cnumpy\nndarray.tofile\n.",
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x14core.multiarray.open\x93.",
    "another codec": b"c_codecs\nencode\n(S'YQ=='\nS'base64'\ntR.",
    "change of a class": b"cnumpy\nndarray\n}S'__setstate__'\nS'x'\nsb.",
    "change of a class by slots": b"cnumpy\nndarray\n(N}S'x'\nS'y'\nstb.",
    "change of a function": b"cnumpy.core.multiarray\nscalar\n}S'__code__'\nS'x'\nsb.",
    "new object of a function": b"\x80\x02c_codecs\nencode\n)\x81.",
    "persistent id": b"Pos\n.",
    "extension": b"\x82\x01.",
    "giant index": b"\x80\x02}r\xff\xff\xff\x7f.",
    "giant index in text": b"}p99999999999\n.",
    "giant frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
    "giant string": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "giant array": Calls(
        np.zeros(1).__reduce__()[0], np.ndarray, (0,), b"b", state=(1, (10**12,), np.dtype("f8"), False, b"")
    ),
    "negative array": Calls(
        np.zeros(1).__reduce__()[0], np.ndarray, (0,), b"b", state=(1, (-1, -8), np.dtype("f8"), False, b"")
    ),
    "giant type": Calls(np.dtype, "S999999999999"),
    "type of fields": Calls(np.dtype, [("a", "f8", (10**6, 10**6))]),
    "key nested deeply": b"\x80\x02})" + b"\x85" * 1_000_000 + b"Ns.",
    "key nested deeply of several": b"\x80\x02}()" + b"\x85" * 1_000_000 + b"Nu.",
    "key nested deeply of a dict": b"\x80\x02()" + b"\x85" * 1_000_000 + b"Nd.",
    "key doubled": b"\x80\x02})" + b"q\x01h\x01\x86" * 60 + b"Ns.",
    "key of an ordered dict": b"\x80\x02ccollections\nOrderedDict\n](])" + b"q\x01h\x01\x86" * 60 + b"aNaa\x85R.",
    "member of a set": b"\x80\x04\x8f()" + b"q\x01h\x01\x86" * 60 + b"\x90.",
    "member of a frozen set": b"\x80\x04()" + b"q\x01h\x01\x86" * 60 + b"\x91.",
    "nested without end": b"(" * 3 + b"]" * 1 + b"(" * 100_000 + b"t" * 100_000 + b".",
}


def bytes_of(content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    stream = io.BytesIO()
    pickle.Pickler(stream, protocol=2).dump({"v_template": content})
    return stream.getvalue()


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_file_is_refused_and_does_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, bytes_of(HOSTILE[name]))
    with pytest.raises(UserError) as refused:
        load_pickle(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file.pkl"]


def test_the_touching_files_would_have_worked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would notice: pickle's own reader obeys these."""
    for name in ("os.system", "eval", "exec", "open", "numpy memmap"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        pickle.loads(bytes_of(HOSTILE[name]))
        assert (folder / "touched").exists(), name


def test_a_sparse_matrix_may_not_fill_the_memory_nor_point_outside(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="makes more numbers than it holds"):
        load_pickle(written(tmp_path, csc_matrix((10**6, 10**6))))
    wrong = csc_matrix(np.eye(4))
    wrong.indices = wrong.indices + 100
    with pytest.raises(UserError, match="no pickle of arrays"):
        load_pickle(written(tmp_path, wrong))


def test_damage_is_told_in_one_sentence(tmp_path: Path) -> None:
    whole = pickle.dumps({"v": np.zeros((50, 3))}, protocol=2)
    for end in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        with pytest.raises(UserError, match=r"no pickle of arrays, or it is cut off"):
            load_pickle(written(tmp_path, whole[:end]))
    with pytest.raises(UserError, match="cannot be read"):
        load_pickle(tmp_path / "absent.pkl")
    with pytest.raises(UserError, match="no pickle"):
        load_pickle(written(tmp_path, b"<html>Sign in to download</html>"))


def test_what_holds_itself_ends(tmp_path: Path) -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert load_pickle(written(tmp_path, loop)) == [1, None]
