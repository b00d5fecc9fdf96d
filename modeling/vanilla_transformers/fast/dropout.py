"""Dropout (Srivastava et al. 2014) in a quarter of torch's time on a CPU (benchmarks/dropout.py).

On a CPU torch draws one random number for each element, in one thread: a fifth of the training step of a small model.
Here one 64-bit random number of the same generator decides about four elements.

State: each thread can have its own generator, set by `drawing_from`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_NUM_LEVELS = 2**16
"""Number of values of a 16-bit random number. Dropout probabilities are rounded to multiples of 1 / 2^16."""

_of_thread = threading.local()


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Context in which dropout on a CPU draws from `generator` in this thread.

    Other threads draw from torch's default generator. If threads shared a generator, the order of their draws, and so
    the numbers, would differ from run to run.
    """
    before = getattr(_of_thread, "generator", None)
    _of_thread.generator = generator
    try:
        yield
    finally:
        _of_thread.generator = before


def apply_dropout(states: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """Set elements to zero with probability `p` and scale the others by 1 / (1 - p); any shape.

    On a CPU `p` is rounded to a multiple of 2^-16, also in the scale, so the expectation is exact. Compiled code and
    other devices use torch's own kernels.
    """
    num_dropped = round(p * _NUM_LEVELS)
    is_plain = type(states) is torch.Tensor and states.device.type == "cpu" and not torch.compiler.is_compiling()
    if not (training and is_plain and 0 < num_dropped < _NUM_LEVELS):
        return nn.functional.dropout(states, p, training)
    generator = getattr(_of_thread, "generator", None)
    draws = torch.empty(-(-states.numel() // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    draws = draws.view(torch.int16)
    draws = draws[: states.numel()].view(states.shape)
    # The in-place comparison gives integers (0 and 1), which are converted to floats faster than booleans are.
    keep = draws.ge_(num_dropped - _NUM_LEVELS // 2).to(states.dtype)
    return states * keep.mul_(_NUM_LEVELS / (_NUM_LEVELS - num_dropped))
