"""How the CPU renderer compiles and shares out its kernels: numba, a cache on disk, plain Python threads.

Kernels release the GIL, so ordinary threads run them side by side. numba's own thread pools would compile slower,
bring a process-wide choice of threading layer, and break when two threads or a forked child enter them.
"""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba

_config: Any = numba.config  # its fields are set at run time, unknown to type checkers
_PARTS_PER_THREAD = 4  # several, so that a thread that is held up leaves work to the others


def kernel(function: Callable[..., None]) -> Any:
    """Compile what Python calls. The code is cached beside its source, else for the user, else in a temporary folder.

    The cache notices edits of the kernel's own file only: a kernel and what it inlines live in one file, and who
    edits `simd` or the constants of `headstudio.render` deletes `__pycache__`.
    """
    try:
        return numba.njit(function, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:  # "no locator available": install and home are both read-only
        _config.CACHE_DIR = os.path.join(tempfile.gettempdir(), f"headstudio-numba-{os.getuid()}")
        return numba.njit(function, cache=True, nogil=True, error_model="numpy")


def inlined(function: Callable[..., Any]) -> Any:
    """Compile what only kernels call."""
    return numba.njit(function, error_model="numpy")


def available_threads() -> int:
    """Cores this process may use; `NUMBA_NUM_THREADS` lowers it."""
    return int(_config.NUMBA_NUM_THREADS)


def spread(kernel: Callable[..., None], count: int, threads: int, *args: Any) -> None:
    """Run `kernel(first, end, *args)` over consecutive parts of range(count) with so many threads.

    Kernels write each result from one place only, so who computes which part makes no difference.
    """
    if threads == 1 or count <= 1:
        kernel(0, count, *args)
        return
    parts = min(count, threads * _PARTS_PER_THREAD)
    ticket = itertools.count()

    def work() -> None:
        while (part := next(ticket)) < parts:
            kernel(count * part // parts, count * (part + 1) // parts, *args)

    helpers = [_pool(threads - 1).submit(work) for _ in range(threads - 1)]
    work()
    for helper in helpers:
        helper.result()


@functools.cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="render")


# A forked child has the pools' records but not their threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
