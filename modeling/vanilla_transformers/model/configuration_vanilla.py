# Copyright 2026 The vanilla_transformers authors. Licensed under the Apache License, Version 2.0.
"""Configurations of the three families.

The defaults are the architecture of each paper. Each knob can be turned on each family, so that stock checkpoints of
BERT, GPT-2, Marian and their kin fit without loss. This module must not postpone the evaluation of its annotations:
`@strict` reads them, and strings would switch its type checks off.
"""

import difflib
import math
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

# Plans of one stack and of the language-model heads. Tensor parallelism: a rank holds some heads and some of the inner
# width; pipeline: what goes in and out of each stage; FSDP: what is gathered, and what stays gathered.
STACK_TP_PLAN = {
    "layers.*.self_attn.q_proj": "colwise",
    "layers.*.self_attn.k_proj": "colwise",
    "layers.*.self_attn.v_proj": "colwise",
    "layers.*.self_attn.o_proj": "rowwise",
    "layers.*.feed_forward.up_proj": "colwise",
    "layers.*.feed_forward.down_proj": "rowwise",
}
CROSS_ATTENTION_TP_PLAN = {
    "layers.*.cross_attn.q_proj": "colwise",
    "layers.*.cross_attn.k_proj": "colwise",
    "layers.*.cross_attn.v_proj": "colwise",
    "layers.*.cross_attn.o_proj": "rowwise",
}
STACK_PP_PLAN: dict[str, Any] = {
    "embed_tokens": (["input_ids"], ["inputs_embeds"]),
    "input_embedding": (["inputs_embeds"], ["hidden_states"]),
    "layers": (["hidden_states", "attention_mask"], ["hidden_states"]),
    "norm": (["hidden_states"], ["hidden_states"]),
}
STACK_FSDP_PLAN = {"embed_tokens": "free_full_weight", "layers.*": "free_full_weight", "norm": "keep_full_weight"}
LM_HEAD_TP_PLAN = {"lm_head": "colwise_gather_output"}
LM_HEAD_PP_PLAN: dict[str, Any] = {"lm_head": (["hidden_states"], ["logits"])}
LM_HEAD_FSDP_PLAN = {"lm_head": "keep_full_weight"}

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


class VanillaConfig(PreTrainedConfig):
    r"""
    What the three families have in common. Use one of its subclasses.

    Args:
        vocab_size: Number of tokens V.
        hidden_size: Width D of the residual stream; a multiple of `num_attention_heads`.
        num_attention_heads: Heads H of each attention; each is `hidden_size / num_attention_heads` wide.
        intermediate_size: Inner width of the feed-forward blocks.
        hidden_act: Activation of the feed-forward blocks, a name that transformers knows.
        hidden_dropout_prob: Dropout after the embeddings and after each sub-layer, before the residual sum.
        attention_probs_dropout_prob: Dropout on the attention weights.
        norm_position: `"post"` normalizes after each residual sum (2017 paper, BERT), `"pre"` before each sub-layer
            (GPT-2).
        final_norm: Whether a stack ends with a layer norm. `None`: where `norm_position` is `"pre"`, which needs it.
        embedding_norm: Whether the embeddings are normalized before the first layer.
        layer_norm_eps: Epsilon of each layer norm.
        position_embedding_type: `"sinusoidal"` (fixed, unlimited length), `"learned"` or `"none"`.
        sinusoidal_layout: `"interleaved"` alternates sine and cosine (2017 paper), `"halves"` has all sines first
            (tensor2tensor, Marian).
        sinusoidal_frequency: `"paper"` divides the exponents by D / 2, so that the longest wavelength is just short of
            10000 x 2 pi; `"tensor2tensor"` by D / 2 - 1, in fp32 (fairseq, M2M100).
        position_offset: Number that the first token's position has; a learned table gets as many rows more (BART: 2).
        max_position_embeddings: Longest sequence of a learned table. Sinusoids go on beyond it.
        scale_embeddings: Whether token embeddings are multiplied by `sqrt(hidden_size)`; the table of a model of one
            stack then starts with the standard deviation `hidden_size ** -0.5`. `None`: where positions are
            sinusoidal, whose fixed amplitude would drown small embeddings.
        type_vocab_size: Number of token types; 0 for none.
        lm_head_bias: Whether the projection to the vocabulary has a bias.
        lm_head_act: Activation before the projection of a masked-language-model head. `None`: `hidden_act`.
        pooler: Whether the base model of the encoder family ends with a pooler (dense and `pooler_act`).
        pooler_act: Activation of the pooler: BERT's tanh, DistilBERT's relu.
        classifier_pooling: What a sequence classifier reads: `"cls"` the first token, `"last"` the last token that is
            not padding, `"mean"` the mean over tokens that are not padding.
        label_smoothing: Share of the target's probability mass that the training loss spreads evenly over all classes
            (2017 paper, section 5.4: 0.1). Like dropout, it acts in training mode only.
        tie_word_embeddings: Whether the projection to the vocabulary is the token table (2017 paper, section 3.4).
        initializer_range: Standard deviation of the initial weights.
        use_cache: Whether keys and values are returned for the next step of a generation.
    """

    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "cache"]
    # Each class of the family, so that a folder saved from any head loads through every Auto class without the package.
    family_auto_map: ClassVar[dict[str, str]] = {}

    vocab_size: int = 37000
    hidden_size: int = 512
    num_attention_heads: int = 8
    intermediate_size: int = 2048
    hidden_act: str = "relu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.0
    norm_position: Literal["post", "pre"] = "post"
    final_norm: bool | None = None
    embedding_norm: bool = False
    layer_norm_eps: float = 1e-5
    position_embedding_type: Literal["sinusoidal", "learned", "none"] = "sinusoidal"
    sinusoidal_layout: Literal["interleaved", "halves"] = "interleaved"
    sinusoidal_frequency: Literal["paper", "tensor2tensor"] = "paper"
    position_offset: int = 0
    max_position_embeddings: int = 1024
    scale_embeddings: bool | None = None
    type_vocab_size: int = 0
    lm_head_bias: bool = False
    lm_head_act: str | None = None
    pooler: bool = False
    pooler_act: str = "tanh"
    classifier_pooling: Literal["cls", "mean", "last"] = "last"
    label_smoothing: float | int = 0.0
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs):
        auto_map = kwargs.pop("auto_map", None) or dict(self.family_auto_map)
        super().__post_init__(auto_map=auto_map, **kwargs)

    @property
    def scales_embeddings(self) -> bool:
        """Whether token embeddings are multiplied: `scale_embeddings`, or what fixed sinusoids call for."""
        return self.position_embedding_type == "sinusoidal" if self.scale_embeddings is None else self.scale_embeddings

    @property
    def has_final_norm(self) -> bool:
        """Whether a stack ends with a layer norm: `final_norm`, or what `norm_position` calls for."""
        return self.norm_position == "pre" if self.final_norm is None else self.final_norm

    @property
    def padding_row(self) -> int | None:
        """Row of the token table that stays zero: that of `pad_token_id`, unless texts begin or end with it (GPT-2)."""
        ends = self.eos_token_id if isinstance(self.eos_token_id, list) else [self.eos_token_id]
        return None if self.pad_token_id in (self.bos_token_id, *ends) else self.pad_token_id

    def validate_architecture(self):
        super().validate_architecture()
        for name in self._positive_fields:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for name in ("position_offset", "type_vocab_size"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative")
        for name in ("layer_norm_eps", "initializer_range"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be greater than 0 and finite")
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(
                f"pad_token_id is {self.pad_token_id}, which is no token of a vocabulary of {self.vocab_size}: set "
                "it to the tokenizer's, or to None"
            )
        if self.sinusoidal_frequency == "tensor2tensor" and (self.hidden_size < 4 or self.hidden_size % 2):
            raise ValueError(
                f"hidden_size is {self.hidden_size}, but sinusoidal_frequency 'tensor2tensor' needs an even number of "
                "at least 4"
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size}, which num_attention_heads {self.num_attention_heads} does not "
                "divide: choose a multiple, so that all heads have the same width"
            )

    def validate_activations(self):
        """Refuse an activation that transformers does not know, naming the nearest one that it does."""
        for name in ("hidden_act", "lm_head_act", "pooler_act"):
            value = getattr(self, name)
            if value is not None and value not in ACT2FN:
                nearest = difflib.get_close_matches(value, ACT2FN, n=1)
                hint = f"did you mean {nearest[0]!r}?" if nearest else f"choose one of {', '.join(sorted(ACT2FN))}"
                raise ValueError(f"{name} {value!r} is unknown: {hint}")

    def validate_problem_type(self):
        """Refuse a problem that no loss is made for."""
        if self.problem_type not in (None, *PROBLEM_TYPES):
            raise ValueError(
                f"problem_type is {self.problem_type!r}, but must be None or one of {', '.join(PROBLEM_TYPES)}"
            )

    def validate_probabilities(self):
        """Refuse probabilities outside [0, 1)."""
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must lie in [0, 1)")

    @property
    def _positive_fields(self) -> tuple[str, ...]:
        sizes = ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings")
        return (*sizes, "num_hidden_layers")


@strict
class VanillaSeq2SeqConfig(VanillaConfig):
    r"""
    The encoder-decoder of Vaswani et al., *Attention Is All You Need* (2017), by default the base model of table 3.

    Args:
        encoder_layers: Number of encoder layers; `num_hidden_layers` is another name for it.
        decoder_layers: Number of decoder layers.
        decoder_start_token_id: Token that a target begins with; labels shifted right begin with it.
        share_encoder_decoder_embeddings: Whether source and target have one token table (2017 paper, section 3.4),
            whatever `tie_word_embeddings` says of the projection.
        source_vocab_size: Number of source tokens where the tables are not shared. `None`: `vocab_size`.

    See [`VanillaConfig`] for the others.
    """

    model_type = "vanilla_seq2seq"
    attribute_map = {"num_hidden_layers": "encoder_layers"}
    # The two stacks carry their own plans: a plan here would be applied to the whole model as well, where its names
    # match nothing.
    base_model_tp_plan: ClassVar = {}
    base_model_fsdp_plan: ClassVar = {}
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
        # Not in __post_init__, where the one given cannot be told from a default, and the other has overwritten it.
        counts = [kwargs[name] for name in ("num_hidden_layers", "encoder_layers") if name in kwargs]
        if counts and counts[0] != counts[-1]:
            raise ValueError(
                f"num_hidden_layers is {counts[0]} and encoder_layers {counts[-1]}, but both are names of one number: "
                "give one of them; the decoder has decoder_layers"
            )
        return super().__new__(cls)

    @property
    def _positive_fields(self) -> tuple[str, ...]:
        return (*super()._positive_fields, "decoder_layers")

    @property
    def encoder_vocab_size(self) -> int:
        """Number of source tokens: `source_vocab_size`, or `vocab_size`."""
        return self.vocab_size if self.source_vocab_size is None else self.source_vocab_size

    def validate_source_vocab_size(self):
        """Refuse a source vocabulary of its own in a shared table."""
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

    See [`VanillaConfig`] for the others.
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

    See [`VanillaConfig`] for the others.
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
    # GPT-2's approximation of GELU; `gelu_new` is the same function composed in Python, three times slower.
    hidden_act: str = "gelu_pytorch_tanh"
    attention_probs_dropout_prob: float | int = 0.1
    norm_position: Literal["post", "pre"] = "pre"
    position_embedding_type: Literal["sinusoidal", "learned", "none"] = "learned"
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256


__all__ = ["VanillaConfig", "VanillaDecoderConfig", "VanillaEncoderConfig", "VanillaSeq2SeqConfig"]
