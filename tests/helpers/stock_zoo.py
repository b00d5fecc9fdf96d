"""Small random models of transformers' own classes, with odd shapes: 3 heads, unequal depths, odd vocabularies."""

from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from vanilla_transformers.interop import ARCHITECTURES

_ENCODER = dict(
    vocab_size=37, hidden_size=24, num_attention_heads=3, num_hidden_layers=2, intermediate_size=36, num_labels=3
)
_SEQ2SEQ = dict(
    d_model=24,
    encoder_layers=2,
    decoder_layers=3,
    encoder_attention_heads=3,
    decoder_attention_heads=3,
    encoder_ffn_dim=36,
    decoder_ffn_dim=36,
    max_position_embeddings=40,
)
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": _ENCODER | dict(max_position_embeddings=40, type_vocab_size=3),
    "roberta": _ENCODER | dict(max_position_embeddings=40, type_vocab_size=1),
    "distilbert": dict(
        vocab_size=37, dim=24, n_heads=3, n_layers=2, hidden_dim=36, max_position_embeddings=40, num_labels=3
    ),
    "gpt2": dict(
        vocab_size=37,
        n_embd=24,
        n_head=3,
        n_layer=2,
        n_inner=30,
        n_positions=40,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
        num_labels=3,
    ),
    "opt": dict(
        vocab_size=37,
        hidden_size=24,
        num_attention_heads=3,
        num_hidden_layers=2,
        ffn_dim=36,
        max_position_embeddings=40,
        num_labels=3,
    ),
    "marian": _SEQ2SEQ
    | dict(vocab_size=37, pad_token_id=36, decoder_start_token_id=36, eos_token_id=0, forced_eos_token_id=0),
    "bart": _SEQ2SEQ | dict(vocab_size=37),
    "mbart": _SEQ2SEQ | dict(vocab_size=37, decoder_start_token_id=2),
    "m2m_100": _SEQ2SEQ | dict(vocab_size=37),
    "fsmt": _SEQ2SEQ | dict(src_vocab_size=31, tgt_vocab_size=37, langs=["xx", "yy"], max_length=20),
}
HEADS = [(model_type, head) for model_type, each in ARCHITECTURES.items() for head in each.heads]


def stock_model(model_type: str, head: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Returns a model of a transformers class in evaluation mode, with random weights and buffers."""
    fields = CONFIGS[model_type] | ({"num_labels": 2} if head == "question-answering" else {}) | changes
    if "attention_heads" in changes:
        fields |= {f"{side}_attention_heads": fields["attention_heads"] for side in ("encoder", "decoder")}
        del fields["attention_heads"]
    torch.manual_seed(seed)
    model = ARCHITECTURES[model_type].heads[head].stock_class(transformers.AutoConfig.for_model(model_type, **fields))
    randomize(model)
    return model.eval()


@torch.no_grad()
def randomize(model: PreTrainedModel) -> None:
    """Gives every saved weight a random value, also norms and biases, which are ones and zeros in a new model.

    The weight of a norm stays near 1, and the projections have a large variance. Otherwise all attention weights would
    be almost equal, and no test would notice swapped queries and keys.
    """
    generator = torch.Generator().manual_seed(1)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        is_fixed = "embed_positions" in name and model.config.model_type in ("marian", "fsmt", "m2m_100")
        if tensor.is_floating_point() and not is_fixed and not name.endswith(("embed_scale", "positions.table")):
            is_norm = tensor.ndim == 1 and name.endswith("weight")
            tensor.copy_(is_norm + 0.3 * torch.randn(tensor.shape, generator=generator))
