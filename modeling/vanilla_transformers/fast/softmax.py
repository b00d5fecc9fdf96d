"""Softmax of attention scores, faster on a CPU if rows are shorter than a vector register."""

from functools import cache

import torch
from torch import nn


def softmax(scores: torch.Tensor) -> torch.Tensor:
    """Softmax in fp32 over the keys of scores (..., S).

    On a CPU, rows with fewer keys than a vector register has lanes are padded to that number: torch computes shorter
    rows one number at a time, which takes four to eight times as long.
    """
    num_free = _num_lanes() - scores.shape[-1]
    is_eager_on_cpu = scores.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()
    if not is_eager_on_cpu or num_free <= 0:
        return nn.functional.softmax(scores, dim=-1, dtype=torch.float32)
    filled = nn.functional.pad(scores, (0, num_free), value=-torch.inf)
    return nn.functional.softmax(filled, dim=-1, dtype=torch.float32)[..., :-num_free]


@cache
def _num_lanes() -> int:
    """Number of fp32 lanes of a vector register of this CPU."""
    return 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8
