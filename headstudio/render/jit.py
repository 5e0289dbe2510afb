"""How the CPU renderer compiles: numba, cached between processes, one lock around its thread pool."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from typing import Any

import numba

# numba's own small pool: it needs no OpenMP library of the system, survives a fork, and leaves torch's OpenMP
# threads alone. It must not be entered by two Python threads at once, hence the lock.
if "NUMBA_THREADING_LAYER" not in os.environ:
    numba.config.THREADING_LAYER = "workqueue"
LAUNCH = threading.RLock()


def compiled(parallel: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """numba.njit with a cache on disk: beside this file, else the user's cache folder, else a temporary folder."""

    def decorate(function: Callable[..., Any]) -> Any:
        options: dict[str, Any] = {"parallel": parallel, "cache": True, "nogil": True, "error_model": "numpy"}
        try:
            return numba.njit(function, **options)
        except RuntimeError:  # "no locator available": nowhere to write, for instance a read-only install and home
            numba.config.CACHE_DIR = os.path.join(tempfile.gettempdir(), f"headstudio-numba-{os.getuid()}")
            return numba.njit(function, **options)

    return decorate
