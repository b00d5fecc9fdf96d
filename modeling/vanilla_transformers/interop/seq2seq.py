"""Marian, BART, mBART, M2M100 (NLLB) and FSMT: encoder-decoders that differ in norms, positions and embeddings."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from transformers import PreTrainedConfig, PreTrainedModel

from vanilla_transformers.interop.architecture import (
    Architecture,
    Head,
    position_table,
    refuse_unless,
    special_ids,
)
from vanilla_transformers.interop.permutation import LAYOUT_MARK
from vanilla_transformers.interop.rules import (
    Rule,
    absent_here,
    absent_there,
    computed,
    copy_of,
    flat_row,
    module,
    same,
)
from vanilla_transformers.model.configuration_vanilla import VanillaSeq2SeqConfig
from vanilla_transformers.model.modeling_seq2seq import (
    VanillaSeq2SeqForConditionalGeneration,
    VanillaSeq2SeqModel,
)


@dataclass(frozen=True)
class Seq2SeqArchitecture(Architecture):
    """The common part of Marian, BART, mBART, M2M100 and FSMT.

    Attributes:
        model_type: the model type in the config.json of transformers' model.
        class_name: the prefix of the class names in transformers.
        lm_name: the suffix of the class name of the transformers model that can generate.
        norm_position, embedding_norm: as in our configuration; a pre-norm stack also has a final norm.
        positions: the position embeddings, sinusoidal or learned.
        frequency: the formula of the sinusoids' wavelengths, as `sinusoidal_frequency` in our configuration.
        offset: the index of the first position; `None` means `pad_token_id + 1`.
        logits_bias: whether the class that can generate has a `final_logits_bias`.
        shared_table: whether the state dict has a `shared` embedding table.
        projection: the name of the weight of the language-model head.
        saves_sinusoids: whether the state dict contains the table of sinusoids.
        needed_ids: the special tokens that the configuration must set.
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
    projection: str = "lm_head.weight"
    saves_sinusoids: bool = True
    needed_ids: ClassVar[tuple[str, ...]] = ("pad_token_id",)

    config_class = VanillaSeq2SeqConfig

    @property
    def has_position_table(self) -> bool:  # type: ignore[override]
        return self.frequency == "paper"

    @property
    def heads(self) -> dict[str, Head]:  # type: ignore[override]
        return {
            "base": Head(VanillaSeq2SeqModel, f"{self.class_name}Model"),
            "seq2seq-lm": Head(VanillaSeq2SeqForConditionalGeneration, self.class_name + self.lm_name),
        }

    def config_in(self, model: PreTrainedModel, head: str) -> dict[str, Any]:
        stock: Any = model.config
        for name in ("attention_heads", "ffn_dim"):
            encoder, decoder = getattr(stock, f"encoder_{name}"), getattr(stock, f"decoder_{name}")
            refuse_unless(
                encoder == decoder,
                f"decoder_{name}",
                decoder,
                f"our encoder and decoder have one value, and encoder_{name} is {encoder}",
            )
        if self.frequency == "tensor2tensor":
            refuse_unless(
                stock.d_model % 2 == 0, "d_model", stock.d_model, "our tensor2tensor sinusoids need an even width"
            )
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
            **self.vocabularies_in(stock),
            **special_ids(stock, "decoder_start_token_id"),
        }

    def config_out(self, config: VanillaSeq2SeqConfig, head: str) -> dict[str, Any]:
        self._check(config)
        refuse_unless(
            config.layer_norm_eps == 1e-5,
            "layer_norm_eps",
            config.layer_norm_eps,
            "1e-05 is fixed in this architecture",
        )
        fields = {
            "d_model": config.hidden_size,
            "activation_function": config.hidden_act,
            "dropout": config.hidden_dropout_prob,
            "attention_dropout": config.attention_probs_dropout_prob,
            "max_position_embeddings": config.max_position_embeddings,
            "scale_embedding": config.scales_embeddings,
            "init_std": config.initializer_range,
            "forced_eos_token_id": None,
            **self.vocabularies_out(config),
            **special_ids(config, "decoder_start_token_id"),
        }
        for side in ("encoder", "decoder"):
            fields |= {
                f"{side}_layers": getattr(config, f"{side}_layers"),
                f"{side}_attention_heads": config.num_attention_heads,
                f"{side}_ffn_dim": config.intermediate_size,
                f"{side}_layerdrop": 0.0,
            }
        if self.positions == "learned":  # CTranslate2's converter reads this field of BART checkpoints
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
        yield same("lm_head.weight", self.projection)
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

    def _stack_rules(self, config, stock, stack: str, side: str) -> Iterator[Rule]:
        yield same(f"{stack}.embed_tokens.weight", f"{stack}.embed_tokens.weight")
        positions = f"{stack}.embed_positions.weight"
        if self.positions == "learned":
            yield position_table(f"{stack}.input_embedding.positions.weight", positions, config, self._offset(stock))
        elif self.saves_sinusoids:
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
        """Raises an `InteropError` if the transformers architecture cannot express a property of our configuration."""
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
        for name, value, needed in facts:
            refuse_unless(value == needed, name, value, f"a {self.model_type} has {needed!r}")
        for name in self.needed_ids:
            rule = f"a {self.model_type} needs one; set it in config.json"
            refuse_unless(getattr(config, name) is not None, name, None, rule)

    def _offset(self, config: Any) -> int:
        if self.offset is not None:
            return self.offset
        kind, pad = self.model_type, config.pad_token_id
        refuse_unless(pad is not None, "pad_token_id", None, f"the positions of a {kind} begin at pad_token_id + 1")
        return pad + 1

    def vocabularies_in(self, stock: Any) -> dict[str, Any]:
        """The fields of our configuration for vocabulary sizes and shared embedding tables."""
        # Without weight tying, the encoder, decoder and head of the model in transformers have separate tables, and no
        # module reads the table `shared`.
        return {"share_encoder_decoder_embeddings": stock.tie_word_embeddings, "vocab_size": stock.vocab_size}

    def vocabularies_out(self, config: VanillaSeq2SeqConfig) -> dict[str, Any]:
        """The fields of the transformers configuration for vocabulary sizes and tied embedding tables."""
        shared = config.share_encoder_decoder_embeddings or not config.tie_word_embeddings
        refuse_unless(shared, "share_encoder_decoder_embeddings", False, f"a {self.model_type} has True")
        return {"vocab_size": config.vocab_size, "tie_word_embeddings": config.tie_word_embeddings}


@dataclass(frozen=True)
class Marian(Seq2SeqArchitecture):
    """Marian, whose encoder and decoder may have separate embedding tables."""

    needed_ids = ("pad_token_id", "decoder_start_token_id")

    def vocabularies_in(self, stock: Any) -> dict[str, Any]:
        if stock.share_encoder_decoder_embeddings:
            return super().vocabularies_in(stock)
        sizes = {"source_vocab_size": stock.vocab_size, "vocab_size": stock.decoder_vocab_size}
        return {"share_encoder_decoder_embeddings": False, **sizes}

    def vocabularies_out(self, config: VanillaSeq2SeqConfig) -> dict[str, Any]:
        return {
            "vocab_size": config.encoder_vocab_size,
            "decoder_vocab_size": config.vocab_size,
            "share_encoder_decoder_embeddings": config.share_encoder_decoder_embeddings,
            "tie_word_embeddings": config.tie_word_embeddings,
        }

    def notes_out(self, ours: Any, stock: PreTrainedModel) -> list[str]:
        config, decoder = stock.config, stock.get_decoder()
        start = config.decoder_start_token_id
        is_last = start == config.pad_token_id == config.decoder_vocab_size - 1
        if is_last and not decoder.embed_tokens.weight[start].any():
            return super().notes_out(ours, stock)
        return [
            *super().notes_out(ours, stock),
            "CTranslate2's own converter for Marian takes a zero vector for the embedding of the start token "
            f"(here {start}) and drops the last token, so its translations would differ; use --to ctranslate2",
        ]


@dataclass(frozen=True)
class Fsmt(Seq2SeqArchitecture):
    """FSMT, which ties all three embedding tables or none.

    The head `"base"` is not supported: in transformers, the model without a head already projects to the vocabulary.
    """

    shared_table: bool = False
    projection: str = "model.decoder.output_projection.weight"

    @property
    def heads(self) -> dict[str, Head]:  # type: ignore[override]
        return {head: classes for head, classes in super().heads.items() if head != "base"}

    def vocabularies_in(self, stock: Any) -> dict[str, Any]:
        source_size = None if stock.tie_word_embeddings else stock.src_vocab_size
        sizes = {"source_vocab_size": source_size, "vocab_size": stock.tgt_vocab_size}
        return {"share_encoder_decoder_embeddings": stock.tie_word_embeddings, **sizes}

    def vocabularies_out(self, config: VanillaSeq2SeqConfig) -> dict[str, Any]:
        return {
            "langs": ["source", "target"],
            "src_vocab_size": config.encoder_vocab_size,
            "tgt_vocab_size": config.vocab_size,
            "tie_word_embeddings": config.tie_word_embeddings and config.share_encoder_decoder_embeddings,
        }

    def notes_out(self, ours: Any, stock: PreTrainedModel) -> list[str]:
        found = super().notes_out(ours, stock)
        if ours.tie_word_embeddings and not stock.config.tie_word_embeddings:
            found.append("tie_word_embeddings becomes False: a fsmt ties all three embedding tables or none")
        return found


_TENSOR2TENSOR: dict[str, Any] = {"frequency": "tensor2tensor", "offset": None, "logits_bias": False}
_LEARNED: dict[str, Any] = {"embedding_norm": True, "positions": "learned", "offset": 2}

ARCHITECTURES = (
    Marian("marian", "Marian", lm_name="MTModel"),
    Seq2SeqArchitecture("bart", "Bart", **_LEARNED),
    Seq2SeqArchitecture("mbart", "MBart", norm_position="pre", **_LEARNED),
    Seq2SeqArchitecture("m2m_100", "M2M100", norm_position="pre", saves_sinusoids=False, **_TENSOR2TENSOR),
    Fsmt("fsmt", "FSMT", **_TENSOR2TENSOR),
)
