"""A linear layer that multiplies by the faster library of a CPU.

Shapes: M rows, K inputs, N outputs.
"""

import platform
from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

MIN_ROWS = 32
"""With fewer rows oneDNN is no faster, and it compiles a kernel for each number of them."""


class Linear(nn.Linear):
    """`nn.Linear`, whose products in fp32 may be [`linear`]'s."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., K) -> (..., N)."""
        return linear(input, self.weight, self.bias)


def linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`torch.nn.functional.linear`, on AMD's processors with AVX-512 in half the time.

    In fp32 torch multiplies by MKL, which leaves AVX-512 unused there. oneDNN, which torch has for bf16, does not.
    Whatever is not a plain tensor in fp32 on such a processor goes the usual way: other types, autocast, traced,
    compiled and exported code, sharded and quantized weights.

    Args:
        input: (..., K).
        weight: (N, K).
        bias: (N,) or `None`.
    """
    if not _is_for_onednn(input, weight):
        return nn.functional.linear(input, weight, bias)
    if not torch.is_grad_enabled():
        return _product(input, weight, bias)
    return _Linear.apply(input.flatten(0, -2), weight, bias).unflatten(0, input.shape[:-1])


class _Linear(torch.autograd.Function):
    """input @ weight.T + bias of (M, K), (N, K) and (N,) -> (M, N)."""

    @staticmethod
    def forward(ctx, input, weight, bias):
        ctx.save_for_backward(input, weight)
        return _product(input, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        input, weight = ctx.saved_tensors
        grad = grad.contiguous()
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad
        # These are products of the same kind, so there are derivatives of any order.
        return (
            _Linear.apply(grad, weight.t(), None) if needs_input else None,
            _Linear.apply(grad.t(), input.t(), None) if needs_weight else None,
            grad.sum(0) if needs_bias else None,
        )


def _product(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")


def _is_for_onednn(input: torch.Tensor, weight: torch.Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and _onednn_is_faster()
        and type(input) is torch.Tensor
        and type(weight) in (torch.Tensor, nn.Parameter)
        and input.dtype == weight.dtype == torch.float32
        and input.device.type == weight.device.type == "cpu"
        and input.ndim > 1
        and input.numel() >= MIN_ROWS * input.shape[-1] > 0
        and weight.shape[1] == input.shape[-1]
        and not hasattr(weight, "ds_id")  # DeepSpeed's third stage follows the usual function
        and not torch.is_autocast_enabled("cpu")
        and _get_current_dispatch_mode() is None
        and torch._C._functorch.peek_interpreter_stack() is None
    )


@cache
def _onednn_is_faster() -> bool:
    has_product = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has_product and torch.backends.cpu.get_cpu_capability() == "AVX512" and "AuthenticAMD" in _vendor()


def _vendor() -> str:
    """Who made the processor, among other words."""
    described = Path("/proc/cpuinfo")
    return described.read_text() if described.is_file() else platform.processor()
