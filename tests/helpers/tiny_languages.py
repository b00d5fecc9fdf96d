"""Tiny multilingual translation models of transformers' own classes. Their tokenizers add language codes."""

import torch
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    MBartConfig,
    MBartForConditionalGeneration,
    NllbTokenizer,
)

WORDS = ["the", "dog", "bites", "man"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
SIZES = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 40, "init_std": 0.5,
}  # fmt: skip


def nllb():
    letters = sorted({*"".join(WORDS), "▁"})
    vocab = {token: number for number, token in enumerate([*SPECIAL, *letters])}
    tokenizer = NllbTokenizer(vocab=vocab, merges=[])
    torch.manual_seed(0)
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    return M2M100ForConditionalGeneration(M2M100Config(vocab_size=len(tokenizer), **ids, **SIZES)), tokenizer


def mbart(tokenizer_class, **ids):
    vocab = [(token, 0.0) for token in SPECIAL] + [(f"▁{word}", -2.0) for word in WORDS]
    tokenizer = tokenizer_class(vocab=vocab)
    torch.manual_seed(0)
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "forced_eos_token_id": None} | ids
    return MBartForConditionalGeneration(MBartConfig(vocab_size=len(tokenizer), **ids, **SIZES)), tokenizer
