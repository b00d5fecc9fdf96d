# Copyright 2026 The vanilla_transformers authors. Licensed under the Apache License, Version 2.0.
"""The base of the three configurations.

Every family has every setting, so that transformers' BERT, GPT-2, Marian and related models convert without loss.
No `from __future__ import annotations` here: `@strict` reads the annotations, and strings would disable its checks.
"""

import difflib
import math
from typing import ClassVar, Literal

from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


class VanillaConfig(PreTrainedConfig):
    r"""
    The settings that all families have. Use one of the subclasses.

    Args:
        vocab_size: Number of tokens V.
        hidden_size: Width D of the residual stream; a multiple of `num_attention_heads`.
        num_attention_heads: Number H of heads of each attention. A head is `hidden_size / num_attention_heads` wide.
        intermediate_size: Inner width of the feed-forward blocks.
        hidden_act: Activation of the feed-forward blocks: a name in the table `ACT2FN` of transformers.
        hidden_dropout_prob: Dropout after the embeddings and after each sub-layer, before the residual sum.
        attention_probs_dropout_prob: Dropout on the attention weights.
        norm_position: `"post"` normalizes after each residual sum (2017 paper, BERT), `"pre"` before each sub-layer
            (GPT-2).
        final_norm: Whether a stack ends with a layer norm. `None`: yes if `norm_position` is `"pre"`, which needs it.
        embedding_norm: Whether the embeddings are normalized before the first layer.
        layer_norm_eps: Epsilon of each layer norm.
        position_embedding_type: `"sinusoidal"` (fixed, unlimited length), `"learned"` or `"none"`.
        sinusoidal_layout: `"interleaved"` alternates sine and cosine (2017 paper), `"halves"` has all sines first
            (tensor2tensor, Marian).
        sinusoidal_frequency: `"paper"` divides the exponents by D / 2, so that the longest wavelength is just short of
            10000 x 2 pi; `"tensor2tensor"` by D / 2 - 1, in fp32 (fairseq, M2M100).
        position_offset: Position of the first token. A learned table has this many additional rows (BART: 2).
        max_position_embeddings: Greatest sequence length with a learned table. Sinusoidal positions have no limit.
        scale_embeddings: Whether token embeddings are multiplied by `sqrt(hidden_size)`. The table of a single stack
            is then initialized with the standard deviation `hidden_size ** -0.5`. `None`: yes if positions are
            sinusoidal, because their fixed amplitude would dominate small embeddings.
        type_vocab_size: Number of token types; 0 for none.
        lm_head_bias: Whether the projection to the vocabulary has a bias.
        lm_head_act: Activation before the projection of a masked-language-model head. `None`: `hidden_act`.
        pooler: Whether the base model of the encoder family ends with a pooler (dense and `pooler_act`).
        pooler_act: Activation of the pooler: BERT's tanh, DistilBERT's relu.
        classifier_pooling: What a sequence classifier reads: `"cls"`: the first token; `"last"`: the last token that
            is not padding; `"mean"`: the mean of the tokens that are not padding.
        label_smoothing: Share of the target's probability mass that the training loss spreads evenly over all classes
            (2017 paper, section 5.4: 0.1). It is 0 in evaluation mode.
        tie_word_embeddings: Whether the token table is also the projection to the vocabulary (2017 paper, section 3.4).
        initializer_range: Standard deviation of the initial weights.
        use_cache: Whether keys and values are returned for the next decoding step.
    """

    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "cache"]
    # Names all classes of the family, so that without the package every Auto class can load a folder from any head.
    family_auto_map: ClassVar[dict[str, str]] = {}
    minima: ClassVar[dict[str, int]] = {
        "vocab_size": 1, "hidden_size": 1, "num_attention_heads": 1, "intermediate_size": 1, "num_hidden_layers": 1,
        "max_position_embeddings": 1, "position_offset": 0, "type_vocab_size": 0,
    }  # fmt: skip

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
        """Whether token embeddings are multiplied by `sqrt(hidden_size)`."""
        return self.position_embedding_type == "sinusoidal" if self.scale_embeddings is None else self.scale_embeddings

    @property
    def has_final_norm(self) -> bool:
        """Whether a stack ends with a layer norm."""
        return self.norm_position == "pre" if self.final_norm is None else self.final_norm

    @property
    def padding_row(self) -> int | None:
        """Row of the token table that stays zero: `pad_token_id`, unless it is also a begin or end token (GPT-2)."""
        ends = self.eos_token_id if isinstance(self.eos_token_id, list) else [self.eos_token_id]
        return None if self.pad_token_id in (self.bos_token_id, *ends) else self.pad_token_id

    def validate_architecture(self):
        super().validate_architecture()
        for name, least in self.minima.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least {least}")
        for name in ("layer_norm_eps", "initializer_range"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be greater than 0 and finite")
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(
                f"pad_token_id is {self.pad_token_id}, which is no token of a vocabulary of {self.vocab_size}: set "
                "it to the tokenizer's pad_token_id, or to None"
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
        """Refuse an activation that transformers does not have. The error names the most similar activation."""
        for name in ("hidden_act", "lm_head_act", "pooler_act"):
            value = getattr(self, name)
            if value is not None and value not in ACT2FN:
                nearest = difflib.get_close_matches(value, ACT2FN, n=1)
                hint = f"did you mean {nearest[0]!r}?" if nearest else f"choose one of {', '.join(sorted(ACT2FN))}"
                raise ValueError(f"{name} {value!r} is unknown: {hint}")

    def validate_problem_type(self):
        """Refuse a problem type for which there is no loss."""
        if self.problem_type not in (None, *PROBLEM_TYPES):
            raise ValueError(
                f"problem_type is {self.problem_type!r}, but must be None or one of {', '.join(PROBLEM_TYPES)}"
            )

    def validate_probabilities(self):
        """Refuse probabilities outside [0, 1)."""
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must lie in [0, 1)")
