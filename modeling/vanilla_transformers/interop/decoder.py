"""GPT-2 and OPT."""

from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from vanilla_transformers.interop.architecture import (
    Architecture,
    Head,
    classes_in,
    position_table,
    refuse_unless,
    special_ids,
)
from vanilla_transformers.interop.rules import Rule, absent_there, conv1d, fused_conv1d, module, same
from vanilla_transformers.model.configuration_vanilla import VanillaDecoderConfig
from vanilla_transformers.model.modeling_decoder import (
    VanillaDecoderForCausalLM,
    VanillaDecoderForSequenceClassification,
    VanillaDecoderForTokenClassification,
    VanillaDecoderModel,
)

# Activation of transformers -> the same function as a single torch kernel, which is three times as fast.
FAST_ACTIVATIONS = {"gelu_new": "gelu_pytorch_tanh"}


class DecoderArchitecture(Architecture):
    """The common part of GPT-2 and OPT."""

    config_class = VanillaDecoderConfig

    def config_in(self, model: PreTrainedModel, head: str) -> dict[str, Any]:
        stock: Any = model.config
        return {
            "vocab_size": stock.vocab_size,
            "hidden_size": stock.hidden_size,
            "num_attention_heads": stock.num_attention_heads,
            "num_hidden_layers": stock.num_hidden_layers,
            "hidden_act": FAST_ACTIVATIONS.get(stock.activation_function, stock.activation_function),
            "tie_word_embeddings": stock.tie_word_embeddings,
            **classes_in(stock),
            **special_ids(stock),
        }

    def config_out(self, config: VanillaDecoderConfig, head: str) -> dict[str, Any]:
        facts: list[tuple[str, object, object]] = [
            ("embedding_norm", config.embedding_norm, False),
            ("scale_embeddings", config.scales_embeddings, False),
            ("type_vocab_size", config.type_vocab_size, 0),
        ]
        if head == "sequence-classification":
            facts.append(("classifier_pooling", config.classifier_pooling, "last"))
        for name, value, needed in facts:
            refuse_unless(value == needed, name, value, f"a {self.model_type} has {needed!r}")
        return {
            "vocab_size": config.vocab_size,
            "tie_word_embeddings": config.tie_word_embeddings,
            **classes_in(config),
            **special_ids(config),
        }

    def lm_rules(self, config: VanillaDecoderConfig) -> Iterator[Rule]:
        """The rules of the language-model head. The head of the transformers model has no bias."""
        yield same("lm_head.weight", "lm_head.weight")
        if config.lm_head_bias:
            yield absent_there("lm_head.bias", (config.vocab_size,), 0.0)


class Gpt2(DecoderArchitecture):
    """GPT-2 (Radford et al. 2019)."""

    model_type = "gpt2"
    heads = {
        "base": Head(VanillaDecoderModel, "GPT2Model"),
        "causal-lm": Head(VanillaDecoderForCausalLM, "GPT2LMHeadModel"),
        "sequence-classification": Head(VanillaDecoderForSequenceClassification, "GPT2ForSequenceClassification"),
        "token-classification": Head(VanillaDecoderForTokenClassification, "GPT2ForTokenClassification"),
    }

    def config_in(self, model: PreTrainedModel, head: str) -> dict[str, Any]:
        stock: Any = model.config
        for name, value in (
            ("scale_attn_weights", True),
            ("scale_attn_by_inverse_layer_idx", False),
            ("add_cross_attention", False),
        ):
            refuse_unless(getattr(stock, name) == value, name, getattr(stock, name), f"our decoder has {value}")
        return super().config_in(model, head) | {
            "intermediate_size": stock.n_inner if stock.n_inner is not None else 4 * stock.n_embd,
            "hidden_dropout_prob": stock.resid_pdrop,
            "attention_probs_dropout_prob": stock.attn_pdrop,
            "max_position_embeddings": stock.n_positions,
            "layer_norm_eps": stock.layer_norm_epsilon,
            "initializer_range": stock.initializer_range,
        }

    def config_out(self, config: VanillaDecoderConfig, head: str) -> dict[str, Any]:
        refuse_unless(config.norm_position == "pre", "norm_position", config.norm_position, "a gpt2 has 'pre'")
        refuse_unless(config.has_final_norm, "final_norm", config.has_final_norm, "a gpt2 has True")
        original = {fast: name for name, fast in FAST_ACTIVATIONS.items()}
        return super().config_out(config, head) | {
            "n_embd": config.hidden_size,
            "n_head": config.num_attention_heads,
            "n_layer": config.num_hidden_layers,
            "n_inner": config.intermediate_size,
            "activation_function": original.get(config.hidden_act, config.hidden_act),
            "resid_pdrop": config.hidden_dropout_prob,
            "embd_pdrop": config.hidden_dropout_prob,
            "attn_pdrop": config.attention_probs_dropout_prob,
            "n_positions": config.max_position_embeddings,
            "layer_norm_epsilon": config.layer_norm_eps,
            "initializer_range": config.initializer_range,
        }

    def rules(self, config: VanillaDecoderConfig, stock: Any, head: str) -> Iterator[Rule]:
        ours, theirs = ("", "") if head == "base" else ("model.", "transformer.")
        yield same(f"{ours}embed_tokens.weight", f"{theirs}wte.weight")
        yield position_table(f"{ours}input_embedding.positions.weight", f"{theirs}wpe.weight", config, 0)
        for number in range(config.num_hidden_layers):
            layer, block = f"{ours}layers.{number}", f"{theirs}h.{number}"
            yield from module(f"{layer}.self_attn_residual.norm", f"{block}.ln_1")
            projections = [f"{layer}.self_attn.{part}_proj" for part in "qkv"]
            yield from fused_conv1d(projections, f"{block}.attn.c_attn")
            yield from conv1d(f"{layer}.self_attn.o_proj", f"{block}.attn.c_proj")
            yield from module(f"{layer}.feed_forward_residual.norm", f"{block}.ln_2")
            yield from conv1d(f"{layer}.feed_forward.up_proj", f"{block}.mlp.c_fc")
            yield from conv1d(f"{layer}.feed_forward.down_proj", f"{block}.mlp.c_proj")
        yield from module(f"{ours}norm", f"{theirs}ln_f")
        if head == "causal-lm":
            yield from self.lm_rules(config)
        if head == "sequence-classification":
            yield same("score.weight", "score.weight")
        if head == "token-classification":
            yield from module("score", "classifier")

    def notes(self, stock: PreTrainedConfig) -> list[str]:
        found = super().notes(stock)
        if stock.embd_pdrop != stock.resid_pdrop:
            found.append(f"embd_pdrop={stock.embd_pdrop} becomes {stock.resid_pdrop}: it acts in training only")
        return found


class Opt(DecoderArchitecture):
    """OPT (Zhang et al. 2022)."""

    model_type = "opt"
    heads = {
        "base": Head(VanillaDecoderModel, "OPTModel"),
        "causal-lm": Head(VanillaDecoderForCausalLM, "OPTForCausalLM"),
        "sequence-classification": Head(VanillaDecoderForSequenceClassification, "OPTForSequenceClassification"),
    }

    def config_in(self, model: PreTrainedModel, head: str) -> dict[str, Any]:
        stock: Any = model.config
        width = stock.word_embed_proj_dim
        refuse_unless(
            width == stock.hidden_size,
            "word_embed_proj_dim",
            width,
            f"our embeddings have the width hidden_size={stock.hidden_size}",
        )
        return super().config_in(model, head) | {
            "intermediate_size": stock.ffn_dim,
            "hidden_dropout_prob": stock.dropout,
            "attention_probs_dropout_prob": stock.attention_dropout,
            "max_position_embeddings": stock.max_position_embeddings,
            "position_offset": 2,
            "norm_position": "pre" if stock.do_layer_norm_before else "post",
            "final_norm": bool(stock.do_layer_norm_before and not getattr(stock, "_remove_final_layer_norm", False)),
            "initializer_range": stock.init_std,
        }

    def config_out(self, config: VanillaDecoderConfig, head: str) -> dict[str, Any]:
        is_pre = config.norm_position == "pre"
        refuse_unless(is_pre or not config.has_final_norm, "final_norm", True, "a post-norm opt has False")
        refuse_unless(
            config.layer_norm_eps == 1e-5, "layer_norm_eps", config.layer_norm_eps, "1e-05 is fixed in an opt"
        )
        return super().config_out(config, head) | {
            "hidden_size": config.hidden_size,
            "num_attention_heads": config.num_attention_heads,
            "num_hidden_layers": config.num_hidden_layers,
            "ffn_dim": config.intermediate_size,
            "activation_function": config.hidden_act,
            "dropout": config.hidden_dropout_prob,
            "attention_dropout": config.attention_probs_dropout_prob,
            "max_position_embeddings": config.max_position_embeddings,
            "do_layer_norm_before": is_pre,
            "_remove_final_layer_norm": is_pre and not config.has_final_norm,
            "init_std": config.initializer_range,
        }

    def rules(self, config: VanillaDecoderConfig, stock: Any, head: str) -> Iterator[Rule]:
        ours, theirs = ("", "decoder.") if head == "base" else ("model.", "model.decoder.")
        width, inner = config.hidden_size, config.intermediate_size
        yield same(f"{ours}embed_tokens.weight", f"{theirs}embed_tokens.weight")
        yield position_table(f"{ours}input_embedding.positions.weight", f"{theirs}embed_positions.weight", config, 2)
        for number in range(config.num_hidden_layers):
            layer, block = f"{ours}layers.{number}", f"{theirs}layers.{number}"
            for part, their_part in (
                ("q_proj", "q_proj"),
                ("k_proj", "k_proj"),
                ("v_proj", "v_proj"),
                ("o_proj", "out_proj"),
            ):
                yield from _linear(f"{layer}.self_attn.{part}", f"{block}.self_attn.{their_part}", width, stock)
            yield from _norm(f"{layer}.self_attn_residual.norm", f"{block}.self_attn_layer_norm", width, stock)
            yield from _linear(f"{layer}.feed_forward.up_proj", f"{block}.fc1", inner, stock)
            yield from _linear(f"{layer}.feed_forward.down_proj", f"{block}.fc2", width, stock)
            yield from _norm(f"{layer}.feed_forward_residual.norm", f"{block}.final_layer_norm", width, stock)
        if config.has_final_norm:
            yield from _norm(f"{ours}norm", f"{theirs}final_layer_norm", width, stock)
        if head == "causal-lm":
            yield from self.lm_rules(config)
        if head == "sequence-classification":
            yield same("score.weight", "score.weight")


def _linear(ours: str, theirs: str, width: int, stock: Any) -> Iterator[Rule]:
    yield same(f"{ours}.weight", f"{theirs}.weight")
    if stock.enable_bias:
        yield same(f"{ours}.bias", f"{theirs}.bias")
    else:
        yield absent_there(f"{ours}.bias", (width,), 0.0)


def _norm(ours: str, theirs: str, width: int, stock: Any) -> Iterator[Rule]:
    if stock.layer_norm_elementwise_affine:
        yield from module(ours, theirs)
    else:
        yield absent_there(f"{ours}.weight", (width,), 1.0)
        yield absent_there(f"{ours}.bias", (width,), 0.0)


ARCHITECTURES = (Gpt2(), Opt())
