"""May I go around this? One answer for a tensor, a module and a model.

Code that computes from weights directly, or leaves rows of a batch out, is right only where nothing else acts on the
way: no hook, adapter, shard or quantized weight, and no method of a subclass or of an instance.
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
_METHODS = {
    "forward",
    "decode",
    "embed",
    "prepare_inputs_for_generation",
    "_update_model_kwargs_for_generation",
    "_hf_hook",
}
"""What an instance may have in place of its class's method: PEFT's prompts and accelerate's hooks do so."""


def is_untouched_tensor(tensor: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether a tensor is dense numbers of one type: no shard, no quantized weight, none that lies elsewhere."""
    return (
        type(tensor) in (torch.Tensor, nn.Parameter)
        and tensor.dtype == dtype
        and tensor.layout == torch.strided
        and not tensor.is_nested
        and not hasattr(tensor, "ds_id")  # DeepSpeed's third stage gathers it when its module is called
    )


def is_untouched_module(module: nn.Module, dtype: torch.dtype) -> bool:
    """Whether the weights of a module of ours, a linear layer or a layer norm alone tell what it computes."""
    module_class = type(module)
    return _FORWARDS.get(module_class) is module_class.forward and is_called_alone(module, dtype)


def is_called_alone(module: nn.Module, dtype: torch.dtype) -> bool:
    """Whether a call of a module runs its class's `forward` on its own weights, and nothing else."""
    return (
        "forward" not in vars(module)
        and not has_forward_hooks(module)
        and not has_backward_hooks(module)
        and all(is_untouched_tensor(parameter, dtype) for parameter in module.parameters(recurse=False))
    )


def is_untouched_model(model: Any) -> bool:
    """Whether `generate` may call the decoder of a language model of ours in place of the model, and leave rows out.

    Not so with a method of a subclass or an instance, a hook of what is not called then, a hook that reads keyword
    arguments (as PEFT's for batches with several adapters), or layers that do not stand where their caches are.
    """
    called = [model, model.model, model.lm_head]
    if model.config.is_encoder_decoder:
        called.append(model.model.decoder)
    return (
        VanillaGenerationMixin in type(model).__bases__
        and not any(has_forward_hooks(module) or _METHODS & vars(module).keys() for module in called)
        and not any(map(has_hooks_with_kwargs, model.modules()))
        and _layers_are_in_order(called[-1] if model.config.is_encoder_decoder else model.model)
    )


def _layers_are_in_order(stack: Any) -> bool:
    """Whether no layer was taken out or exchanged: a layer's number tells where its keys lie in the cache."""
    return all(
        attention.layer_idx == number
        for number, layer in enumerate(stack.layers)
        for name, attention in layer.named_children()
        if name in ("self_attn", "cross_attn")
    )
