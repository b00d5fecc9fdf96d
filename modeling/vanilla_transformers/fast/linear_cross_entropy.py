"""The loss of a projection to the vocabulary without its logits.

Of N targets and V tokens, the logits (N, V), their copy in fp32 and the gradients of both are the largest tensors of a
training step. Without them a step takes less memory, and less time where vocabulary and batch are large: the gradient
is made in the forward pass, some rows at a time, while their logits are in the cache (Hsu et al. 2024, "Liger Kernel",
fused linear cross entropy).
"""

import math

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from vanilla_transformers.fast.linear import linear
from vanilla_transformers.fast.untouched import is_untouched_module
from vanilla_transformers.model.losses import IGNORE_INDEX, cross_entropy_loss, flat_labels, loss_divisor, out_of_range

# Logits at a time: as many as the caches of a CPU hold, and enough to keep a GPU busy.
CPU_CHUNK_SIZE = 2**21
GPU_CHUNK_SIZE = 2**26
MIN_ROWS = 256  # fewer are no work for a matrix product
CPU_BLOCK_BYTES = 2**25
"""Errors that become gradients together: each time the gradient of the weights is read and written once more."""
_SURE = 1e-30  # a probability that is no smaller has all its digits in fp32


def linear_cross_entropy_loss(
    projection: nn.Module,
    hidden_states: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """`cross_entropy_loss(projection(hidden_states), labels, ...)` without the logits in whole.

    Where `projection` is more than an `nn.Linear` with weights of its own (adapted, hooked, sharded or compiled), the
    logits are computed after all. There are no second derivatives.
    """
    if (
        torch.compiler.is_compiling()
        or not isinstance(projection, nn.Linear)
        or not is_untouched_module(projection, projection.weight.dtype)
    ):
        return cross_entropy_loss(projection(hidden_states), labels, num_items_in_batch, label_smoothing)
    device = hidden_states.device
    labels = flat_labels(labels, hidden_states.shape[:-1]).to(device)
    vectors = hidden_states.reshape(-1, hidden_states.shape[-1])
    is_target = labels.ne(IGNORE_INDEX)
    num_targets = is_target.sum()
    if device.type == "cpu":  # elsewhere their number would have to be waited for
        if num_targets < len(labels):
            rows = is_target.nonzero().squeeze(1)
            vectors, labels = vectors.index_select(0, rows), labels[rows]
        if len(labels) and not 0 <= labels.min() <= labels.max() < projection.out_features:
            raise out_of_range(labels, projection.out_features)
    dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else hidden_states.dtype
    arguments = [vectors, projection.weight, projection.bias]
    if not torch.is_grad_enabled():
        arguments = [tensor if tensor is None else tensor.detach() for tensor in arguments]
    divisor = loss_divisor(num_targets, num_items_in_batch, device)
    return _LinearCrossEntropy.apply(*arguments, labels, divisor, label_smoothing, dtype)


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of the cross entropies of `vectors @ weight.T + bias`, divided by a number; its gradient is made with it."""

    @staticmethod
    def forward(ctx, vectors, weight, bias, labels, divisor, label_smoothing, dtype):
        """(N, D), (V, D), (V,) or `None`, (N,) and () -> scalar in fp32."""
        ctx.dtypes = vectors.dtype, weight.dtype, weight.dtype  # a bias has that of its weight
        needed = ctx.needs_input_grad[:3]
        is_target = labels.ne(IGNORE_INDEX).unsqueeze(1)  # (N, 1)
        tokens = labels.clamp(min=0).unsqueeze(1)
        with torch.autocast(vectors.device.type, enabled=False):
            weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
            vectors = vectors.to(dtype) * is_target  # so that other rows have no part in the gradient of the weights
            total = torch.zeros((), dtype=torch.float32, device=vectors.device)
            grads = [torch.empty_like(vectors, dtype=torch.float32) if needed[0] else None, None, None]
            for block in _blocks(len(vectors), weight):
                errors = weight.new_empty(block.stop - block.start, len(weight)) if any(needed) else None
                for rows in _chunks(block, weight):
                    room = None if errors is None else errors[rows.start - block.start : rows.stop - block.start]
                    of_rows = vectors[rows], weight, bias, tokens[rows], is_target[rows]
                    total += _sum_of_losses(*of_rows, label_smoothing, room)
                if errors is not None:
                    _add_gradients(grads, needed, errors, vectors, weight, block, is_target)
                    del errors, room  # before there is another block of them
            for number, tensor in enumerate((vectors, weight, bias)):
                if needed[number] and grads[number] is None:  # there was no row
                    grads[number] = torch.zeros_like(tensor, dtype=torch.float32)
            loss = _smooth_and_divide(total, grads, divisor, vectors, weight, bias, label_smoothing, is_target)
        ctx.save_for_backward(*grads)
        ctx.is_given = False
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """What `forward` made, multiplied by the gradient of the loss unless that is 1."""
        grads = ctx.saved_tensors
        # On other devices the answer would have to be waited for. In a graph that is kept, gradients are given once.
        if grad.device.type != "cpu" or grad != 1 or ctx.is_given:
            # In fp32: a loss that was scaled for fp16 may be beyond its range.
            grads = [None if each is None else each * grad for each in grads]
        ctx.is_given = True
        found = (None if each is None else each.to(dtype) for each, dtype in zip(grads, ctx.dtypes, strict=True))
        return *found, None, None, None, None


def _sum_of_losses(vectors, weight, bias, tokens, is_target, label_smoothing, errors) -> torch.Tensor:
    """The losses of some rows without what depends on the mean logit; writes the errors (C, V) where there is room."""
    logits = linear(vectors, weight, bias)
    in_place = errors is not None and errors.dtype == torch.float32
    probs = torch.softmax(logits, 1, dtype=torch.float32, out=errors if in_place else None)
    targets = logits.gather(1, tokens).float()
    log_probs = _target_log_probs(logits, probs, targets, tokens)
    if errors is not None:
        probs.scatter_add_(1, tokens, log_probs.new_full(log_probs.shape, label_smoothing - 1.0))
        if not in_place:
            errors.copy_(probs)
    return ((label_smoothing * targets - log_probs) * is_target).sum()


def _target_log_probs(logits, probs, targets, tokens) -> torch.Tensor:
    """Log-probabilities (C, 1) of tokens (C, 1), whose logits are `targets`."""
    found = probs.gather(1, tokens)
    if found.device.type == "cpu" and found.min() > _SURE:  # elsewhere the answer would have to be waited for
        return found.log()
    # The largest logit and the largest probability, which never is 0, tell the logarithm of the sum.
    return targets - logits.amax(1, keepdim=True).float() + probs.amax(1, keepdim=True).log()


def _add_gradients(grads, needed, errors, vectors, weight, rows, is_target) -> None:
    """Adds what the errors (N, V) of some rows make of the gradients of vectors, weight and bias, where needed."""
    if needed[0]:
        grads[0][rows] = linear(errors, weight.T)
    if needed[1]:
        grads[1] = _plus(grads[1], linear(errors.T, vectors[rows].T))
    if needed[2]:
        grads[2] = _plus(grads[2], (errors * is_target[rows]).sum(0, dtype=torch.float32))


def _plus(total: torch.Tensor | None, term: torch.Tensor) -> torch.Tensor:
    return term.float() if total is None else total.add_(term)


def _smooth_and_divide(total, grads, divisor, vectors, weight, bias, label_smoothing, is_target) -> torch.Tensor:
    """The loss: takes the smoothed share of the mean logit of each target off, and divides; `grads` likewise.

    The mean is linear, so that its gradient is the same for every row, or for every token: nothing of the size of the
    logits is touched, and the largest gradient once.
    """
    vectors_grad, weight_grad, bias_grad = grads
    scale = 1 / divisor.float()
    if label_smoothing:
        sum_of_vectors, mean_weight = vectors.sum(0, dtype=torch.float32), weight.mean(0, dtype=torch.float32)
        total -= label_smoothing * (sum_of_vectors @ mean_weight)
        if bias is not None:
            total -= label_smoothing * is_target.sum() * bias.mean(dtype=torch.float32)
        if vectors_grad is not None:
            vectors_grad -= label_smoothing * mean_weight
        if weight_grad is not None:
            each_token = sum_of_vectors * (-label_smoothing / len(weight) * scale)
            torch.addcmul(each_token, weight_grad, scale, out=weight_grad)
        if bias_grad is not None:
            bias_grad -= label_smoothing / len(weight) * is_target.sum()
    if vectors_grad is not None:
        vectors_grad *= is_target * scale
    if bias_grad is not None:
        bias_grad *= scale
    if weight_grad is not None and not label_smoothing:
        weight_grad *= scale
    return total / divisor


def _blocks(num_rows: int, weight: torch.Tensor) -> list[slice]:
    """The rows whose errors are held at a time."""
    if weight.device.type != "cpu":
        return _equal_slices(0, num_rows, GPU_CHUNK_SIZE // len(weight))
    return _equal_slices(0, num_rows, CPU_BLOCK_BYTES // (len(weight) * weight.element_size()))


def _chunks(block: slice, weight: torch.Tensor) -> list[slice]:
    """The rows of a block whose logits are held at a time."""
    size = CPU_CHUNK_SIZE if weight.device.type == "cpu" else GPU_CHUNK_SIZE
    return _equal_slices(block.start, block.stop, size // len(weight))


def _equal_slices(start: int, stop: int, most: int) -> list[slice]:
    """Parts with about as many rows as each other, so that memory and kernels serve again."""
    num_slices = max(1, math.ceil((stop - start) / max(MIN_ROWS, most)))
    size = max(1, math.ceil((stop - start) / num_slices))
    return [slice(first, min(first + size, stop)) for first in range(start, stop, size)]
