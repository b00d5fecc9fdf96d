"""What every model of the three families shares with transformers: loading, saving, and what it supports."""

import torch
from transformers import PreTrainedModel
from transformers import initialization as init

from .caches import NAMES
from .configuration_base import VanillaConfig
from .embeddings import SinusoidalPositions
from .losses import cross_entropy_loss
from .operations import OPERATIONS


class VanillaPreTrainedModel(PreTrainedModel):
    """Base of all models: weight initialization and the features that transformers may use."""

    config: VanillaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["VanillaLayer", "InputEmbedding"]
    _skip_keys_device_placement = list(NAMES)
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, SinusoidalPositions):
            # from_pretrained makes models without storage, and what the checkpoint lacks is garbage until filled here.
            init.copy_(module.table, module.compute(torch.arange(module.num_positions)))

    @property
    def training_label_smoothing(self) -> float:
        """Label smoothing of the loss now: like dropout, it acts in training mode only."""
        return self.config.label_smoothing if self.training else 0.0

    def logits_and_loss(
        self,
        hidden_states: torch.Tensor,
        labels: torch.Tensor | None,
        num_items_in_batch: torch.Tensor | int | None,
        return_logits: bool,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """What `lm_head` makes of hidden states (..., D): logits (..., V) and, with labels (...), their loss.

        Without `return_logits` the logits are `None` wherever there are labels.
        """
        smoothing = self.training_label_smoothing
        if labels is None:
            return self.lm_head(hidden_states), None
        if return_logits:
            logits = self.lm_head(hidden_states)
            return logits, cross_entropy_loss(logits, labels, num_items_in_batch, smoothing)
        loss = OPERATIONS.projection_loss(self.lm_head, hidden_states, labels, num_items_in_batch, smoothing)
        return None, loss
