"""One short script for each DVC stage: read declared params, call the library, write outs.

The settings here must stand before torch is imported, and the package is taken from this checkout's own
`src`, so that a temporary DVC experiment runs its own snapshot of the code.
"""

import ctypes
import os
import sys
from pathlib import Path

# Idle OpenMP threads that spin slow a busy machine down many times over.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))


def _keep_freed_memory() -> None:
    """Let glibc reuse large tensors: handed back to the kernel at every step, they cost a seventh of a training."""
    trim_threshold, mmap_threshold = -1, -3  # names of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return  # another C library
    mallopt(mmap_threshold, 1 << 25)  # the largest value it takes
    mallopt(trim_threshold, (1 << 31) - 1)


_keep_freed_memory()
