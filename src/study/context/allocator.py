"""Settings of the memory allocator that trainings on a CPU gain from."""

import ctypes


def keep_freed_memory() -> None:
    """Let glibc reuse large tensors: handed back to the kernel at every step, they cost a seventh of a training."""
    trim_threshold, mmap_threshold = -1, -3  # names of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return  # another C library
    mallopt(mmap_threshold, 1 << 25)  # the largest value it takes
    mallopt(trim_threshold, (1 << 31) - 1)
