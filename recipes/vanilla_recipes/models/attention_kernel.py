"""Chooses the attention kernel of a run (the setting `attention`), and refuses kernels that cannot train it."""

import torch
from transformers import PreTrainedModel

from vanilla_recipes.errors import UserError
from vanilla_recipes.models.stock import is_stock
from vanilla_recipes.settings.experiment import Experiment
from vanilla_recipes.settings.precision import HALF_DTYPES
from vanilla_transformers.fast.packed_kernel import VARLEN, varlen_problem


def set_attention(model: PreTrainedModel, experiment: Experiment, device: torch.device) -> None:
    """Chooses the attention kernel of the run and sets it in the model.

    Raises:
        UserError: If transformers has no kernel of this name, or if the kernel cannot train on this device or on packed
            rows.
    """
    kernel = _kernel(model, experiment, device)
    if kernel == "flex_attention" and device.type == "cpu":
        raise UserError("attention=flex_attention has no backward pass on a CPU: use auto, eager or sdpa")
    if experiment.batch.packing:
        _check_packing(kernel, model, experiment)
    try:
        model.set_attn_implementation(kernel)
    except (ValueError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"attention={experiment.attention}: {reason}") from error


def _kernel(model: PreTrainedModel, experiment: Experiment, device: torch.device) -> str:
    """The kernel that the experiment names; for `auto`, the fastest kernel that needs no other package."""
    is_packed, dtype = experiment.batch.packing, HALF_DTYPES.get(experiment.precision, torch.float32)
    if is_stock(model):
        problem: str | None = "is for the models of this package only"
    else:
        problem = varlen_problem(model.config, device, dtype, is_training=True)
    if experiment.attention == VARLEN and problem is not None:
        raise UserError(f"attention={VARLEN} {problem}; otherwise use auto, eager or sdpa")
    if experiment.attention == VARLEN and not is_packed:
        raise UserError(f"attention={VARLEN} is for packed rows: set batch.packing=true, or use auto, eager or sdpa")
    if experiment.attention != "auto":
        return experiment.attention
    if is_packed and problem is None:
        return VARLEN
    return "eager" if device.type == "cpu" else "sdpa"


def _check_packing(kernel: str, model: PreTrainedModel, experiment: Experiment) -> None:
    """Refuses packing if attention would mix up the rows of a line or waste computation on masked pairs of tokens.

    Also refuses lines that are longer than the table of learned positions of an encoder-decoder.

    Raises:
        UserError: If the model or the kernel does not support packed rows, or if the kernel or the position table does
            not allow this value of `batch.pack_length`.
    """
    if is_stock(model):
        raise UserError(
            f"batch.packing=true: a {type(model).__name__} does not keep packed rows apart, as the models of this "
            "package do: set it to false, or convert the model with `vanilla import`"
        )
    pack_length, config = experiment.batch.pack_length, model.config
    if "flash" in kernel and config.is_encoder_decoder:
        raise UserError(
            f"batch.packing=true: attention={kernel} takes no mask, which packed rows need in cross attention: use "
            f"{VARLEN}, sdpa, eager or flex_attention"
        )
    if "flash" in kernel and pack_length is not None:
        raise UserError(
            f"batch.pack_length={pack_length}: attention={kernel} keeps rows apart on a single line only: leave "
            f"batch.pack_length out"
        )
    if kernel in ("eager", "sdpa") and pack_length is None:
        raise UserError(
            f"batch.packing=true: attention={kernel} computes every pair of tokens of a line: give batch.pack_length, "
            f"such as 4 times the longest row, or on a GPU attention={VARLEN} or flex_attention"
        )
    num_positions = config.max_position_embeddings
    has_table = config.is_encoder_decoder and config.position_embedding_type == "learned"
    if has_table and pack_length is not None and pack_length > num_positions:
        raise UserError(
            f"batch.pack_length={pack_length}: the model has learned positions for {num_positions} tokens, and the "
            f"padding of a line may be as long as the line; lower batch.pack_length"
        )
