"""What real files hold beside their arrays is read; a file can change nothing of ours and multiply nothing it holds."""

from __future__ import annotations

import pickle
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csc_matrix

from headstudio.errors import UserError
from headstudio.head import pickle_parts, safe_pickle
from headstudio.head.safe_pickle import load_pickle

DOUBLES = b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
EMPTY_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "file.pkl"
    path.write_bytes(content)
    return path


def test_a_leaf_of_chumpy_with_all_that_flames_carry(tmp_path: Path) -> None:
    """`shapedirs` as cPickle wrote it: chumpy keeps a set, a flag and its dependencies beside the array."""
    raw = struct.pack("<2d", 0.5, -3.0)
    content = (
        b"\x80\x02}U\x09shapedirscchumpy.ch\nCh\n)\x81}("
        b"U\x0b_dirty_varsc__builtin__\nset\n]U\x01xa\x85RU\x04_itrNU\x10_depends_on_deps}U\x0b_make_dense\x89"
        b"U\x01x" + EMPTY_ARRAY + b"(K\x01K\x02\x85" + DOUBLES + b"\x89U\x10" + raw + b"tbubs."
    )
    assert_array_equal(load_pickle(written(tmp_path, content))["shapedirs"], [0.5, -3.0])


def test_a_chumpy_expression_without_a_value_is_none(tmp_path: Path) -> None:
    """SMPL's files hold sums among their arrays; the arrays must be readable all the same."""
    content = b"\x80\x02}U\x06v_posecchumpy.ch_ops\nadd\n)\x81}U\x01aNsbs."
    assert load_pickle(written(tmp_path, content)) == {"v_pose": None}


def test_the_text_protocol_of_python_2(tmp_path: Path) -> None:
    """Its strings are bytes with escapes, beyond ASCII too."""
    content = (
        b"(dp0\nS'x'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\nRp7\n"
        b"(I1\n(I1\ntp8\ncnumpy\ndtype\np9\n(S'f8'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nb"
        b"I00\nS'\\x00\\x00\\x00\\x00\\x00\\x00\\xf8?'\np15\ntp16\nbs."
    )
    assert_array_equal(load_pickle(written(tmp_path, content))["x"], [1.5])


@pytest.mark.parametrize("name", sorted(safe_pickle._BY_NAME))
@pytest.mark.parametrize("state", [b"}U\x08__call__Ns", b"N}U\x0c__defaults__U\x01xs\x86", b"N}U\x08__init__Ns\x86"])
def test_nothing_that_a_file_names_can_be_changed_by_it(tmp_path: Path, name: tuple[str, str], state: bytes) -> None:
    found = safe_pickle._BY_NAME[name]
    before = {key: getattr(found, key, None) for key in ("__init__", "__call__", "__defaults__", "_function")}
    call = "c{}\n{}\n".format(*name).encode()
    with pytest.raises(UserError):
        load_pickle(written(tmp_path, b"\x80\x02" + call + state + b"b."))
    assert {key: getattr(found, key, None) for key in before} == before
    for held in vars(pickle_parts).values():
        assert not getattr(held, "__defaults__", None) or "x" not in held.__defaults__


def peak_of(path: Path) -> tuple[Any, int]:
    """What the file holds, and the bytes that reading it took at most."""
    tracemalloc.start()
    try:
        return load_pickle(path), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_one_text_used_a_hundred_times_is_in_memory_once(tmp_path: Path) -> None:
    size, times = 200_000, 100
    text = b"T" + struct.pack("<i", size) + b"a" * size + b"q\x00"
    shape = b"(K\x01J" + struct.pack("<i", size) + b"\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R\x89h\x00tb"
    arrays = b"\x80\x02(" + text + b"0](" + (EMPTY_ARRAY + shape) * times + b"e."
    found, peak = peak_of(written(tmp_path, arrays))
    assert (len(found), len(found[0])) == (times, size)
    assert peak < 12 * size
    encoded = b"\x80\x02(" + text + b"0](" + b"c_codecs\nencode\nh\x00U\x06latin1\x86R" * times + b"e."
    found, peak = peak_of(written(tmp_path, encoded))
    assert found == [b"a" * size] * times
    assert peak < 12 * size


# A list of two lists that are one, thirty times over: a billion lists for whoever writes them out.
BILLION = b"]q\x000" + b"".join(b"](h%ch%ceq%c0" % (i, i, i + 1) for i in range(30)) + b"h\x1e"


@pytest.mark.parametrize(
    "content",
    [
        b"cchumpy.ch\nCh\n)\x81}U\x01x" + BILLION + b"sb",
        b"cnumpy\ndtype\n" + BILLION + b"\x85R",
        b"c_codecs\nencode\n" + BILLION + b"\x85R",
        b"cscipy.sparse.csc\ncsc_matrix\n)\x81}(U\x06_shapeK\x01K\x01\x86U\x04data" + BILLION + b"ub",
    ],
)
def test_a_list_of_a_billion_is_not_written_out(tmp_path: Path, content: bytes) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match=r"where numbers belong|array of the type|something else than bytes"):
        load_pickle(written(tmp_path, b"\x80\x02" + content + b"."))
    assert time.monotonic() - start < 5


def test_many_sparse_matrices_share_one_allowance(tmp_path: Path) -> None:
    side = int((pickle_parts.MOST_MADE / 4) ** 0.5)
    matrices = [csc_matrix((side, side), dtype=np.int8) for _ in range(6)]
    with pytest.raises(UserError, match="makes more numbers than it holds"):
        load_pickle(written(tmp_path, pickle.dumps(matrices)))
    assert load_pickle(written(tmp_path, pickle.dumps(matrices[:1])))[0].shape == (side, side)


def test_a_name_with_control_characters_is_shown_without_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"names os\?\?\[31m.system") as refused:
        load_pickle(written(tmp_path, b"\x80\x04\x8c\x08os\n\x1b[31m\x8c\x06system\x93."))
    assert "\n" not in str(refused.value)
