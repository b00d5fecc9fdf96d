"""Makes steps on a CPU faster without changing what they compute."""

import ctypes
import os
import sys

# mallopt's parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGE = 2**30
_HEAP = 2**26  # the most that a heap of another thread than the first holds


def keep_memory_and_kernels() -> None:
    """Has this process keep the memory and the kernels that every step needs again.

    glibc returns large blocks to the system when they are freed, and gets them back a page at a time, cleared: a tenth
    of a step. oneDNN compiles a kernel for each shape and keeps 1,024; batches of text have more shapes than that.

    What the environment says about either is left alone.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "2048")  # read at the first use; some 0.7 MB each
    is_set = any(name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD") for name in os.environ)
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" and not is_set else None
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _LARGE)
        set_option(_M_TRIM_THRESHOLD, _LARGE)
        set_option(_M_TOP_PAD, _HEAP)  # heaps of other threads heed this one alone, and are returned otherwise
