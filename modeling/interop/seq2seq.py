"""Marian, BART, mBART, M2M100 (NLLB) and FSMT: encoder-decoders that differ in norms, positions and tables."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from ..configuration_vanilla import VanillaSeq2SeqConfig
from ..modeling_seq2seq import VanillaSeq2SeqForConditionalGeneration, VanillaSeq2SeqModel
from .architecture import Architecture, Head, position_table, refuse_unless, special_ids
from .rules import Rule, Tensors, absent_here, absent_there, computed, copy_of, flat_row, module, same

LAYOUT_MARK = "vanilla_sinusoidal_layout"
"""In the config of a stock model whose width was permuted on its way out: the layout that it had here."""


@dataclass(frozen=True)
class Seq2SeqArchitecture(Architecture):
    """One of the five.

    Attributes:
        model_type: its name in config.json.
        class_name: what the names of its classes begin with.
        lm_name: what the name of its generating class ends with.
        norm_position, embedding_norm: as in our configuration; a stack of pre-norm layers ends with a norm.
        positions: whether positions are learned or sinusoids.
        frequency: that of the sinusoids.
        offset: the number of the first position; `None`: behind `pad_token_id`.
        logits_bias: whether the class has a `final_logits_bias`.
        shared_table: whether there is a `shared` table.
    """

    model_type: str  # type: ignore[misc]
    class_name: str
    lm_name: str = "ForConditionalGeneration"
    norm_position: Literal["post", "pre"] = "post"
    embedding_norm: bool = False
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    frequency: Literal["paper", "tensor2tensor"] = "paper"
    offset: int | None = 0
    logits_bias: bool = True
    shared_table: bool = True

    config_class = VanillaSeq2SeqConfig

    @property
    def has_position_table(self) -> bool:  # type: ignore[override]
        return self.frequency == "paper"

    @property
    def heads(self) -> dict[str, Head]:  # type: ignore[override]
        heads = {"base": Head(VanillaSeq2SeqModel, f"{self.class_name}Model")}
        if not self.shared_table:  # FSMT's bare model ends with the projection
            heads = {}
        return heads | {"seq2seq-lm": Head(VanillaSeq2SeqForConditionalGeneration, self.class_name + self.lm_name)}

    def config_in(self, model: PreTrainedModel, head: str) -> dict[str, Any]:
        stock: Any = model.config
        for name in ("attention_heads", "ffn_dim"):
            encoder, decoder = getattr(stock, f"encoder_{name}"), getattr(stock, f"decoder_{name}")
            refuse_unless(
                encoder == decoder,
                f"decoder_{name}",
                decoder,
                f"our encoder and decoder have one value: {encoder} here",
            )
        if self.frequency == "tensor2tensor":
            refuse_unless(stock.d_model % 2 == 0, "d_model", stock.d_model, "these sinusoids are even in number here")
        bias = getattr(model, "final_logits_bias", None)
        return {
            "hidden_size": stock.d_model,
            "num_attention_heads": stock.encoder_attention_heads,
            "intermediate_size": stock.encoder_ffn_dim,
            "encoder_layers": stock.encoder_layers,
            "decoder_layers": stock.decoder_layers,
            "hidden_act": stock.activation_function,
            "hidden_dropout_prob": stock.dropout,
            "attention_probs_dropout_prob": stock.attention_dropout,
            "norm_position": self.norm_position,
            "embedding_norm": self.embedding_norm,
            "position_embedding_type": self.positions,
            "sinusoidal_layout": getattr(stock, LAYOUT_MARK, "halves"),
            "sinusoidal_frequency": self.frequency,
            "position_offset": self._offset(stock),
            "max_position_embeddings": stock.max_position_embeddings,
            "scale_embeddings": bool(stock.scale_embedding),
            "lm_head_bias": bias is not None and bool(bias.any()),
            "tie_word_embeddings": stock.tie_word_embeddings,
            "initializer_range": stock.init_std,
            **self._vocabularies_in(stock),
            **special_ids(stock, "decoder_start_token_id"),
        }

    def config_out(self, config: VanillaSeq2SeqConfig, head: str) -> dict[str, Any]:
        self._check(config)
        refuse_unless(config.layer_norm_eps == 1e-5, "layer_norm_eps", config.layer_norm_eps, "1e-05 is fixed there")
        fields = {
            "d_model": config.hidden_size,
            "activation_function": config.hidden_act,
            "dropout": config.hidden_dropout_prob,
            "attention_dropout": config.attention_probs_dropout_prob,
            "max_position_embeddings": config.max_position_embeddings,
            "scale_embedding": config.scales_embeddings,
            "tie_word_embeddings": config.tie_word_embeddings,
            "init_std": config.initializer_range,
            "forced_eos_token_id": None,
            **self._vocabularies_out(config),
            **special_ids(config, "decoder_start_token_id"),
        }
        for side in ("encoder", "decoder"):
            fields |= {
                f"{side}_layers": getattr(config, f"{side}_layers"),
                f"{side}_attention_heads": config.num_attention_heads,
                f"{side}_ffn_dim": config.intermediate_size,
                f"{side}_layerdrop": 0.0,
            }
        if self.positions == "learned":  # CTranslate2's converter asks for it, as checkpoints of BART have it
            fields["normalize_before"] = self.norm_position == "pre"
        if self.positions == "sinusoidal" and config.sinusoidal_layout != "halves":
            fields[LAYOUT_MARK] = config.sinusoidal_layout
        return fields

    def rules(self, config: VanillaSeq2SeqConfig, stock: Any, head: str) -> Iterator[Rule]:
        prefix = "" if head == "base" else "model."
        for side in ("encoder", "decoder"):
            yield from self._stack_rules(config, stock, f"{prefix}{side}", side)
        if self.shared_table and getattr(stock, "share_encoder_decoder_embeddings", True):
            yield copy_of(f"{prefix}encoder.embed_tokens.weight", f"{prefix}shared.weight")
        if head == "base":
            return
        yield same(
            "lm_head.weight", "lm_head.weight" if self.shared_table else "model.decoder.output_projection.weight"
        )
        size = config.vocab_size
        if self.logits_bias and config.lm_head_bias:
            yield flat_row("lm_head.bias", "final_logits_bias")
        elif self.logits_bias:
            yield absent_here("final_logits_bias", (1, size))
        elif config.lm_head_bias:
            yield absent_there("lm_head.bias", (size,), 0.0)

    def notes(self, stock: PreTrainedConfig) -> list[str]:
        found = super().notes(stock)
        if getattr(stock, "decoder_start_token_id", None) is None:
            found.append("decoder_start_token_id is None, so a loss needs decoder_input_ids")
        return found

    def notes_out(self, ours: Any, stock: PreTrainedModel) -> list[str]:
        found = super().notes_out(ours, stock)
        config: Any = stock.config
        if ours.tie_word_embeddings and not config.tie_word_embeddings:
            found.append(f"tie_word_embeddings is False there, where a {self.model_type} ties all three tables or none")
        start = config.decoder_start_token_id
        if self.model_type != "marian" or start is None:
            return found
        decoder: Any = stock.get_decoder()
        if (
            start == config.pad_token_id == config.decoder_vocab_size - 1
            and not decoder.embed_tokens.weight[start].any()
        ):
            return found
        return [
            *found,
            "CTranslate2's own converter for Marian takes a zero vector for the embedding of the start token "
            f"(here {start}) and drops the last token, so its translations would differ; use --to ctranslate2",
        ]

    def _stack_rules(self, config, stock, stack: str, side: str) -> Iterator[Rule]:
        yield same(f"{stack}.embed_tokens.weight", f"{stack}.embed_tokens.weight")
        positions = f"{stack}.embed_positions.weight"
        if self.positions == "learned":
            yield position_table(f"{stack}.input_embedding.positions.weight", positions, config, self._offset(stock))
        elif self.model_type != "m2m_100":  # whose table is a buffer that is not saved
            yield computed(positions)
        if self.embedding_norm:
            yield from module(f"{stack}.input_embedding.norm", f"{stack}.layernorm_embedding")
        if self.norm_position == "pre":
            yield from module(f"{stack}.norm", f"{stack}.layer_norm")
        attentions = [("self_attn", "self_attn")] + [("cross_attn", "encoder_attn")] * (side == "decoder")
        for number in range(getattr(config, f"{side}_layers")):
            layer = f"{stack}.layers.{number}"
            for ours, theirs in attentions:
                for part in ("q_proj", "k_proj", "v_proj"):
                    yield from module(f"{layer}.{ours}.{part}", f"{layer}.{theirs}.{part}")
                yield from module(f"{layer}.{ours}.o_proj", f"{layer}.{theirs}.out_proj")
                yield from module(f"{layer}.{ours}_residual.norm", f"{layer}.{theirs}_layer_norm")
            yield from module(f"{layer}.feed_forward.up_proj", f"{layer}.fc1")
            yield from module(f"{layer}.feed_forward.down_proj", f"{layer}.fc2")
            yield from module(f"{layer}.feed_forward_residual.norm", f"{layer}.final_layer_norm")

    def _check(self, config: VanillaSeq2SeqConfig) -> None:
        """Refuse what the class cannot express, by name."""
        has_final_norm = self.norm_position == "pre"
        facts: list[tuple[str, object, object]] = [
            ("norm_position", config.norm_position, self.norm_position),
            ("final_norm", config.has_final_norm, has_final_norm),
            ("embedding_norm", config.embedding_norm, self.embedding_norm),
            ("type_vocab_size", config.type_vocab_size, 0),
        ]
        if self.positions == "sinusoidal":
            facts += [
                ("position_embedding_type", config.position_embedding_type, "sinusoidal"),
                ("sinusoidal_frequency", config.sinusoidal_frequency, self.frequency),
                ("position_offset", config.position_offset, self._offset(config)),
            ]
        if self.shared_table and self.model_type != "marian" and config.tie_word_embeddings:
            facts.append(("share_encoder_decoder_embeddings", config.share_encoder_decoder_embeddings, True))
        for name, value, needed in facts:
            refuse_unless(value == needed, name, value, f"a {self.model_type} has {needed!r}")
        names = ["pad_token_id"] + ["decoder_start_token_id"] * (self.model_type == "marian")
        for name in names:
            rule = f"a {self.model_type} needs one; set it in config.json"
            refuse_unless(getattr(config, name) is not None, name, None, rule)

    def _offset(self, config: Any) -> int:
        if self.offset is not None:
            return self.offset
        kind, pad = self.model_type, config.pad_token_id
        refuse_unless(pad is not None, "pad_token_id", None, f"positions of a {kind} begin behind it")
        return pad + 1

    def _vocabularies_in(self, stock: Any) -> dict[str, Any]:
        if self.model_type == "fsmt":
            is_shared = stock.tie_word_embeddings  # ties all three tables
            sizes = {
                "source_vocab_size": None if is_shared else stock.src_vocab_size,
                "vocab_size": stock.tgt_vocab_size,
            }
            return {"share_encoder_decoder_embeddings": is_shared, **sizes}
        if not getattr(stock, "share_encoder_decoder_embeddings", True):
            sizes = {"source_vocab_size": stock.vocab_size, "vocab_size": stock.decoder_vocab_size}
            return {"share_encoder_decoder_embeddings": False, **sizes}
        # Untied, these classes have three tables, and `shared` is no more than a name.
        return {"share_encoder_decoder_embeddings": stock.tie_word_embeddings, "vocab_size": stock.vocab_size}

    def _vocabularies_out(self, config: VanillaSeq2SeqConfig) -> dict[str, Any]:
        if self.model_type == "fsmt":
            sizes = {"src_vocab_size": config.encoder_vocab_size, "tgt_vocab_size": config.vocab_size}
            is_tied = config.tie_word_embeddings and config.share_encoder_decoder_embeddings
            return {"langs": ["source", "target"], "tie_word_embeddings": is_tied, **sizes}
        if self.model_type == "marian":
            shared = config.share_encoder_decoder_embeddings
            sizes = {"vocab_size": config.encoder_vocab_size, "decoder_vocab_size": config.vocab_size}
            return {"share_encoder_decoder_embeddings": shared, **sizes}
        return {"vocab_size": config.vocab_size}


ARCHITECTURES = (
    Seq2SeqArchitecture("marian", "Marian", lm_name="MTModel"),
    Seq2SeqArchitecture("bart", "Bart", embedding_norm=True, positions="learned", offset=2),
    Seq2SeqArchitecture("mbart", "MBart", norm_position="pre", embedding_norm=True, positions="learned", offset=2),
    Seq2SeqArchitecture(
        "m2m_100", "M2M100", norm_position="pre", frequency="tensor2tensor", offset=None, logits_bias=False
    ),
    Seq2SeqArchitecture("fsmt", "FSMT", frequency="tensor2tensor", offset=None, logits_bias=False, shared_table=False),
)


def permute_width(tensors: Tensors, order: torch.Tensor) -> Tensors:
    """The same model with the components of its residual stream in another order.

    A layer norm treats all components alike and every other weight touches them in rows or columns of its own, so
    nothing changes but the order in which numbers are added up.

    Args:
        tensors: our state dict.
        order: (D,), the old component at each new place.
    """
    return {name: _permuted(name, tensor, order) for name, tensor in tensors.items()}


def _permuted(name: str, tensor: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    module_name, part = name.split(".")[-2:]
    if module_name in ("norm", "o_proj", "down_proj"):  # what is written to the stream
        return tensor[order]
    is_read = module_name in ("embed_tokens", "lm_head", "q_proj", "k_proj", "v_proj", "up_proj")
    return tensor[:, order] if is_read and part == "weight" else tensor


def is_permuted(stock: PreTrainedConfig) -> bool:
    """Whether the width of that stock model was permuted on its way out."""
    return getattr(stock, LAYOUT_MARK, None) == "interleaved"


def to_halves(width: int) -> torch.Tensor:
    """The order (D,) that puts interleaved sines and cosines into halves; its `argsort` is the way back."""
    return torch.cat((torch.arange(0, width, 2), torch.arange(1, width, 2)))
