"""The base of all models: loading, saving and the features of transformers that they support.

Shapes in all files of this folder: B batch size, T target length (or the only length), S source length, P past (cached)
length, D width, H heads, K head width, V vocabulary size or number of classes, N number of selected tokens. `config` is
always a vanilla configuration.

Each `modeling_*` file imports all files that it needs, some for type checkers only. The reason: several processes may
load this code from the Hub at the same time. transformers copies the files that a file imports if they are missing, but
does not look into a file that is already there. So a file that is imported indirectly could be missing in a second
process. These imports can be removed when transformers copies files under a lock.
"""

import torch
from transformers import PreTrainedModel
from transformers import initialization as init

from .caches import NAMES
from .configuration_base import VanillaConfig
from .embeddings import SinusoidalPositions
from .losses import cross_entropy_loss
from .operations import OPERATIONS


class VanillaPreTrainedModel(PreTrainedModel):
    """Weight initialization, and the features of transformers that all models support."""

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
            # from_pretrained creates models without allocating memory. A checkpoint does not contain the table, so the
            # table has arbitrary values until it is filled here.
            init.copy_(module.table, module.compute(torch.arange(module.num_positions)))

    @property
    def training_label_smoothing(self) -> float:
        """Label smoothing of the training loss; 0 in evaluation mode, like dropout."""
        return self.config.label_smoothing if self.training else 0.0

    def logits_and_loss(
        self,
        hidden_states: torch.Tensor,
        labels: torch.Tensor | None,
        num_items_in_batch: torch.Tensor | int | None,
        return_logits: bool,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Logits (..., V) of hidden states (..., D) and, with labels (...), the loss.

        If there are labels and `return_logits` is false, the logits are `None`.
        """
        smoothing = self.training_label_smoothing
        if labels is None:
            return self.lm_head(hidden_states), None
        if return_logits:
            logits = self.lm_head(hidden_states)
            return logits, cross_entropy_loss(logits, labels, num_items_in_batch, smoothing)
        loss = OPERATIONS.projection_loss(self.lm_head, hidden_states, labels, num_items_in_batch, smoothing)
        return None, loss

    def loss_of(self, logits, labels, num_items_in_batch) -> torch.Tensor:
        """Cross entropy of logits (..., V) and labels (...), -100 where there is no label."""
        return cross_entropy_loss(logits, labels, num_items_in_batch, self.training_label_smoothing)
