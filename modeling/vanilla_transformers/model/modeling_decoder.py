"""The decoder family: causal models like GPT-2 (Radford et al. 2019)."""

from typing import TYPE_CHECKING

import torch
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from .attention import MultiHeadAttention
from .base import VanillaPreTrainedModel
from .caches import CACHE, takes_cache, under_its_name
from .compatibility import capture_outputs, let_trainer_shift_labels, merge_with_config_defaults
from .configuration_vanilla import VanillaDecoderConfig
from .generation import VanillaGenerationMixin
from .heads import kept_positions, pool
from .layers import VanillaLayer
from .losses import sequence_classification_loss, shift_labels_left
from .operations import Dropout, Linear
from .parallel_plans import LM_HEAD_FSDP_PLAN, LM_HEAD_PP_PLAN, LM_HEAD_TP_PLAN
from .stacks import VanillaStack

if TYPE_CHECKING:
    # These imports name all other files that this file needs. The docstring of `base.py` explains why.
    from .configuration_base import VanillaConfig as VanillaConfig
    from .embeddings import InputEmbedding as InputEmbedding
    from .feed_forward import FeedForward as FeedForward
    from .packed_attention import PACKED_LENGTHS as PACKED_LENGTHS


class VanillaDecoderModel(VanillaStack):
    """The decoder without a head, from token ids to hidden states."""

    config: VanillaDecoderConfig
    _can_record_outputs = {"hidden_states": VanillaLayer, "attentions": MultiHeadAttention}

    def __init__(self, config):
        super().__init__(config, config.num_hidden_layers, is_causal=True)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        """Scale projections into the residual stream by 1 / sqrt(number of sub-layers) (GPT-2 paper, section 2.3)."""
        super()._init_weights(module)
        # `module` is compared with the projections, not with the layers: for model classes outside its package,
        # transformers does not call this method with modules whose parameters all belong to submodules.
        if any(module in (layer.self_attn.o_proj, layer.feed_forward.down_proj) for layer in self.layers):
            std = self.config.initializer_range * (2 * self.config.num_hidden_layers) ** -0.5
            init.normal_(module.weight, mean=0.0, std=std)

    @takes_cache
    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPast:
        """Hidden states (B, T, D).

        Args:
            input_ids: (B, T), or give `inputs_embeds` (B, T, D).
            attention_mask: (B, P + T), 0 at padding.
            position_ids: (B or 1, T). Without `attention_mask` a row may pack sequences, see `VanillaStack.decode`.
            past_key_values: Keys and values of the P past tokens.
            token_type_ids: (B, T), zeros by default; only used if `config.type_vocab_size` is not 0.
        """
        hidden_states, past_key_values = self.decode(
            self.embed(input_ids, inputs_embeds),
            attention_mask,
            position_ids,
            past_key_values,
            use_cache,
            token_type_ids=token_type_ids,
            **kwargs,
        )
        return BaseModelOutputWithPast(last_hidden_state=hidden_states, **under_its_name(past_key_values))


class VanillaDecoderForCausalLM(VanillaPreTrainedModel, VanillaGenerationMixin):
    """The decoder with a language-model head."""

    config: VanillaDecoderConfig
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan = LM_HEAD_TP_PLAN
    _pp_plan = LM_HEAD_PP_PLAN
    _fsdp_plan = LM_HEAD_FSDP_PLAN

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        let_trainer_shift_labels(cls)

    def __init__(self, config):
        super().__init__(config)
        self.model = VanillaDecoderModel(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=config.lm_head_bias)
        self.post_init()

    @takes_cache
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        return_logits: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        """Logits (B, T, V) and, with labels, the loss.

        Args:
            labels: (B, T), aligned with `input_ids` (the model shifts them); -100 where there is no target.
            logits_to_keep: Number of last positions that get logits, or their indices; 0 for all.
            num_items_in_batch: Number of targets in the whole optimizer step.
            return_logits: If `False` and there are labels, no logits are returned, which takes less memory.
            shift_labels: A further keyword argument, instead of `labels`: labels (B, T) that are already shifted.
        """
        # Not a parameter, because in evaluation the Trainer requires a value for each parameter named "*label*".
        shift_labels: torch.Tensor | None = kwargs.pop("shift_labels", None)
        has_labels = labels is not None or shift_labels is not None
        inputs = (input_ids, attention_mask, position_ids, past_key_values, inputs_embeds)
        outputs = self.model(*inputs, use_cache=False if has_labels else use_cache, **kwargs)
        hidden_states = kept_positions(outputs.last_hidden_state, logits_to_keep)
        targets = shift_labels
        if targets is None and labels is not None:
            targets = shift_labels_left(labels, hidden_states.shape[:-1])
        logits, loss = self.logits_and_loss(hidden_states, targets, num_items_in_batch, return_logits)
        others = {name: value for name, value in outputs.items() if name != "last_hidden_state"}
        return CausalLMOutputWithPast(loss=loss, logits=logits, **others)


let_trainer_shift_labels(VanillaDecoderForCausalLM)


class VanillaDecoderClassifier(VanillaPreTrainedModel):
    """A decoder and one linear layer: the base of the classification heads.

    Args:
        has_bias: Whether the linear layer has a bias.
    """

    config: VanillaDecoderConfig
    output_class: type

    def __init__(self, config, has_bias: bool):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = VanillaDecoderModel(config)
        self.score = Linear(config.hidden_size, config.num_labels, bias=has_bias)
        self.post_init()

    @takes_cache
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutputWithPast | TokenClassifierOutput:
        """Logits and, with labels, the loss. The docstring of each class gives their shapes."""
        inputs = (input_ids, attention_mask, position_ids, past_key_values, inputs_embeds)
        outputs = self.model(*inputs, use_cache=use_cache if labels is None else False, **kwargs)
        logits = self.classify(outputs.last_hidden_state, attention_mask, input_ids)
        loss = None if labels is None else self.loss_of(logits, labels, num_items_in_batch)
        cache = under_its_name(outputs.get(CACHE)) if self.output_class is SequenceClassifierOutputWithPast else {}
        return self.output_class(
            loss=loss, logits=logits, **cache, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class VanillaDecoderForSequenceClassification(VanillaDecoderClassifier):
    """The decoder with one prediction for each sequence, read from the last token by default.

    Logits are (B, num_labels), labels (B,) or (B, num_labels).
    """

    output_class = SequenceClassifierOutputWithPast

    def __init__(self, config):
        super().__init__(config, has_bias=False)

    def classify(self, hidden_states, attention_mask, input_ids) -> torch.Tensor:
        """(B, T, D) -> (B, num_labels)."""
        return self.score(pool(hidden_states, self.config, attention_mask, input_ids))

    def loss_of(self, logits, labels, num_items_in_batch) -> torch.Tensor:
        """The loss that `config.problem_type` selects."""
        smoothing = self.training_label_smoothing
        return sequence_classification_loss(logits, labels, self.config, num_items_in_batch, smoothing)


class VanillaDecoderForTokenClassification(VanillaDecoderClassifier):
    """The decoder with one class for each token: logits are (B, T, num_labels), labels (B, T)."""

    output_class = TokenClassifierOutput

    def __init__(self, config):
        super().__init__(config, has_bias=True)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def classify(self, hidden_states, attention_mask, input_ids) -> torch.Tensor:
        """(B, T, D) -> (B, T, num_labels)."""
        return self.score(self.dropout(hidden_states))


__all__ = [
    "VanillaDecoderForCausalLM",
    "VanillaDecoderForSequenceClassification",
    "VanillaDecoderForTokenClassification",
    "VanillaDecoderModel",
]
