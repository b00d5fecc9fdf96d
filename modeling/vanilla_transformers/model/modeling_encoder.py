"""The encoder family: bidirectional models like BERT (Devlin et al. 2019)."""

from typing import TYPE_CHECKING

import torch
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from .attention import MultiHeadAttention
from .base import VanillaPreTrainedModel
from .compatibility import capture_outputs, merge_with_config_defaults
from .configuration_vanilla import VanillaEncoderConfig
from .heads import MaskedTokenTransform, Pooler, pool, take_positions
from .layers import VanillaLayer
from .losses import sequence_classification_loss, span_loss
from .operations import Dropout, Linear
from .parallel_plans import LM_HEAD_FSDP_PLAN, LM_HEAD_PP_PLAN, LM_HEAD_TP_PLAN
from .stacks import VanillaStack

if TYPE_CHECKING:
    # These imports name all other files that this file needs. The docstring of `base.py` explains why.
    from .caches import CACHE as CACHE
    from .configuration_base import VanillaConfig as VanillaConfig
    from .embeddings import InputEmbedding as InputEmbedding
    from .feed_forward import FeedForward as FeedForward
    from .packed_attention import PACKED_LENGTHS as PACKED_LENGTHS


class VanillaEncoderModel(VanillaStack):
    """The encoder without a head, with a pooler if `config.pooler` is true.

    Args:
        add_pooling_layer: `False` leaves the pooler out, for heads that do not use its output.
    """

    config: VanillaEncoderConfig
    _can_record_outputs = {"hidden_states": VanillaLayer, "attentions": MultiHeadAttention}

    def __init__(self, config, add_pooling_layer: bool = True):
        super().__init__(config, config.num_hidden_layers)
        self.pooler = Pooler(config) if config.pooler and add_pooling_layer else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Hidden states (B, T, D) and, with a pooler, one vector for each sequence (B, D).

        Args:
            input_ids: (B, T), or give `inputs_embeds` (B, T, D).
            attention_mask: (B, T), 0 at padding.
            token_type_ids: (B, T), zeros by default.
            position_ids: (B or 1, T). Without `attention_mask` a row may pack sequences, see `VanillaStack.encode`.
        """
        hidden_states = self.encode(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        pooled = None
        if self.pooler is not None:
            pooled = self.pooler(pool(hidden_states, self.config, attention_mask, input_ids))
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)


class VanillaEncoderForMaskedLM(VanillaPreTrainedModel):
    """The encoder with a masked-language-model head (BERT, section 3.1, task 1)."""

    config: VanillaEncoderConfig
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan = LM_HEAD_TP_PLAN
    _pp_plan = LM_HEAD_PP_PLAN
    _fsdp_plan = LM_HEAD_FSDP_PLAN

    def __init__(self, config):
        super().__init__(config)
        self.model = VanillaEncoderModel(config, add_pooling_layer=False)
        self.transform = MaskedTokenTransform(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=config.lm_head_bias)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        masked_positions: torch.LongTensor | None = None,
        return_logits: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MaskedLMOutput:
        """Logits (B, T, V) and, with labels, the loss. Labels are (B, T), -100 where there is no target.

        Args:
            masked_positions: (N,), the index b * T + t of each token to predict. The head then computes only these
                tokens, often 15 % of all: logits are (N, V), labels (N,); loss and gradients stay the same.
            return_logits: If `False` and there are labels, no logits are returned, which takes less memory.

        Raises:
            ValueError: If a masked position is outside the batch, or the labels do not have the shape (N,).
        """
        outputs = self.model(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        hidden_states = outputs.last_hidden_state
        if masked_positions is not None:
            hidden_states = take_positions(hidden_states, masked_positions, labels)
        logits, loss = self.logits_and_loss(self.transform(hidden_states), labels, num_items_in_batch, return_logits)
        others = {name: value for name, value in outputs.items() if name != "last_hidden_state"}
        return MaskedLMOutput(loss=loss, logits=logits, **others)


class VanillaEncoderClassifier(VanillaPreTrainedModel):
    """An encoder, dropout and one linear layer: the base of the classification heads.

    Args:
        num_outputs: Width of the linear layer.
        reads_sequence: Whether the head reads one (pooled) vector for each sequence, or a vector for each token.
    """

    config: VanillaEncoderConfig
    # A head whose width is not `num_labels` needs another name. With the same name, a folder that was saved from one
    # head could not be loaded as another head, because the shapes differ.
    output_name = "classifier"
    output_class: type = TokenClassifierOutput

    def __init__(self, config, num_outputs: int, reads_sequence: bool):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.reads_sequence = reads_sequence
        self.model = VanillaEncoderModel(config, add_pooling_layer=reads_sequence)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.add_module(self.output_name, Linear(config.hidden_size, num_outputs))
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput | TokenClassifierOutput | MultipleChoiceModelOutput:
        """Logits and, with labels, the loss. The docstring of each class gives their shapes.

        Args:
            input_ids: (B, T), or give `inputs_embeds` (B, T, D).
            attention_mask: (B, T), 0 at padding.
            token_type_ids: (B, T), zeros by default.
            position_ids: (B or 1, T).
            num_items_in_batch: Number of targets in the whole optimizer step.
        """
        inputs = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        logits, outputs = self.classify(*inputs, **kwargs)
        loss = None if labels is None else self.loss_of(logits, labels, num_items_in_batch)
        return self.output_class(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def classify(
        self, input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs
    ) -> tuple[torch.Tensor, BaseModelOutputWithPooling]:
        """Logits (B, outputs) of each sequence or (B, T, outputs) of each token, and the encoder's outputs."""
        outputs = self.model(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        vectors = outputs.last_hidden_state
        if self.reads_sequence:
            vectors = outputs.pooler_output
            if vectors is None:
                vectors = pool(outputs.last_hidden_state, self.config, attention_mask, input_ids)
        return self.get_submodule(self.output_name)(self.dropout(vectors)), outputs


class VanillaEncoderForSequenceClassification(VanillaEncoderClassifier):
    """The encoder with one prediction for each sequence: a class, several classes, or numbers.

    Logits are (B, num_labels), labels (B,) or (B, num_labels).
    """

    output_class = SequenceClassifierOutput

    def __init__(self, config):
        super().__init__(config, config.num_labels, reads_sequence=True)

    def loss_of(self, logits, labels, num_items_in_batch) -> torch.Tensor:
        """The loss that `config.problem_type` selects."""
        smoothing = self.training_label_smoothing
        return sequence_classification_loss(logits, labels, self.config, num_items_in_batch, smoothing)


class VanillaEncoderForTokenClassification(VanillaEncoderClassifier):
    """The encoder with one class for each token: logits are (B, T, num_labels), labels (B, T)."""

    def __init__(self, config):
        super().__init__(config, config.num_labels, reads_sequence=False)


class VanillaEncoderForMultipleChoice(VanillaEncoderClassifier):
    """The encoder with one score for each choice (BERT, section 4.4).

    Inputs are (B, choices, T), logits (B, choices), labels (B,).
    """

    output_name = "choice_score"
    output_class = MultipleChoiceModelOutput

    def __init__(self, config):
        super().__init__(config, num_outputs=1, reads_sequence=True)

    def classify(
        self, input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs
    ) -> tuple[torch.Tensor, BaseModelOutputWithPooling]:
        """Logits (B, choices), and the encoder's outputs, in which each choice is a row.

        Raises:
            ValueError: If the inputs have no dimension for the choices.
        """
        num_choices = _num_choices(input_ids, inputs_embeds)
        inputs = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        rows = (None if tensor is None else tensor.flatten(0, 1) for tensor in inputs)
        scores, outputs = super().classify(*rows, **kwargs)
        return scores.view(-1, num_choices), outputs


class VanillaEncoderForQuestionAnswering(VanillaEncoderClassifier):
    """The encoder that predicts the start and the end of the answer in a text (BERT, section 4.2)."""

    output_name = "qa_outputs"  # PEFT expects this name

    def __init__(self, config):
        super().__init__(config, num_outputs=2, reads_sequence=False)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.LongTensor | None = None,
        end_positions: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> QuestionAnsweringModelOutput:
        """Logits (B, T) of the answer's start and of its end and, with both positions (B,), the loss."""
        inputs = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        logits, outputs = self.classify(*inputs, **kwargs)
        start_logits, end_logits = (ends.contiguous() for ends in logits.unbind(-1))
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = span_loss(
                start_logits,
                end_logits,
                start_positions,
                end_positions,
                attention_mask,
                num_items_in_batch,
                label_smoothing=self.training_label_smoothing,
            )
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def _num_choices(input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> int:
    """Number of choices of each row. It is 1 if there is no input: the encoder then raises the error."""
    tensor, shape = (input_ids, "(B, choices, T)") if inputs_embeds is None else (inputs_embeds, "(B, choices, T, D)")
    if tensor is not None and tensor.ndim != shape.count(",") + 1:
        raise ValueError(
            f"the inputs have the shape {tuple(tensor.shape)}, but one of {shape} is needed: stack the choices of each "
            "row, also for a single row"
        )
    return 1 if tensor is None else tensor.shape[1]


__all__ = [
    "VanillaEncoderForMaskedLM",
    "VanillaEncoderForMultipleChoice",
    "VanillaEncoderForQuestionAnswering",
    "VanillaEncoderForSequenceClassification",
    "VanillaEncoderForTokenClassification",
    "VanillaEncoderModel",
]
