"""Copies weights of torch.nn and transformers models into ours, name by name, for the parity tests."""

import torch
from torch import nn

import vanilla_transformers as vt


def load_exactly(model: nn.Module, state: dict[str, torch.Tensor]) -> nn.Module:
    """Loads `state` into `model` and puts it into evaluation mode.

    Raises:
        AssertionError: If a parameter is not in `state` (a tied one by any of its names), or a tensor is not used.
    """
    result = model.load_state_dict(state, strict=False)
    tied = {name for pair in model.all_tied_weights_keys.items() for name in pair}
    assert not result.unexpected_keys, result.unexpected_keys
    assert set(result.missing_keys) <= tied, result.missing_keys
    return model.eval()


def renamed(state: dict[str, torch.Tensor], names: dict[str, str]) -> dict[str, torch.Tensor]:
    """Returns `state` with renamed keys: the replacements of `names` are applied to each key, in their order."""
    result = {}
    for key, value in state.items():
        for old, new in names.items():
            key = key.replace(old, new)
        result[key] = value
    return result


MARIAN_NAMES = {
    "embed_positions": "input_embedding.positions",
    "encoder_attn_layer_norm": "cross_attn_residual.norm",
    "self_attn_layer_norm": "self_attn_residual.norm",
    "final_layer_norm": "feed_forward_residual.norm",
    "encoder_attn": "cross_attn",
    "out_proj": "o_proj",
    "fc1": "feed_forward.up_proj",
    "fc2": "feed_forward.down_proj",
}


def from_marian(marian) -> vt.VanillaSeq2SeqForConditionalGeneration:
    """Returns our encoder-decoder with the weights of a MarianMTModel."""
    c = marian.config
    config = vt.VanillaSeq2SeqConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.d_model,
        num_attention_heads=c.encoder_attention_heads,
        intermediate_size=c.encoder_ffn_dim,
        encoder_layers=c.encoder_layers,
        decoder_layers=c.decoder_layers,
        hidden_act=c.activation_function,
        scale_embeddings=c.scale_embedding,
        sinusoidal_layout="halves",
        max_position_embeddings=c.max_position_embeddings,
        lm_head_bias=True,
        pad_token_id=c.pad_token_id,
        eos_token_id=c.eos_token_id,
        bos_token_id=None,
        decoder_start_token_id=c.decoder_start_token_id,
    )
    state = {key: value for key, value in marian.state_dict().items() if "embed_positions" not in key}
    state.pop("model.shared.weight")
    state["lm_head.bias"] = state.pop("final_logits_bias")[0]
    return load_exactly(vt.VanillaSeq2SeqForConditionalGeneration(config), renamed(state, MARIAN_NAMES))


BERT_NAMES = {
    "bert.": "model.",
    "embeddings.word_embeddings": "embed_tokens",
    "embeddings.position_embeddings": "input_embedding.positions",
    "embeddings.token_type_embeddings": "input_embedding.token_types",
    "embeddings.LayerNorm": "input_embedding.norm",
    "encoder.layer.": "layers.",
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.o_proj",
    "attention.output.LayerNorm": "self_attn_residual.norm",
    "intermediate.dense": "feed_forward.up_proj",
    "output.dense": "feed_forward.down_proj",
    "output.LayerNorm": "feed_forward_residual.norm",
    "cls.predictions.transform.dense": "transform.dense",
    "cls.predictions.transform.LayerNorm": "transform.norm",
    "cls.predictions.decoder": "lm_head",
}


def from_bert(bert, our_class: type) -> nn.Module:
    """Returns one of our encoders with the weights of a BERT model that has the same head."""
    c = bert.config
    config = vt.VanillaEncoderConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        num_attention_heads=c.num_attention_heads,
        intermediate_size=c.intermediate_size,
        num_hidden_layers=c.num_hidden_layers,
        hidden_act=c.hidden_act,
        max_position_embeddings=c.max_position_embeddings,
        type_vocab_size=c.type_vocab_size,
        layer_norm_eps=c.layer_norm_eps,
        pad_token_id=c.pad_token_id,
        num_labels=c.num_labels,
    )
    ignored = ("position_ids", "cls.predictions.bias")
    state = {key: value for key, value in bert.state_dict().items() if not key.endswith(ignored)}
    return load_exactly(our_class(config), renamed(state, BERT_NAMES))


GPT2_NAMES = {
    "transformer.": "model.",
    "wte": "embed_tokens",
    "wpe": "input_embedding.positions",
    "ln_f": "norm",
    "h.": "layers.",
    "ln_1": "self_attn_residual.norm",
    "ln_2": "feed_forward_residual.norm",
    "attn.c_proj": "self_attn.o_proj",
    "mlp.c_fc": "feed_forward.up_proj",
    "mlp.c_proj": "feed_forward.down_proj",
}


def from_gpt2(gpt2, our_class: type) -> nn.Module:
    """Returns one of our decoders with the weights of a GPT-2 model that has the same head."""
    c = gpt2.config
    config = vt.VanillaDecoderConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.n_embd,
        num_attention_heads=c.n_head,
        intermediate_size=c.n_inner or 4 * c.n_embd,
        num_hidden_layers=c.n_layer,
        hidden_act=c.activation_function,
        max_position_embeddings=c.n_positions,
        pad_token_id=c.pad_token_id,
        eos_token_id=c.eos_token_id,
        bos_token_id=c.bos_token_id,
        num_labels=c.num_labels,
    )
    state = {}
    for key, value in gpt2.state_dict().items():
        if "attn.c_attn" in key:
            for part, projection in zip(value.chunk(3, dim=-1), ("q_proj", "k_proj", "v_proj"), strict=True):
                state[key.replace("attn.c_attn", f"self_attn.{projection}")] = part.t()
        else:
            is_conv1d = key.endswith((".c_proj.weight", ".c_fc.weight"))
            state[key] = value.t() if is_conv1d else value
    return load_exactly(our_class(config), renamed(state, GPT2_NAMES))


def from_torch_layer(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the weights of torch's encoder or decoder layers with the names and shapes of our layers."""
    names = {
        "self_attn.out_proj": "self_attn.o_proj",
        "multihead_attn.out_proj": "cross_attn.o_proj",
        "linear1": "feed_forward.up_proj",
        "linear2": "feed_forward.down_proj",
    }
    result = {}
    for key, value in state.items():
        has_cross = key.replace(key.split(".")[-2], "norm3") in state and "norm" in key
        norms = ("self_attn", "cross_attn", "feed_forward") if has_cross else ("self_attn", "feed_forward")
        for number, sublayer in enumerate(norms, start=1):
            key = key.replace(f"norm{number}.", f"{sublayer}_residual.norm.")
        if "in_proj_" in key:
            attention, kind = key.replace("multihead_attn", "cross_attn").split(".in_proj_")
            for part, projection in zip(value.chunk(3), ("q_proj", "k_proj", "v_proj"), strict=True):
                result[f"{attention}.{projection}.{kind}"] = part
        else:
            result[key] = value
    return renamed(result, names)
