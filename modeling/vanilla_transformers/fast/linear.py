"""Linear layers on a CPU, computed by oneDNN where it is faster than MKL.

Shapes: M rows, K inputs, N outputs.
"""

import platform
from functools import cache
from pathlib import Path

import torch
from torch import nn

from vanilla_transformers.fast.private_names import HAS_ONEDNN_LINEAR, onednn_linear, operators_are_intercepted
from vanilla_transformers.fast.untouched import is_untouched_tensor

MIN_ROWS = 32
"""Number of rows from which oneDNN is faster than MKL (measured: benchmarks/LOG.md)."""

_ROW_COUNTS_PER_OCTAVE = 8
"""Number of different row counts between a power of two and the next power. Inputs are padded to one of these row
counts, because oneDNN compiles a kernel for each row count, which takes 1 to 2 ms and 0.6 MB."""


def linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`torch.nn.functional.linear`, in half the time on AMD processors with AVX-512.

    For fp32 torch uses MKL, which does not use AVX-512 on AMD. oneDNN, which torch uses for bf16, uses AVX-512. oneDNN
    computes only products of dense fp32 tensors with at least `MIN_ROWS` rows on such a processor. torch's function
    computes all others: other dtypes, autocast, forward-mode derivatives, traced, compiled and exported code, sharded
    and quantized weights.

    Args:
        input: (..., K).
        weight: (N, K).
        bias: (N,) or `None`.
    """
    if not _is_for_onednn(input, weight, bias):
        return nn.functional.linear(input, weight, bias)
    rows = input.flatten(0, -2)
    num_rows = len(rows)
    free = row_count(num_rows) - num_rows
    if free:
        rows = nn.functional.pad(rows, (0, 0, 0, free))
    output = (_Linear.apply if torch.is_grad_enabled() else onednn_linear)(rows, weight, bias)
    if free:  # the backward pass of a slice copies all rows, so there is no slice without padding
        output = output[:num_rows]
    return output.unflatten(0, input.shape[:-1])


class _Linear(torch.autograd.Function):
    """input @ weight.T + bias of (M, K), (N, K) and (N,) -> (M, N)."""

    @staticmethod
    def forward(ctx, input, weight, bias):
        needs_input, needs_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(input if needs_weight else None, weight if needs_input else None)
        return onednn_linear(input, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        input, weight = ctx.saved_tensors
        grad = grad.contiguous()
        # The gradients are computed by `linear`, so second and higher derivatives are available.
        return (
            None if weight is None else linear(grad, weight.t()),
            None if input is None else linear(grad.t(), input.t()),
            grad.sum(0) if ctx.needs_input_grad[2] else None,
        )


def row_count(num_rows: int) -> int:
    """Round a number of rows up to the next of the row counts that `_ROW_COUNTS_PER_OCTAVE` allows."""
    step = max(1, (1 << num_rows.bit_length() - 1) // _ROW_COUNTS_PER_OCTAVE)
    return -(-num_rows // step) * step


def _is_for_onednn(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
    # The cheapest checks come first: a decoding step has many products, and nearly all of them have too few rows.
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and type(input) is torch.Tensor
        and input.ndim > 1
        and input.numel() >= MIN_ROWS * input.shape[-1] > 0
        and onednn_is_faster()
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
        and is_untouched_tensor(input, torch.float32)
        and is_untouched_tensor(weight, torch.float32)
        and input.device.type == weight.device.type == "cpu"
        and weight.ndim == 2
        and weight.shape[1] == input.shape[-1]
        and len(weight) > 0
        and (bias is None or _fits(bias, weight))
        and not operators_are_intercepted()
    )


def _fits(bias: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether oneDNN can read a bias without a copy."""
    return is_untouched_tensor(bias, torch.float32) and bias.shape == weight.shape[:1] and bias.is_contiguous()


@cache
def onednn_is_faster() -> bool:
    """Whether oneDNN multiplies fp32 faster than MKL, which torch uses: on AMD with AVX-512."""
    has_product = torch.backends.mkldnn.is_available() and HAS_ONEDNN_LINEAR
    return has_product and torch.backends.cpu.get_cpu_capability() == "AVX512" and "AuthenticAMD" in _vendor()


def _vendor() -> str:
    """A text that contains the vendor of the processor."""
    described = Path("/proc/cpuinfo")
    return described.read_text() if described.is_file() else platform.processor()
