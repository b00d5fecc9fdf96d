"""Makes training steps on a CPU faster without changing their results."""

import ctypes
import os
import sys

# mallopt's parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGE = 2**30  # bytes; glibc keeps freed blocks up to this size, and this much free memory
_HEAP = 2**26  # bytes; the maximum size of a heap of any thread but the main thread


def keep_memory_and_kernels() -> None:
    """Makes glibc keep freed memory, and oneDNN cache more compiled kernels.

    By default, glibc returns large freed blocks to the system. Allocating them again takes a tenth of a training step,
    because the system provides and clears each page anew. oneDNN compiles a kernel for each tensor shape and caches
    1,024 kernels; batches of text have more shapes.

    Settings of glibc's malloc or of oneDNN in the environment take precedence.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "2048")  # read on oneDNN's first use; 0.7 MB per kernel
    is_set = any(name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD") for name in os.environ)
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" and not is_set else None
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _LARGE)
        set_option(_M_TRIM_THRESHOLD, _LARGE)
        set_option(_M_TOP_PAD, _HEAP)  # only this option keeps the heaps of threads other than the main thread
