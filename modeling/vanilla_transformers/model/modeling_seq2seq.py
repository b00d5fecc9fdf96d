"""The original encoder-decoder (Vaswani et al. 2017)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from .base import VanillaPreTrainedModel
from .caches import CACHE, takes_cache, under_its_name
from .configuration_vanilla import VanillaSeq2SeqConfig
from .generation import VanillaGenerationMixin
from .heads import kept_positions
from .losses import shift_labels_right
from .operations import Linear
from .parallel_plans import LM_HEAD_FSDP_PLAN, LM_HEAD_PP_PLAN, LM_HEAD_TP_PLAN
from .stacks import VanillaDecoderStack, VanillaEncoderStack

if TYPE_CHECKING:
    # These imports name all other files that this file needs. The docstring of `base.py` explains why.
    from .attention import MultiHeadAttention as MultiHeadAttention
    from .compatibility import find as find
    from .configuration_base import VanillaConfig as VanillaConfig
    from .embeddings import InputEmbedding as InputEmbedding
    from .feed_forward import FeedForward as FeedForward
    from .layers import VanillaLayer as VanillaLayer
    from .operations import Dropout as Dropout
    from .packed_attention import PACKED_LENGTHS as PACKED_LENGTHS


class VanillaSeq2SeqModel(VanillaPreTrainedModel):
    """Encoder and decoder (2017 paper, figure 1), without the projection to the vocabulary."""

    config: VanillaSeq2SeqConfig
    _tied_weights_keys = {"decoder.embed_tokens.weight": "encoder.embed_tokens.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.encoder = VanillaEncoderStack(config, config.encoder_layers)
        self.decoder = VanillaDecoderStack(config, config.decoder_layers)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.embed_tokens

    def set_input_embeddings(self, value):
        self.encoder.embed_tokens = value
        if self.config.share_encoder_decoder_embeddings:
            self.decoder.embed_tokens = value

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Tie the two token tables if they are shared. `tie_word_embeddings` ties only the projection."""
        if all_submodels:
            return super().get_expanded_tied_weights_keys(all_submodels=True)
        return dict(self._tied_weights_keys) if self.config.share_encoder_decoder_embeddings else {}

    @takes_cache
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        decoder_position_ids: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqModelOutput:
        """Hidden states of the target (B, T, D) and of the source (B, S, D).

        Args:
            input_ids: Source (B, S), or give `inputs_embeds` (B, S, D), or `encoder_outputs`.
            attention_mask: (B, S), 0 at padding.
            decoder_input_ids: Target (B, T), or give `decoder_inputs_embeds` (B, T, D).
            decoder_attention_mask: (B, P + T), 0 at padding.
            encoder_outputs: Outputs of an earlier call of the encoder, a `BaseModelOutput` or a tuple.
            past_key_values: Keys and values of the P past target tokens, and of the source.
            token_type_ids: (B, S), zeros by default; only used if `config.type_vocab_size` is not 0.
            position_ids, decoder_position_ids: (B or 1, S) and (B or 1, T). If both are given, without masks, a row may
                pack several pairs, sources and targets in the same order: target n attends to source n only.
            cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k: Further keyword arguments: the lengths of packed
                sequences for a kernel that reads them, "q" for the targets, "k" for the sources.
        """
        if encoder_outputs is None:
            encoder_outputs = self.encoder(
                input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs
            )
        elif isinstance(encoder_outputs, tuple):
            encoder_outputs = BaseModelOutput(*encoder_outputs)
        outputs = self.decoder(
            decoder_input_ids,
            decoder_attention_mask,
            decoder_position_ids,
            encoder_hidden_states=encoder_outputs.last_hidden_state,
            encoder_attention_mask=attention_mask,
            encoder_position_ids=position_ids,
            **under_its_name(past_key_values),
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=outputs.last_hidden_state,
            **under_its_name(outputs.get(CACHE)),
            decoder_hidden_states=outputs.hidden_states,
            decoder_attentions=outputs.attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )


class VanillaSeq2SeqForConditionalGeneration(VanillaPreTrainedModel, VanillaGenerationMixin):
    """The encoder-decoder with its projection to the vocabulary, for translation and other text-to-text tasks."""

    config: VanillaSeq2SeqConfig
    # The base model ties the decoder's table to the encoder's table, so all three are one matrix (section 3.4).
    _tied_weights_keys = {"lm_head.weight": "model.encoder.embed_tokens.weight"}
    _tp_plan = LM_HEAD_TP_PLAN
    _pp_plan = LM_HEAD_PP_PLAN
    _fsdp_plan = LM_HEAD_FSDP_PLAN

    def __init__(self, config):
        super().__init__(config)
        self.model = VanillaSeq2SeqModel(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=config.lm_head_bias)
        if not config.share_encoder_decoder_embeddings:
            self._tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}
        self.post_init()
        # transformers would infer a loss type that shifts labels. Here the labels are the decoder's targets already.
        self.loss_type = "ForMaskedLM"

    def resize_token_embeddings(self, *args, **kwargs) -> nn.Embedding:
        """Resize as in transformers, if source and target share one token table.

        Raises:
            ValueError: If source and target have separate token tables.
        """
        if not self.config.share_encoder_decoder_embeddings:
            raise ValueError(
                "share_encoder_decoder_embeddings is False, so there are two vocabularies, but resize_token_embeddings "
                "takes one size: make a new model with other vocab_size and source_vocab_size, and copy the rows"
            )
        return super().resize_token_embeddings(*args, **kwargs)

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Decoder input (B, T) of labels (B, T), see `shift_labels_right`."""
        return shift_labels_right(labels, self.config.pad_token_id, self.config.decoder_start_token_id)

    @takes_cache
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        return_logits: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqLMOutput:
        """Logits (B, T, V) and, with labels, the loss.

        Args:
            labels: (B, T), the target, -100 at padding. Without decoder input, the labels shifted right are used.
            logits_to_keep: Number of last target positions that get logits, or their indices; 0 for all.
            num_items_in_batch: Number of targets in the whole optimizer step.
            return_logits: If `False` and there are labels, no logits are returned, which takes less memory.

        See [`VanillaSeq2SeqModel.forward`] for the other arguments.
        """
        if labels is not None:
            use_cache = False
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)  # type: ignore[assignment]
        source = (input_ids, attention_mask)
        target = (decoder_input_ids, decoder_attention_mask, encoder_outputs, past_key_values)
        embeds = (inputs_embeds, decoder_inputs_embeds)
        outputs = self.model(*source, *target, *embeds, use_cache=use_cache, **kwargs)
        hidden_states = kept_positions(outputs.last_hidden_state, logits_to_keep)
        logits, loss = self.logits_and_loss(hidden_states, labels, num_items_in_batch, return_logits)
        others = {name: value for name, value in outputs.items() if name != "last_hidden_state"}
        return Seq2SeqLMOutput(loss=loss, logits=logits, **others)


__all__ = ["VanillaSeq2SeqForConditionalGeneration", "VanillaSeq2SeqModel"]
