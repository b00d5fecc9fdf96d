# Copyright 2026 The vanilla_transformers authors. Licensed under the Apache License, Version 2.0.
"""Configurations of the three families. The defaults are the architecture of each paper.

No `from __future__ import annotations` here: `@strict` reads the annotations, and strings would disable its checks.
"""

from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict

from .configuration_base import VanillaConfig
from .parallel_plans import STACK_PP_PLAN, STACK_TP_PLAN


@strict
class VanillaSeq2SeqConfig(VanillaConfig):
    r"""
    The encoder-decoder of Vaswani et al., *Attention Is All You Need* (2017), by default the base model of table 3.

    Args:
        encoder_layers: Number of encoder layers; `num_hidden_layers` is another name for it.
        decoder_layers: Number of decoder layers.
        decoder_start_token_id: First token of the decoder input. Labels that are shifted right begin with this token.
        share_encoder_decoder_embeddings: Whether source and target share one token table (2017 paper, section 3.4).
            `tie_word_embeddings` decides independently whether the projection is tied.
        source_vocab_size: Number of source tokens if the tables are not shared. `None`: `vocab_size`.

    See `VanillaConfig` for the other arguments.
    """

    model_type = "vanilla_seq2seq"
    attribute_map = {"num_hidden_layers": "encoder_layers"}
    # The encoder and the decoder have their own plans. A plan in this class would also be applied to the model that
    # contains both, where no module has the names of the plan.
    base_model_tp_plan: ClassVar[dict[str, str]] = {}
    base_model_fsdp_plan: ClassVar[dict[str, str]] = {}
    minima = VanillaConfig.minima | {"decoder_layers": 1}
    family_auto_map = {
        "AutoConfig": "configuration_vanilla.VanillaSeq2SeqConfig",
        "AutoModel": "modeling_seq2seq.VanillaSeq2SeqModel",
        "AutoModelForSeq2SeqLM": "modeling_seq2seq.VanillaSeq2SeqForConditionalGeneration",
    }

    encoder_layers: int = 6
    decoder_layers: int = 6
    scale_embeddings: bool | None = True
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 3
    decoder_start_token_id: int | None = 2
    share_encoder_decoder_embeddings: bool = True
    source_vocab_size: int | None = None

    def __new__(cls, *args, **kwargs):
        # In __post_init__ it is too late: given values look like defaults, and one name has overwritten the other.
        counts = [kwargs[name] for name in ("num_hidden_layers", "encoder_layers") if name in kwargs]
        if counts and counts[0] != counts[-1]:
            raise ValueError(
                f"num_hidden_layers is {counts[0]} and encoder_layers {counts[-1]}, but both are names of one number: "
                "give one of them; decoder_layers sets the number for the decoder"
            )
        return super().__new__(cls)

    @property
    def encoder_vocab_size(self) -> int:
        """Number of source tokens."""
        return self.vocab_size if self.source_vocab_size is None else self.source_vocab_size

    def validate_source_vocab_size(self):
        """Refuse `source_vocab_size` if the tables are shared."""
        if self.source_vocab_size is None:
            return
        if self.source_vocab_size < 1:
            raise ValueError(f"source_vocab_size is {self.source_vocab_size}, but must be at least 1")
        if self.share_encoder_decoder_embeddings:
            raise ValueError(
                f"source_vocab_size is {self.source_vocab_size}, but source and target share a table of vocab_size "
                f"{self.vocab_size}: set share_encoder_decoder_embeddings to False, or leave source_vocab_size out"
            )


@strict
class VanillaEncoderConfig(VanillaConfig):
    r"""
    The encoder of Devlin et al., *BERT* (2019), by default BERT-base.

    Args:
        num_hidden_layers: Number of layers.

    See `VanillaConfig` for the other arguments.
    """

    model_type = "vanilla_encoder"
    base_model_tp_plan: ClassVar = STACK_TP_PLAN
    base_model_pp_plan: ClassVar = STACK_PP_PLAN
    family_auto_map = {
        "AutoConfig": "configuration_vanilla.VanillaEncoderConfig",
        "AutoModel": "modeling_encoder.VanillaEncoderModel",
        "AutoModelForMaskedLM": "modeling_encoder.VanillaEncoderForMaskedLM",
        "AutoModelForSequenceClassification": "modeling_encoder.VanillaEncoderForSequenceClassification",
        "AutoModelForTokenClassification": "modeling_encoder.VanillaEncoderForTokenClassification",
        "AutoModelForQuestionAnswering": "modeling_encoder.VanillaEncoderForQuestionAnswering",
        "AutoModelForMultipleChoice": "modeling_encoder.VanillaEncoderForMultipleChoice",
    }

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    attention_probs_dropout_prob: float | int = 0.1
    embedding_norm: bool = True
    layer_norm_eps: float = 1e-12
    position_embedding_type: Literal["sinusoidal", "learned", "none"] = "learned"
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    lm_head_bias: bool = True
    pooler: bool = True
    classifier_pooling: Literal["cls", "mean", "last"] = "cls"
    use_cache: bool = False
    pad_token_id: int | None = 0


@strict
class VanillaDecoderConfig(VanillaConfig):
    r"""
    The decoder of Radford et al., *Language Models are Unsupervised Multitask Learners* (2019), by default GPT-2 small.

    Args:
        num_hidden_layers: Number of layers.

    See `VanillaConfig` for the other arguments.
    """

    model_type = "vanilla_decoder"
    base_model_tp_plan: ClassVar = STACK_TP_PLAN
    base_model_pp_plan: ClassVar = STACK_PP_PLAN
    family_auto_map = {
        "AutoConfig": "configuration_vanilla.VanillaDecoderConfig",
        "AutoModel": "modeling_decoder.VanillaDecoderModel",
        "AutoModelForCausalLM": "modeling_decoder.VanillaDecoderForCausalLM",
        "AutoModelForSequenceClassification": "modeling_decoder.VanillaDecoderForSequenceClassification",
        "AutoModelForTokenClassification": "modeling_decoder.VanillaDecoderForTokenClassification",
    }

    vocab_size: int = 50257
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    # This is GPT-2's approximation of GELU. `gelu_new` is the same function composed in Python, and three times slower.
    hidden_act: str = "gelu_pytorch_tanh"
    attention_probs_dropout_prob: float | int = 0.1
    norm_position: Literal["post", "pre"] = "pre"
    position_embedding_type: Literal["sinusoidal", "learned", "none"] = "learned"
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256


__all__ = ["VanillaConfig", "VanillaDecoderConfig", "VanillaEncoderConfig", "VanillaSeq2SeqConfig"]
