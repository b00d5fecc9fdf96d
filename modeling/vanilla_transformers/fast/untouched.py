"""Decides whether fast code may bypass the usual calls of a tensor, a module or a model.

Fast code computes directly from weights, or removes rows from a batch. It is correct only if nothing was changed: there
is no hook, adapter, shard, quantized weight or overridden method.
"""

from typing import Any

import torch
from torch import nn

from vanilla_transformers.fast.private_names import has_backward_hooks, has_forward_hooks, has_hooks_with_kwargs
from vanilla_transformers.model.attention import MultiHeadAttention
from vanilla_transformers.model.feed_forward import FeedForward
from vanilla_transformers.model.generation import VanillaGenerationMixin
from vanilla_transformers.model.layers import Residual, VanillaLayer
from vanilla_transformers.model.operations import Dropout, Linear

_MODULES = (VanillaLayer, MultiHeadAttention, FeedForward, Residual, Linear, nn.Linear, nn.LayerNorm, Dropout)
_FORWARDS: dict[type[nn.Module], Any] = {module_class: module_class.forward for module_class in _MODULES}
_SET_BY_OTHERS = {
    "forward",
    "decode",
    "embed",
    "prepare_inputs_for_generation",
    "_update_model_kwargs_for_generation",
    "_hf_hook",
}
"""Attributes that PEFT (prompts) or accelerate (hooks) sets on an instance: overridden methods, and `_hf_hook`."""


def is_untouched_tensor(tensor: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether a tensor is an ordinary dense tensor of a given dtype: not a shard, not quantized or offloaded."""
    return (
        type(tensor) in (torch.Tensor, nn.Parameter)
        and tensor.dtype == dtype
        and tensor.layout == torch.strided
        and not tensor.is_nested
        and not hasattr(tensor, "ds_id")  # DeepSpeed ZeRO-3 shards the tensor except in calls of its module
    )


def is_untouched_module(module: nn.Module, dtype: torch.dtype) -> bool:
    """Whether the class of a module is one of `_MODULES`, and a call runs only its `forward` on ordinary weights."""
    module_class = type(module)
    return _FORWARDS.get(module_class) is module_class.forward and is_called_alone(module, dtype)


def is_called_alone(module: nn.Module, dtype: torch.dtype) -> bool:
    """Whether a call of a module runs the `forward` of its class on ordinary weights, and nothing else."""
    return (
        "forward" not in vars(module)
        and not has_forward_hooks(module)
        and not has_backward_hooks(module)
        and all(is_untouched_tensor(parameter, dtype) for parameter in module.parameters(recurse=False))
    )


def is_untouched_model(model: Any) -> bool:
    """Whether our searches may call the decoder of a language model instead of the model, and remove rows.

    False if a method is overridden, if a module that our searches may bypass has a hook, if a hook reads keyword
    arguments (PEFT for batches with several adapters), or if `layer_idx` of a layer is not its index in the stack.
    """
    called = [model, model.model, model.lm_head]
    if model.config.is_encoder_decoder:
        called.append(model.model.decoder)
    return (
        VanillaGenerationMixin in type(model).__bases__
        and not any(has_forward_hooks(module) or _SET_BY_OTHERS & vars(module).keys() for module in called)
        and not any(map(has_hooks_with_kwargs, model.modules()))
        and _layers_are_in_order(called[-1] if model.config.is_encoder_decoder else model.model)
    )


def _layers_are_in_order(stack: Any) -> bool:
    """Whether no layer was removed or exchanged: a layer finds its keys in the cache by its index."""
    return all(
        attention.layer_idx == number
        for number, layer in enumerate(stack.layers)
        for name, attention in layer.named_children()
        if name in ("self_attn", "cross_attn")
    )
