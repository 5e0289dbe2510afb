"""What a run needed of the machine."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

import torch


class PeakMemory:
    """The most memory that was in use since this object was made."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM (Linux, man 5 proc)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def gigabytes(self) -> float:
        """Resident memory of this process, or the GPU's where one is used (10^9 bytes)."""
        if torch.cuda.is_initialized():
            return round(torch.cuda.max_memory_allocated() / 1e9, 3)
        try:
            for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
                if line.startswith("VmHWM:"):
                    return round(int(line.split()[1]) * 1024 / 1e9, 3)
        except OSError:
            pass
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e9, 3)
