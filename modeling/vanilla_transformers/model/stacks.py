"""Stacks of layers: the encoder and the decoder of the 2017 paper's figure 1, from token ids to hidden states."""

from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPastAndCrossAttentions

from .attention import MultiHeadAttention, attention_implementation
from .base import VanillaPreTrainedModel
from .caches import refuse_unknown_cache, takes_cache, under_its_name
from .compatibility import capture_outputs, merge_with_config_defaults, output_recorder
from .embeddings import InputEmbedding
from .layers import VanillaLayer
from .operations import OPERATIONS
from .packed_attention import of_one_side, same_sequence
from .parallel_plans import CROSS_ATTENTION_TP_PLAN, STACK_FSDP_PLAN, STACK_PP_PLAN, STACK_TP_PLAN


class VanillaStack(VanillaPreTrainedModel):
    """Token table, input embedding, layers and final norm; `encode` runs them bidirectionally, `decode` causally.

    Args:
        num_layers: Number of layers.
        is_causal: Whether a token attends only to itself and the tokens before it.
        has_cross_attention: Whether the layers attend to an encoder's states.
        vocab_size: Number of tokens in the table, by default `config.vocab_size`.
    """

    def __init__(self, config, num_layers: int, is_causal=False, has_cross_attention=False, vocab_size=None):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(vocab_size or config.vocab_size, config.hidden_size, config.padding_row)
        self.input_embedding = InputEmbedding(config)
        self.layers: Any = nn.ModuleList(
            VanillaLayer(config, layer_idx, is_causal, has_cross_attention) for layer_idx in range(num_layers)
        )
        norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.has_final_norm else nn.Identity()
        self.norm: nn.Module = norm
        self.gradient_checkpointing = False

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if module is self.embed_tokens and self.config.scales_embeddings and not self.config.is_encoder_decoder:
            # Scaled by sqrt(D), these embeddings have variance 1; sinusoids have 1/2. With smaller embeddings a single
            # stack learns slowly, but an encoder-decoder learns faster (measured: benchmarks/LOG.md).
            padding = None if module.padding_idx is None else module.weight[module.padding_idx].clone()
            init.normal_(module.weight, std=self.config.hidden_size**-0.5)
            # `init` does not change a loaded weight, but cannot detect that a row is part of a loaded weight. So the
            # row of the padding token is zeroed only if `init.normal_` has changed it.
            if padding is not None and not torch.equal(module.weight[module.padding_idx], padding):
                init.zeros_(module.weight[module.padding_idx])

    def embed(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor:
        """Token embeddings (B, T, D) of ids (B, T), or `inputs_embeds` (B, T, D) unchanged.

        Raises:
            ValueError: If both or neither are given, the shape is wrong, or an id is not in the vocabulary.
        """
        if inputs_embeds is not None and input_ids is None:
            if inputs_embeds.ndim != 3 or inputs_embeds.shape[-1] != self.config.hidden_size:
                raise ValueError(
                    f"inputs_embeds have the shape {tuple(inputs_embeds.shape)}, but "
                    f"(B, T, {self.config.hidden_size}) is needed"
                )
            return inputs_embeds
        if inputs_embeds is not None or input_ids is None:
            raise ValueError("exactly one of input_ids and inputs_embeds is needed for each stack")
        if input_ids.ndim != 2 or input_ids.is_floating_point():
            raise ValueError(
                f"input_ids have the shape {tuple(input_ids.shape)} and are {input_ids.dtype}, but integers of the "
                "shape (B, T) are needed, also for a single sequence"
            )
        try:
            return self.embed_tokens(input_ids)
        except IndexError:
            raise ValueError(
                f"input_ids range from {input_ids.min()} to {input_ids.max()}, but the vocabulary ends at "
                f"{self.embed_tokens.num_embeddings - 1}: use the model's own tokenizer, or resize_token_embeddings"
            ) from None

    def encode(self, input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs) -> torch.Tensor:
        """Hidden states (B, S, D) of ids (B, S) or embeddings (B, S, D).

        If there are `position_ids` (B or 1, S) and no `attention_mask`, a row may pack several sequences. A sequence
        begins where a position is not the position before it + 1. Its tokens attend to each other only.
        """
        refuse_unknown_cache(kwargs)
        inputs_embeds = self.embed(input_ids, inputs_embeds)
        mask: Any = OPERATIONS.packed_mask(self, inputs_embeds, attention_mask, position_ids, kwargs)
        if mask is None:
            mask = create_bidirectional_mask(
                config=self.config,
                inputs_embeds=inputs_embeds,
                attention_mask=attention_mask,
                and_mask_function=same_sequence(attention_mask, position_ids, position_ids),
            )
        length = None  # unknown with position ids: the row may be packed
        if position_ids is None:
            length = inputs_embeds.shape[1]
            position_ids = default_position_ids(inputs_embeds, attention_mask)
        else:
            kwargs["position_ids"] = position_ids
        hidden_states = self.input_embedding(inputs_embeds, position_ids, length, token_type_ids)
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask, **kwargs)
        return self.norm(hidden_states)

    def decode(
        self,
        inputs_embeds,
        attention_mask,
        position_ids,
        past_key_values,
        use_cache,
        token_type_ids=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        **kwargs,
    ) -> tuple[torch.Tensor, Cache | None]:
        """Hidden states (B, T, D) of embeddings (B, T, D), and the cache.

        `attention_mask` (B, P + T) includes the cached tokens. If there are `position_ids` (B or 1, T), no mask and no
        cache, a row may pack several sequences, as in `encode`.
        """
        refuse_unknown_cache(kwargs)
        past = past_key_values
        if isinstance(past, EncoderDecoderCache):
            past = past.self_attention_cache
        # The mask is made before the cache, because with an empty cache transformers would not look for packed rows.
        mask: Any = None
        if past is None:
            mask = OPERATIONS.packed_mask(self, inputs_embeds, attention_mask, position_ids, kwargs)
        if mask is None:
            # The arguments are positional, because the name of the cache depends on the version of transformers.
            mask = create_causal_mask(self.config, inputs_embeds, attention_mask, past, position_ids)
        # The paged cache of continuous batching is not a `Cache`, and comes with position ids.
        past_length = past.get_seq_length() if isinstance(past, Cache) else 0
        if use_cache is None:
            use_cache = self.config.use_cache
        if use_cache and past_key_values is None:
            past_key_values = self._new_cache()
        if position_ids is None:
            position_ids = default_position_ids(inputs_embeds, attention_mask, past_length)
        else:
            kwargs["position_ids"] = position_ids
        # The length is unknown if the row may be packed (position ids, no cache), or is a tensor in a static cache.
        is_known = past is not None or "position_ids" not in kwargs
        length = inputs_embeds.shape[1] + past_length if is_known and not torch.is_tensor(past_length) else None
        hidden_states = self.input_embedding(inputs_embeds, position_ids, length, token_type_ids)
        for layer in self.layers:
            # Positional arguments, because reentrant gradient checkpointing gives no gradients to keyword arguments.
            hidden_states = layer(
                hidden_states,
                mask,
                encoder_hidden_states,
                encoder_attention_mask,
                **under_its_name(past_key_values),
                **kwargs,
            )
        return self.norm(hidden_states), past_key_values

    def _new_cache(self) -> Cache:
        if self.config.is_encoder_decoder:
            return EncoderDecoderCache(DynamicCache(config=self.config), DynamicCache(config=self.config))
        return DynamicCache(config=self.config)


class VanillaEncoderStack(VanillaStack):
    """Bidirectional layers (section 3.1, "Encoder")."""

    _tp_plan = STACK_TP_PLAN
    _pp_plan = STACK_PP_PLAN
    _fsdp_plan = STACK_FSDP_PLAN
    _can_record_outputs = {"hidden_states": VanillaLayer, "attentions": MultiHeadAttention}

    def __init__(self, config, num_layers: int):
        super().__init__(config, num_layers, vocab_size=config.encoder_vocab_size)
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
        **kwargs,
    ) -> BaseModelOutput:
        """Hidden states (B, S, D); see `VanillaStack.encode`."""
        kwargs = of_one_side(kwargs, "k")
        hidden_states = self.encode(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        return BaseModelOutput(last_hidden_state=hidden_states)


class VanillaDecoderStack(VanillaStack):
    """Causal layers with cross attention (section 3.1, "Decoder")."""

    _tp_plan = STACK_TP_PLAN | CROSS_ATTENTION_TP_PLAN
    _pp_plan = STACK_PP_PLAN
    _fsdp_plan = STACK_FSDP_PLAN
    _can_record_outputs = {
        "hidden_states": VanillaLayer,
        "attentions": output_recorder(MultiHeadAttention, 1, "self_attn"),
        "cross_attentions": output_recorder(MultiHeadAttention, 1, "cross_attn"),
    }

    def __init__(self, config, num_layers: int):
        super().__init__(config, num_layers, is_causal=True, has_cross_attention=True)
        self.post_init()

    @takes_cache
    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        encoder_position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Decode with cross attention to `encoder_hidden_states` (B, S, D); see `VanillaStack.decode`."""
        inputs_embeds = self.embed(input_ids, inputs_embeds)
        if isinstance(past_key_values, Cache) and not isinstance(past_key_values, EncoderDecoderCache):
            # Without a second cache, the keys of cross attention would be appended to the keys of self attention.
            past_key_values = EncoderDecoderCache(past_key_values, DynamicCache(config=self.config))
        encoder_mask: Any = None
        if encoder_hidden_states is not None:
            positions = None if position_ids is None else encoder_position_ids
            if past_key_values is None:
                encoder_mask = OPERATIONS.packed_mask(self, inputs_embeds, encoder_attention_mask, positions, kwargs)
            if encoder_mask is None:
                apart = same_sequence(encoder_attention_mask, position_ids, encoder_position_ids)
                encoder_mask = self.cross_attention_mask(
                    inputs_embeds, encoder_attention_mask, encoder_hidden_states, apart
                )
        hidden_states, past_key_values = self.decode(
            inputs_embeds,
            attention_mask,
            position_ids,
            past_key_values,
            use_cache,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_mask,
            **of_one_side(kwargs, "q"),
        )
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=hidden_states, **under_its_name(past_key_values)
        )

    def cross_attention_mask(self, inputs_embeds, attention_mask, encoder_hidden_states, apart=None):
        """The kernel's mask for embeddings (B, T, D) that attend to encoder states (B, S, D).

        `attention_mask` is (B, S) or `None`; `apart` is the mask function of packed rows, or `None`.
        """
        mask = create_bidirectional_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            encoder_hidden_states=encoder_hidden_states,
            and_mask_function=apart,
        )
        if apart is not None and mask is None:
            raise ValueError(
                f"{attention_implementation(self.config)} takes no mask, which packed rows need in cross attention: "
                "use sdpa, eager or flex_attention, or put one pair into each row"
            )
        return mask


def default_position_ids(
    inputs_embeds: torch.Tensor, attention_mask: torch.Tensor | None, past_length: int | torch.Tensor = 0
) -> torch.Tensor:
    """Positions (B or 1, T), counted from the first token that is not padding, so left padding changes nothing.

    Args:
        inputs_embeds: (B, T, D).
        attention_mask: (B, P + T), or `None`; a mask of four dimensions is ignored.
        past_length: Number of cached tokens P.
    """
    position_ids = (torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device) + past_length).unsqueeze(0)
    if attention_mask is None or attention_mask.ndim != 2:
        return position_ids
    first_token = attention_mask.to(position_ids.device).int().argmax(dim=-1, keepdim=True)  # (B, 1)
    return (position_ids - first_token).clamp(min=0)
