"""Builds our model and its peers for each family, all of the same size.

If transformers has the architecture of our model, the peer also has the same weights.
"""

import copy
import importlib.util
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import ModernBertConfig, ModernBertForMaskedLM, PreTrainedModel

from benchmarks.rounds import Unavailable
from vanilla_transformers import (
    VanillaDecoderConfig,
    VanillaDecoderForCausalLM,
    VanillaEncoderConfig,
    VanillaEncoderForMaskedLM,
    VanillaSeq2SeqConfig,
    VanillaSeq2SeqForConditionalGeneration,
)
from vanilla_transformers.interop.conversion import to_stock

PAD, START, END = 0, 2, 3
IGNORED = -100

Batch = Mapping[str, torch.Tensor]
Loss = Callable[[Batch], torch.Tensor]


@dataclass(frozen=True)
class Shape:
    """The size of a model.

    Attributes:
        vocab_size: number of tokens in the vocabulary.
        width: size of the hidden states.
        heads: number of attention heads.
        inner: size of the feed-forward layer.
        layers: number of layers; an encoder-decoder has as many in its encoder and as many in its decoder.
        length: number of positions.
        dropout: probability of dropout.
    """

    vocab_size: int = 8000
    width: int = 256
    heads: int = 8
    inner: int = 1024
    layers: int = 3
    length: int = 128
    dropout: float = 0.1


@dataclass(frozen=True)
class Subject:
    """A model and its loss function.

    The loss function takes a batch of `input_ids`, `attention_mask` and `labels`, each of shape (B, T).
    """

    model: nn.Module
    loss: Loss


SHAPES = {
    "seq2seq": Shape(),
    "masked_lm": Shape(heads=4, layers=4),
    "causal_lm": Shape(heads=4, layers=4),
}
"""Sizes as in `translation/multi30k` (seq2seq) and `classification/sst2` (masked_lm). causal_lm is as large."""


def subjects(
    family: str, shape: Shape, kernels: Mapping[str, list[str]], nanogpt: Path | None = None
) -> dict[str, Callable[[], Subject]]:
    """Returns functions that build the models, by name; our model comes first. A function may raise `Unavailable`.

    Args:
        family: "seq2seq", "masked_lm" or "causal_lm".
        shape: size of all models.
        kernels: attention kernels of our model (key "ours") and of the models from transformers (key "peers"). Each
            kernel gives one entry of the result.
        nanogpt: folder of a clone of karpathy/nanoGPT.
    """
    torch.manual_seed(0)
    ours = _OURS[family](shape)
    stock_name, model_type = _STOCK[family]
    found: dict[str, Callable[[], Subject]] = {}
    for kernel in kernels["ours"]:
        found[f"ours, {kernel}"] = lambda kernel=kernel: _subject(_twin(ours, kernel))  # type: ignore[misc]
    for kernel in kernels["peers"]:
        found[f"{stock_name}, {kernel}"] = lambda kernel=kernel: _subject(  # type: ignore[misc]
            _with_kernel(to_stock(ours, model_type), kernel)
        )
    if family == "seq2seq":
        found["torch.nn.Transformer"] = lambda: _torch_transformer(shape)
        found["x-transformers"] = lambda: _x_transformer(shape)
    elif family == "masked_lm":
        for kernel in kernels["peers"]:
            found[f"ModernBERT, {kernel}"] = lambda kernel=kernel: _subject(  # type: ignore[misc]
                _with_kernel(_modernbert(shape), kernel)
            )
    else:
        found["nanoGPT"] = lambda: _nanogpt(shape, nanogpt)
    return found


def sizes(shape: Shape) -> dict[str, Any]:
    """Returns the settings that the configurations of all three families share."""
    return {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.width,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
        "max_position_embeddings": shape.length,
        "hidden_dropout_prob": shape.dropout,
    }


def our_seq2seq(shape: Shape) -> PreTrainedModel:
    """Returns our encoder-decoder with the architecture of Marian."""
    layers = {"encoder_layers": shape.layers, "decoder_layers": shape.layers}
    config = VanillaSeq2SeqConfig(**sizes(shape), **layers, sinusoidal_layout="halves")
    return VanillaSeq2SeqForConditionalGeneration(config)


def our_masked_lm(shape: Shape) -> PreTrainedModel:
    """Returns our encoder with the architecture of BERT."""
    attention = {"num_hidden_layers": shape.layers, "attention_probs_dropout_prob": shape.dropout}
    return VanillaEncoderForMaskedLM(VanillaEncoderConfig(**sizes(shape), **attention))


def our_causal_lm(shape: Shape) -> PreTrainedModel:
    """Returns our decoder with the architecture of GPT-2."""
    attention = {"num_hidden_layers": shape.layers, "attention_probs_dropout_prob": shape.dropout}
    config = VanillaDecoderConfig(**sizes(shape), **attention, bos_token_id=START, eos_token_id=END)
    return VanillaDecoderForCausalLM(config)


_OURS = {"seq2seq": our_seq2seq, "masked_lm": our_masked_lm, "causal_lm": our_causal_lm}
_STOCK = {"seq2seq": ("Marian", "marian"), "masked_lm": ("BERT", "bert"), "causal_lm": ("GPT-2", "gpt2")}


def _twin(model: PreTrainedModel, kernel: str) -> PreTrainedModel:
    return _with_kernel(copy.deepcopy(model), kernel)


def _with_kernel(model: PreTrainedModel, kernel: str) -> PreTrainedModel:
    model.set_attn_implementation(kernel)
    return model


def _subject(model: PreTrainedModel) -> Subject:
    """Returns the subject of a model with transformers' interface.

    Our models run as in the recipes: they return the loss without the logits, and the head of a masked language model
    runs at masked tokens only.
    """
    is_ours = model.config.model_type.startswith("vanilla_")

    def loss(batch: Batch) -> torch.Tensor:
        if not is_ours:
            return model(**batch).loss
        return model(**as_in_recipes(model, batch), return_logits=False).loss

    return Subject(model, loss)


def as_in_recipes(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    """Returns the batch as our recipes pass it to the model.

    A masked language model gets the labels of the masked tokens only, with their flat positions in the batch
    (`masked_positions`).
    """
    if not isinstance(model, VanillaEncoderForMaskedLM):
        return dict(batch)
    places = batch["labels"].flatten().ne(IGNORED).nonzero().squeeze(1)
    return {**batch, "labels": batch["labels"].flatten()[places], "masked_positions": places}


def _modernbert(shape: Shape) -> PreTrainedModel:
    """Returns ModernBERT with its head at masked tokens only, a documented option.

    The batches are padded: ModernBERT needs flash attention to run without padding.
    """
    return ModernBertForMaskedLM(
        ModernBertConfig(
            vocab_size=shape.vocab_size,
            hidden_size=shape.width,
            num_attention_heads=shape.heads,
            intermediate_size=shape.inner * 2 // 3,  # a gated layer has three matrices of this size instead of two
            num_hidden_layers=shape.layers,
            max_position_embeddings=shape.length,
            sparse_prediction=True,
            pad_token_id=PAD,
            bos_token_id=START,
            eos_token_id=END,
            cls_token_id=START,
            sep_token_id=END,
        )
    )


class _TorchTransformer(nn.Module):
    """torch's encoder-decoder with one embedding matrix for source, target and output."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.table = nn.Embedding(shape.vocab_size, shape.width, padding_idx=PAD)
        self.positions = nn.Embedding(shape.length, shape.width)
        nn.init.normal_(self.table.weight, std=0.02)
        self.dropout = nn.Dropout(shape.dropout)
        self.transformer = nn.Transformer(
            shape.width, shape.heads, shape.layers, shape.layers, shape.inner, shape.dropout, batch_first=True
        )

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        return self.dropout(self.table(ids) * math.sqrt(self.table.embedding_dim) + self.positions(places))

    def forward(self, batch: Batch) -> torch.Tensor:
        targets = _shifted(batch["labels"])
        is_padding = batch["attention_mask"].eq(0)
        padding = is_padding if bool(is_padding.any()) else None
        causal = nn.Transformer.generate_square_subsequent_mask(targets.shape[1], device=targets.device)
        states = self.transformer(
            self.embed(batch["input_ids"]),
            self.embed(targets),
            tgt_mask=causal,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
            tgt_is_causal=True,
        )
        logits = functional.linear(states, self.table.weight)
        return functional.cross_entropy(logits.flatten(0, 1).float(), batch["labels"].flatten(), ignore_index=IGNORED)


def _torch_transformer(shape: Shape) -> Subject:
    model = _TorchTransformer(shape)
    return Subject(model, model)


def _x_transformer(shape: Shape) -> Subject:
    """Returns the encoder-decoder of x-transformers. Its flash attention is torch's fused kernel."""
    try:
        import x_transformers
    except ImportError as error:
        raise Unavailable("x-transformers is not installed: run `pip install x-transformers`") from error
    sizes = dict(
        num_tokens=shape.vocab_size, depth=shape.layers, heads=shape.heads, max_seq_len=shape.length + 1,
        attn_dim_head=shape.width // shape.heads, ff_mult=shape.inner // shape.width, attn_flash=True,
        ff_dropout=shape.dropout, emb_dropout=shape.dropout,
    )  # fmt: skip
    options = {f"{side}_{name}": value for side in ("enc", "dec") for name, value in sizes.items()}
    model = x_transformers.XTransformer(
        dim=shape.width, tie_token_emb=True, ignore_index=IGNORED, pad_value=PAD, **options
    )

    def loss(batch: Batch) -> torch.Tensor:
        targets = torch.cat((_shifted(batch["labels"])[:, :1], batch["labels"]), 1)  # the model shifts the targets
        return model(batch["input_ids"], targets, mask=batch["attention_mask"].bool())

    return Subject(model, loss)


def _nanogpt(shape: Shape, folder: Path | None) -> Subject:
    """Returns nanoGPT's model. It does not shift the labels, so they are shifted here."""
    if folder is None:
        raise Unavailable("--nanogpt FOLDER is needed: a clone of karpathy/nanoGPT")
    spec = importlib.util.spec_from_file_location("nanogpt_model", folder / "model.py")
    if spec is None or spec.loader is None or not (folder / "model.py").is_file():
        raise Unavailable(f"--nanogpt {folder}: the folder has no model.py; give a clone of karpathy/nanoGPT")
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    model = module.GPT(
        module.GPTConfig(
            block_size=shape.length, vocab_size=shape.vocab_size, n_layer=shape.layers, n_head=shape.heads,
            n_embd=shape.width, dropout=shape.dropout, bias=True,
        )
    )  # fmt: skip

    def loss(batch: Batch) -> torch.Tensor:
        labels = functional.pad(batch["labels"][:, 1:], (0, 1), value=-1)  # nanoGPT ignores the label -1
        return model(batch["input_ids"], labels.where(labels.ne(IGNORED), -1))[1]

    return Subject(model, loss)


def _shifted(labels: torch.Tensor) -> torch.Tensor:
    """Returns the decoder's input for the labels: the start token and all labels but the last one."""
    return functional.pad(labels, (1, -1), value=START).clamp(min=PAD)
