"""What is kept between steps on a CPU, in processes of their own: it cannot be undone in one."""

import os
import platform
import subprocess
import sys

import pytest

from vanilla_recipes.processes import cpu_memory as cpu

BLOCK = 2**26
KNOWN = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "ONEDNN_")
PAGE_FAULTS_A_BLOCK = """
import ctypes, os, resource, runpy, sys
if sys.argv[1] == "keep":
    runpy.run_path(sys.argv[3])["keep_memory_and_kernels"]()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def use(size):
    block = libc.malloc(size)
    ctypes.memset(ctypes.c_void_p(block), 1, size)
    libc.free(block)
size = int(sys.argv[2])
use(size)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use(size)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 5)
print(os.environ.get("ONEDNN_PRIMITIVE_CACHE_CAPACITY"))
"""


def page_faults(mode: str, **environment: str) -> tuple[float, str]:
    """Page faults of each use of a block that was used before, and how many kernels oneDNN is told to keep."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(KNOWN)}
    done = subprocess.run(
        [sys.executable, "-c", PAGE_FAULTS_A_BLOCK, mode, str(BLOCK), cpu.__file__],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    faults, kernels = done.stdout.split()
    return float(faults), kernels


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_is_not_given_back_between_steps():
    num_pages = BLOCK // os.sysconf("SC_PAGE_SIZE")
    assert page_faults("as-it-is") == (pytest.approx(num_pages, rel=0.1), "None")
    faults, kernels = page_faults("keep")
    assert faults < 0.01 * num_pages
    assert int(kernels) > 1024  # what oneDNN keeps unasked


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_what_the_environment_says_is_left_alone():
    settings = {"MALLOC_MMAP_THRESHOLD_": "65536", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7"}
    faults, kernels = page_faults("keep", **settings)
    assert faults > 0.9 * BLOCK // os.sysconf("SC_PAGE_SIZE")
    assert kernels == "7"
