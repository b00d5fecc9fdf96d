"""The decoder of a model, one step at a time. The alternatives (beams) of a sentence share keys and values.

The K alternatives of a sentence are K queries of one row, not K rows. They attend to one copy of the keys and values of
source and prompt, and to one cache of the tokens of all alternatives. A mask lets each alternative see its own tokens
only. So no keys are copied when a beam is replaced.

Shapes: B sentences, K alternatives, P prompt length, S source length, N slots of the cache, D width, H heads,
W head width.
"""

from typing import Any

import torch
from torch.nn import functional
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, EncoderDecoderCache

from vanilla_transformers.fast.fused_layers import FusedLayers, can_fuse

_FREE_STEPS = 8
"""Minimum number of decoding steps for which a growing cache buffer gets free slots."""


_FEW_STEPS = 10
"""Packing the weights takes about as much time as it saves in this many steps. Searches of at most this many steps do
not pack them."""

_MOST_IN_FP32 = 2**23
"""With bf16 weights, keys and values stay in fp32 up to this many bytes. While they fit into the cache, fp32 is faster;
beyond it memory bandwidth decides, and bf16 is faster."""

_WHOLE_SLOTS = 16
"""Buffers hold a multiple of this many slots. A bf16 product reads a buffer in place, but copies a slice."""


class SlotLayer(DynamicLayer):
    """Keys and values (B, H, N, W) of one layer, in buffers (B, H, capacity, W).

    Args:
        num_free: Minimum number of free slots after a buffer has grown. A long buffer gets half as many free slots as
            it has used slots.

    Attributes:
        is_whole: Whether `update` returns the whole buffer, unused slots (zeros) included, instead of a slice.
    """

    def __init__(self, num_free: int):
        super().__init__()
        self.num_free = num_free
        self.is_whole = False
        self.buffers: list[torch.Tensor] = []

    @property
    def capacity(self) -> int:
        """Capacity of the buffers in slots."""
        return self.buffers[0].shape[2] if self.buffers else 0

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        """Append keys and values (B, H, T, W). Return all keys and values (B, H, N or capacity, W)."""
        new = key_states, value_states
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        if not self.buffers:
            self.buffers = [states[:, :, :0] for states in new]
            self.is_initialized = True
        if end > self.capacity:
            self._grow([buffer[:, :, :start] for buffer in self.buffers], end)
        for buffer, states in zip(self.buffers, new, strict=True):
            buffer[:, :, start:end] = states
        self._show(end)
        return self.buffers if self.is_whole else (self.keys, self.values)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the sentences with the given indices."""
        self.buffers = [buffer[indices] for buffer in self.buffers]
        self._show(self.get_seq_length())

    def compute_in(self, dtype: torch.dtype) -> None:
        """Convert the buffers to another dtype."""
        self.buffers = [buffer.to(dtype) for buffer in self.buffers]
        self._show(self.get_seq_length())

    def become_whole(self, dtype: torch.dtype) -> None:
        """Convert the buffers to a dtype, and return whole buffers from `update` from now on."""
        self.is_whole = True
        length = self.get_seq_length()
        self._grow([buffer[:, :, :length].to(dtype) for buffer in self.buffers], length)
        self._show(length)

    def capacity_for(self, length: int) -> int:
        """Capacity of a new buffer for `length` slots."""
        if self.is_whole:
            return -(-length // _WHOLE_SLOTS) * _WHOLE_SLOTS
        return length + max(self.num_free, length // 2)

    def keep_slots(self, slots: torch.Tensor) -> None:
        """Keep the slots with the given indices (B, N'). Each sentence has its own indices."""
        length = slots.shape[1]
        num_rows, num_heads, capacity, width = self.buffers[0].shape
        heads = torch.arange(num_rows * num_heads, device=slots.device).view(num_rows, num_heads, 1)
        indices = (heads * capacity + slots[:, None]).flatten()
        shape = num_rows, num_heads, length, width
        kept = [buffer.view(-1, width)[indices].view(shape) for buffer in self.buffers]
        self._grow(kept, length)
        self._show(length)

    def _grow(self, written: list[torch.Tensor], length: int) -> None:
        capacity = self.capacity_for(length)
        for number, old in enumerate(written):
            self.buffers[number] = old.new_empty(*old.shape[:2], capacity, old.shape[3])
            self.buffers[number][:, :, : old.shape[2]] = old
            if self.is_whole:
                self.buffers[number][:, :, old.shape[2] :] = 0

    def _show(self, length: int) -> None:
        self.keys, self.values = (buffer[:, :, :length] for buffer in self.buffers)


class StepDecoder:
    """The decoder of a model, one token of each alternative at a time.

    Call `read_prompt` once, then `step` for each new token; `keep` between steps removes sentences.

    There are two modes. In the fused mode `FusedLayers` computes the steps. On a CPU, keys and values are then in fp32;
    those of a decoder with packed bf16 weights change to bf16 and to whole buffers (`is_whole`) when they exceed
    `_MOST_IN_FP32`. In the other mode the modules of the model compute the steps.

    Args:
        model: An encoder-decoder or a decoder with a language-model head, with sdpa or eager attention.
        prompt: Token ids (B, P).
        num_alternatives: K.
        num_steps: Maximum number of steps. The fused mode needs more than `_FEW_STEPS`.
        attention_mask: (B, S) of the source, or (B, P) of a decoder's prompt, 0 at padding; or `None`.
        position_ids: (B, P) of a decoder's prompt, or `None`.
        encoder_states: (B, S, D) of an encoder-decoder, or `None`.
    """

    def __init__(
        self,
        model: Any,
        prompt: torch.Tensor,
        num_alternatives: int,
        num_steps: int,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        encoder_states: torch.Tensor | None,
    ):
        self.stack = model.model if encoder_states is None else model.model.decoder
        self.head, self.vocab_size = model.lm_head, model.config.vocab_size
        is_fused = num_steps > _FEW_STEPS and can_fuse(self.stack, self.head)
        self.fused = FusedLayers(self.stack, self.head) if is_fused else None
        self.prompt = prompt
        self.length = prompt.shape[1]
        self.position_ids: Any = position_ids
        self.num_alternatives = num_alternatives
        self.encoder_states: Any = encoder_states
        self.prompt_mask = attention_mask if encoder_states is None else None
        self.source_mask: torch.Tensor | None = None
        if encoder_states is not None and attention_mask is not None:
            self.source_mask = self.stack.cross_attention_mask(
                encoder_states[:, :1], attention_mask, encoder_states
            )  # (B, 1, 1, S)
        self.slot_layers = [SlotLayer(num_alternatives * _FREE_STEPS) for _ in self.stack.layers]
        self.slots = Cache(layers=list(self.slot_layers))
        self.cache: Cache = self.slots
        if encoder_states is not None:
            self.cache = EncoderDecoderCache(self.slots, DynamicCache())
        self.mask: torch.Tensor | None = None  # (B, 1, K, N), added to the scores

    def read_prompt(self) -> torch.Tensor:
        """Hidden states (B, 1, D) that predict the first new token."""
        hidden_states = self._forward(self.prompt, self.prompt_mask, self.position_ids)[:, -1:]
        rows, length = self.prompt.shape
        dtype = hidden_states.dtype
        if self.fused is not None:
            dtype = self._prepare_fused_steps(dtype)
        if self.position_ids is None:
            self.position_ids = torch.full((1, 1), length - 1, device=self.prompt.device)
        self.position_ids = self.position_ids[:, -1:]
        if self.num_alternatives > 1 or (self.prompt_mask is not None and not self.prompt_mask.all()):
            seen = torch.ones_like(self.prompt) if self.prompt_mask is None else self.prompt_mask
            self.mask = _additive(seen.bool(), dtype)[:, None, None].expand(rows, 1, self.num_alternatives, -1)
        return hidden_states

    def step(self, tokens: torch.Tensor, parents: torch.Tensor | None = None) -> torch.Tensor:
        """Hidden states (B, K, D) that predict the next tokens.

        Args:
            tokens: Newest token ids (B, K).
            parents: (B, K), the index of the previous alternative that each one continues; `None`: its own index.
        """
        if self.mask is not None:
            self._extend_mask(self.mask, parents)
        self.position_ids = self.position_ids + 1
        self.length += 1
        if self.fused is None:
            return self._forward(tokens, self.mask, self.position_ids)
        if self._is_too_much_for_fp32():
            self._become_whole()
        stack, mask = self.stack, self._mask_of_buffers()
        hidden_states = stack.input_embedding(stack.embed(tokens, None), self.position_ids, self.length)
        return stack.norm(self.fused(hidden_states, self.slot_layers, mask, self.source_layers, self.source_mask))

    def logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(B', ..., D) -> (B', ..., V) in fp32."""
        if self.fused is None:
            return self.head(hidden_states).float()
        logits = self.fused.head(hidden_states.flatten(0, -2))
        return logits.unflatten(0, hidden_states.shape[:-1]).float()

    def keep(self, rows: torch.Tensor) -> None:
        """Keep the sentences with the given indices (B',)."""
        self.slots.batch_select_indices(rows)
        if isinstance(self.cache, EncoderDecoderCache):
            self.cache.cross_attention_cache.batch_select_indices(rows)
            self.encoder_states = self.encoder_states[rows]
        if self.source_mask is not None:
            self.source_mask = self.source_mask[rows]
        if self.mask is not None:
            self.mask = self.mask[rows]
        if self.position_ids.shape[0] > 1:
            self.position_ids = self.position_ids[rows]

    @property
    def source_layers(self) -> list[Any]:
        """Keys and values (B, H, S, W) of the source for each layer; empty for a decoder."""
        return self.cache.cross_attention_cache.layers if isinstance(self.cache, EncoderDecoderCache) else []

    def _prepare_fused_steps(self, dtype: torch.dtype) -> torch.dtype:
        """Convert keys, values and masks for the fused steps. Return the dtype of their attention."""
        if self._is_too_much_for_fp32():
            self._become_whole()
            return dtype
        if self.prompt.device.type == "cpu":
            dtype = torch.promote_types(dtype, torch.float32)  # on a CPU, products of small matrices are slower in bf16
        for slots in self.slot_layers:
            slots.compute_in(dtype)
        for layer in self.source_layers:
            layer.keys, layer.values = layer.keys.to(dtype).contiguous(), layer.values.to(dtype).contiguous()
        mask = self.source_mask
        if mask is not None and mask.dtype == torch.bool:
            # sdpa gives zero for a query without any visible key. Values of zero have the same effect here.
            for layer in self.source_layers:
                layer.values *= mask.any(-1, keepdim=True)
            self.source_mask = _additive(mask, dtype)
        elif mask is not None:
            self.source_mask = mask.to(dtype)
        return dtype

    def _is_too_much_for_fp32(self) -> bool:
        """Whether keys and values have become too large for fp32, see `_MOST_IN_FP32`."""
        slots, is_bf16 = self.slot_layers[0], self.head.weight.dtype == torch.bfloat16
        if slots.is_whole or self.source_layers or not is_bf16 or self.fused is None or not self.fused.is_packed:
            return False
        num_numbers = 2 * len(self.slot_layers) * slots.buffers[0][:, :, : slots.get_seq_length()].numel()
        return 4 * num_numbers > _MOST_IN_FP32

    def _become_whole(self) -> None:
        dtype = self.head.weight.dtype
        for slots in self.slot_layers:
            slots.become_whole(dtype)
        if self.mask is not None:
            self.mask = _additive(self.mask == 0, dtype)

    def _mask_of_buffers(self) -> torch.Tensor | None:
        """The mask of a step. If `update` returns whole buffers, the mask is padded for the unused slots."""
        slots = self.slot_layers[0]
        if not slots.is_whole:
            return self.mask
        length = self.slots.get_seq_length() + self.num_alternatives
        mask = slots.buffers[0].new_zeros(1, 1, 1, length) if self.mask is None else self.mask
        return functional.pad(mask, (0, max(slots.capacity, slots.capacity_for(length)) - length), value=-torch.inf)

    def _forward(self, ids, mask, position_ids) -> torch.Tensor:
        hidden_states, _ = self.stack.decode(
            self.stack.embed(ids, None),
            mask,
            position_ids,
            self.cache,
            use_cache=True,
            encoder_hidden_states=self.encoder_states,
            encoder_attention_mask=self.source_mask,
        )
        return hidden_states

    def _extend_mask(self, mask: torch.Tensor, parents: torch.Tensor | None) -> None:
        """Let each alternative see the slots that its parent saw, and the slot of its newest token."""
        if parents is not None:
            mask = mask.take_along_dim(parents[:, None, :, None], dim=2)
            if self.slots.get_seq_length() + self.num_alternatives > self.slot_layers[0].capacity:
                mask = self._forget_slots(mask)
        own = _additive(torch.eye(self.num_alternatives, dtype=torch.bool, device=mask.device), mask.dtype)
        self.mask = torch.cat((mask, own.expand(*mask.shape[:2], -1, -1)), dim=-1)

    def _forget_slots(self, mask: torch.Tensor) -> torch.Tensor:
        """Remove the slots of the cache that the mask hides from every alternative. Return the mask without them.

        A slot holds the keys and values of one token. Dropped beams leave such slots behind. Removing them makes space
        without growing the buffers.
        """
        is_seen = (mask == 0).any(2)[:, 0]  # (B, N)
        slots = is_seen.int().argsort(dim=1, descending=True, stable=True)[:, : int(is_seen.sum(1).max())]
        for layer in self.slot_layers:
            layer.keep_slots(slots)
        return mask.take_along_dim(slots[:, None, None], dim=3)


def _additive(is_seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Additive mask: 0 where `is_seen`, else the smallest number of the dtype."""
    return torch.zeros(is_seen.shape, dtype=dtype, device=is_seen.device).masked_fill(~is_seen, torch.finfo(dtype).min)
