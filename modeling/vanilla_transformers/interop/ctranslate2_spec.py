"""Fills CTranslate2's specification of a Transformer with the weights of one of our models."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vanilla_transformers.interop.checks import InteropError

# Name of an activation in transformers -> name of the same activation in CTranslate2's `Activation`.
ACTIVATIONS = {
    "relu": "RELU",
    "gelu": "GELU",
    "gelu_python": "GELU",
    "gelu_new": "GELUTanh",
    "gelu_fast": "GELUTanh",
    "gelu_pytorch_tanh": "GELUTanh",
    "quick_gelu": "GELUSigmoid",
    "silu": "SWISH",
    "swish": "SWISH",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
}


def seq2seq_spec(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The specification of an encoder-decoder, with its weights and vocabularies."""
    from ctranslate2.specs import TransformerSpec
    from ctranslate2.specs.transformer_spec import TransformerDecoderSpec, TransformerEncoderSpec

    config = model.config
    common = {"num_heads": config.num_attention_heads, **stack_options(config)}
    spec = TransformerSpec(
        TransformerEncoderSpec(config.encoder_layers, **common),
        TransformerDecoderSpec(config.decoder_layers, **common),
    )
    fill_stack(spec.encoder, spec.encoder.embeddings[0], model.model.encoder)
    fill_stack(spec.decoder, spec.decoder.embeddings, model.model.decoder)
    fill_linear(spec.decoder.projection, model.lm_head)
    tokens = vocabulary(tokenizer, config.vocab_size)
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    fill_config(spec.config, model, tokenizer, tokens)
    spec.config.decoder_start_token = tokens[special_id(model, "decoder_start_token_id")]
    return spec


def decoder_spec(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The specification of a decoder, with its weights and vocabulary."""
    from ctranslate2.specs import TransformerDecoderModelSpec

    config = model.config
    spec = TransformerDecoderModelSpec.from_config(
        config.num_hidden_layers, config.num_attention_heads, **stack_options(config)
    )
    fill_stack(spec.decoder, spec.decoder.embeddings, model.model)
    fill_linear(spec.decoder.projection, model.lm_head)
    tokens = vocabulary(tokenizer, config.vocab_size)
    spec.register_vocabulary(tokens)
    fill_config(spec.config, model, tokenizer, tokens)
    return spec


def stack_options(config: Any) -> dict[str, Any]:
    """The options of CTranslate2's encoder and decoder specifications for one of our configurations."""
    from ctranslate2.specs import Activation

    return {
        # CTranslate2 creates a final norm only for pre-norm stacks. `fill_stack` sets the true norm position later.
        "pre_norm": True,
        "no_final_norm": not config.has_final_norm,
        "activation": getattr(Activation, ACTIVATIONS[config.hidden_act]),
        "layernorm_embedding": config.embedding_norm,
    }


def fill_stack(spec: Any, table: Any, stack: Any) -> None:
    """Fills the specification of an encoder or decoder; `table` is the specification of its embeddings."""
    config, embedding = stack.config, stack.input_embedding
    spec.pre_norm = config.norm_position == "pre"
    table.weight = copied(stack.embed_tokens.weight)
    spec.scale_embeddings = float(embedding.scale)
    spec.position_encodings.encodings = positions(stack)
    if embedding.norm is not None:
        fill_norm(spec.layernorm_embedding, embedding.norm)
    if config.has_final_norm:
        fill_norm(spec.layer_norm, stack.norm)
    for layer_spec, layer in zip(spec.layer, stack.layers, strict=True):
        fill_layer(layer_spec, layer)


def positions(stack: Any) -> torch.Tensor:
    """The position vectors (P, D) in fp32, zeros for a model without positions.

    Without a table CTranslate2 would add its own sinusoids.
    """
    length = stack.config.max_position_embeddings
    if stack.input_embedding.positions is None:
        return torch.zeros(length, stack.config.hidden_size)
    return copied(stack.input_embedding.positions(torch.arange(length).unsqueeze(0), length)[0])


def fill_layer(spec: Any, layer: Any) -> None:
    """Fills the specification of one layer."""
    attention = layer.self_attn
    fill_linear(spec.self_attention.linear[0], attention.q_proj, attention.k_proj, attention.v_proj)
    fill_linear(spec.self_attention.linear[1], attention.o_proj)
    fill_norm(spec.self_attention.layer_norm, layer.self_attn_residual.norm)
    if hasattr(layer, "cross_attn"):
        attention = layer.cross_attn
        fill_linear(spec.attention.linear[0], attention.q_proj)
        fill_linear(spec.attention.linear[1], attention.k_proj, attention.v_proj)
        fill_linear(spec.attention.linear[2], attention.o_proj)
        fill_norm(spec.attention.layer_norm, layer.cross_attn_residual.norm)
    fill_linear(spec.ffn.linear_0, layer.feed_forward.up_proj)
    fill_linear(spec.ffn.linear_1, layer.feed_forward.down_proj)
    fill_norm(spec.ffn.layer_norm, layer.feed_forward_residual.norm)


def fill_norm(spec: Any, norm: nn.LayerNorm) -> None:
    """Fills the specification of one layer norm."""
    spec.gamma, spec.beta = copied(norm.weight), copied(norm.bias)


def fill_linear(spec: Any, *linears: nn.Linear) -> None:
    """Fills one linear layer with a projection, or with several fused projections."""
    spec.weight = torch.cat([copied(linear.weight) for linear in linears])
    if linears[0].bias is not None:
        spec.bias = torch.cat([copied(linear.bias) for linear in linears])


def copied(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in fp32 on the CPU. CTranslate2 quantizes tensors in place, so the weights must not be shared."""
    return tensor.detach().float().cpu().clone()


# Vocabulary and special tokens


def vocabulary(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> list[str]:
    """The token of each id below `vocab_size`. Ids that the tokenizer lacks get the name `<unused ID>`.

    Raises:
        InteropError: If the tokenizer has an id of `vocab_size` or more.
    """
    known = sorted(tokenizer.get_vocab().values())
    if known and known[-1] >= vocab_size:
        raise InteropError(
            f"the tokenizer gives ids up to {known[-1]}, but vocab_size is {vocab_size}: the two do not belong "
            "together; give the tokenizer that the model was trained with"
        )
    tokens = [f"<unused {index}>" for index in range(vocab_size)]
    for index, token in zip(known, tokenizer.convert_ids_to_tokens(known), strict=True):
        tokens[index] = token
    return tokens


def fill_config(
    spec_config: Any, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: list[str]
) -> None:
    """Sets the layer norm's epsilon and the special tokens in the specification's config."""
    end = tokens[special_id(model, "eos_token_id")]
    spec_config.layer_norm_epsilon = model.config.layer_norm_eps
    spec_config.eos_token = end
    spec_config.bos_token = tokenizer.bos_token or end
    # CTranslate2 requires an unknown token. A tokenizer without an unknown token, such as byte-level BPE, can encode
    # every text, so any token will do.
    spec_config.unk_token = tokenizer.unk_token or end


def special_id(model: PreTrainedModel, name: str) -> int:
    """The id of a special token, from the generation config or else from the config of the model.

    Raises:
        InteropError: If the model has no such token, or several such tokens.
    """
    index = getattr(model.generation_config, name, None)
    index = getattr(model.config, name, None) if index is None else index
    if isinstance(index, list) and len(index) == 1:
        index = index[0]
    if not isinstance(index, int):
        raise InteropError(
            f"{name} is {index}, but CTranslate2 needs one token: set model.generation_config.{name} to one id"
        )
    return index
