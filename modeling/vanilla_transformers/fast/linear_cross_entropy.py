"""Cross entropy of a projection to the vocabulary, without storing all logits (fused linear cross entropy).

For N targets and V tokens, the logits (N, V), their fp32 copy and the gradients of both are the largest tensors of a
training step. Here the gradient is computed in the forward pass, a chunk of rows at a time, while the logits of the
chunk are in the cache (Hsu et al. 2024, "Liger Kernel"). This saves memory, and time if vocabulary and batch are large.

Shapes: N targets, D width, V vocabulary, C rows of a chunk.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from vanilla_transformers.fast.linear import linear
from vanilla_transformers.fast.untouched import is_untouched_module
from vanilla_transformers.model.losses import IGNORE_INDEX, cross_entropy_loss, flat_labels, loss_divisor, out_of_range

# Number of logits in a chunk. On a CPU, a chunk fits into the cache of a core. On a GPU, a chunk is large enough to
# keep the GPU busy (measured: benchmarks/LOG.md).
CPU_CHUNK_SIZE = 2**21
GPU_CHUNK_SIZE = 2**26
MIN_ROWS = 256  # minimum number of rows of a chunk; with fewer rows, matrix products are inefficient
CPU_BLOCK_BYTES = 2**25
"""Bytes of logit gradients that are turned into parameter gradients at once. Each block of this size reads and writes
the whole weight gradient once."""
_SURE = 1e-30  # a probability of at least this value has full fp32 precision


def linear_cross_entropy_loss(
    projection: nn.Module,
    hidden_states: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """`cross_entropy_loss(projection(hidden_states), labels, ...)` without storing all logits.

    If `projection` is not an untouched `nn.Linear` (adapted, hooked, sharded or compiled), the logits are computed and
    stored. A backward pass with `create_graph=True` computes and stores them too.
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
    if device.type == "cpu":  # on a GPU, reading num_targets would wait for the GPU
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
    """Sum of the cross entropies of `vectors @ weight.T + bias`, divided by `divisor`, and its gradient."""

    @staticmethod
    def forward(ctx, vectors, weight, bias, labels, divisor, label_smoothing, dtype):
        """Vectors (N, D), weight (V, D), bias (V,) or `None`, labels (N,), divisor () -> scalar in fp32."""
        inputs = vectors, weight, bias, labels, divisor
        ctx.dtypes = vectors.dtype, weight.dtype, weight.dtype  # a bias has the dtype of its weight
        ctx.settings = label_smoothing, dtype
        needed = ctx.needs_input_grad[:3]
        is_target = labels.ne(IGNORE_INDEX).unsqueeze(1)  # (N, 1)
        tokens = labels.clamp(min=0).unsqueeze(1)
        with torch.autocast(vectors.device.type, enabled=False):
            weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
            vectors = vectors.to(dtype) * is_target  # rows without a target add nothing to the weight gradient
            total = torch.zeros((), dtype=torch.float32, device=vectors.device)
            grads = [torch.empty_like(vectors, dtype=torch.float32) if needed[0] else None, None, None]
            for block in _blocks(len(vectors), weight):
                errors = weight.new_empty(block.stop - block.start, len(weight)) if any(needed) else None
                for rows in _chunks(block, weight):
                    errors_of_chunk = (
                        None if errors is None else errors[rows.start - block.start : rows.stop - block.start]
                    )
                    of_rows = vectors[rows], weight, bias, tokens[rows], is_target[rows]
                    total += _sum_of_losses(*of_rows, label_smoothing, errors_of_chunk)
                if errors is not None:
                    _add_gradients(grads, needed, errors, vectors, weight, block, is_target)
                    del errors, errors_of_chunk  # frees the memory for the next block
            for number, tensor in enumerate((vectors, weight, bias)):
                if needed[number] and grads[number] is None:  # there are no rows, so no block was computed
                    grads[number] = torch.zeros_like(tensor, dtype=torch.float32)
            loss = _smooth_and_divide(total, grads, divisor, vectors, weight, bias, label_smoothing, is_target)
        ctx.save_for_backward(*grads, *inputs)
        ctx.is_given = False
        return loss

    @staticmethod
    def backward(ctx, grad):
        """The gradients that `forward` computed, multiplied by the gradient of the loss unless that is 1."""
        grads, inputs = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
        if torch.is_grad_enabled():  # by create_graph=True: these gradients will be differentiated
            return (
                *_gradients_with_graph(ctx.needs_input_grad[:3], grad, *inputs, *ctx.settings),
                None,
                None,
                None,
                None,
            )
        # On a GPU, reading `grad` would wait for the GPU. With `retain_graph=True` a second backward pass must not
        # return the same tensors.
        if grad.device.type != "cpu" or grad != 1 or ctx.is_given:
            # The product is computed in fp32, because `grad` includes the loss scale of fp16 training: the product may
            # exceed the range of fp16.
            grads = [None if each is None else each * grad for each in grads]
        ctx.is_given = True
        found = (None if each is None else each.to(dtype) for each, dtype in zip(grads, ctx.dtypes, strict=True))
        return *found, None, None, None, None


def _gradients_with_graph(needed, grad, vectors, weight, bias, labels, divisor, label_smoothing, dtype):
    """Gradients of vectors, weight and bias, where needed, that can be differentiated again; stores all logits."""
    # Views are nodes of their own. If the weight is tied, the vectors depend on it, and this path must not count here.
    vectors, weight, bias = (None if each is None else each.view_as(each) for each in (vectors, weight, bias))
    with torch.autocast(vectors.device.type, enabled=False):
        logits = functional.linear(vectors.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))
    losses = functional.cross_entropy(
        logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="sum", label_smoothing=label_smoothing
    )
    inputs = [tensor for tensor, is_needed in zip((vectors, weight, bias), needed, strict=True) if is_needed]
    found = iter(torch.autograd.grad(losses / divisor, inputs, grad, create_graph=True))
    return [next(found) if is_needed else None for is_needed in needed]


def _sum_of_losses(vectors, weight, bias, tokens, is_target, label_smoothing, errors) -> torch.Tensor:
    """Summed loss of a chunk of rows, without the label-smoothing term that depends on the mean logit.

    `_smooth_and_divide` adds that term. Fills `errors` (C, V), if given, with softmax minus target.
    """
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
    """Log-probabilities (C, 1) of tokens (C, 1) with the logits `targets` (C, 1)."""
    found = probs.gather(1, tokens)
    if found.device.type == "cpu" and found.min() > _SURE:  # on a GPU, reading the minimum would wait for the GPU
        return found.log()
    # log(sum of exp) = largest logit - log(largest probability). The largest probability is never 0.
    return targets - logits.amax(1, keepdim=True).float() + probs.amax(1, keepdim=True).log()


def _add_gradients(grads, needed, errors, vectors, weight, rows, is_target) -> None:
    """Add the contribution of a block of errors (C, V) to the gradients of vectors, weight and bias, where needed."""
    if needed[0]:
        grads[0][rows] = linear(errors, weight.T)
    if needed[1]:
        grads[1] = _plus(grads[1], linear(errors.T, vectors[rows].T))
    if needed[2]:
        grads[2] = _plus(grads[2], (errors * is_target[rows]).sum(0, dtype=torch.float32))


def _plus(total: torch.Tensor | None, term: torch.Tensor) -> torch.Tensor:
    return term.float() if total is None else total.add_(term)


def _smooth_and_divide(total, grads, divisor, vectors, weight, bias, label_smoothing, is_target) -> torch.Tensor:
    """Add the label-smoothing term to the loss and divide by the number of targets; the same for `grads`, in place.

    The mean logit is linear in vectors and weight, so its gradient is the same for every row, or for every token. No
    tensor of the size of the logits is needed, and the weight gradient is updated once.
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
    """Slices of the rows, one for each block. The errors (logit gradients) of a block are stored together."""
    if weight.device.type != "cpu":
        return _equal_slices(0, num_rows, GPU_CHUNK_SIZE // len(weight))
    return _equal_slices(0, num_rows, CPU_BLOCK_BYTES // (len(weight) * weight.element_size()))


def _chunks(block: slice, weight: torch.Tensor) -> list[slice]:
    """Slices of the rows of a block, one for each chunk. The logits of a chunk are stored together."""
    size = CPU_CHUNK_SIZE if weight.device.type == "cpu" else GPU_CHUNK_SIZE
    return _equal_slices(block.start, block.stop, size // len(weight))


def _equal_slices(start: int, stop: int, most: int) -> list[slice]:
    """Slices of nearly equal size, at most `most` rows, so that buffers and kernels are reused."""
    num_slices = max(1, math.ceil((stop - start) / max(MIN_ROWS, most)))
    size = max(1, math.ceil((stop - start) / num_slices))
    return [slice(first, min(first + size, stop)) for first in range(start, stop, size)]
