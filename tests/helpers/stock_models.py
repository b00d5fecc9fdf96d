"""Saves tiny random models of transformers' own classes, with tokenizers of their usual kinds."""

import json
from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
)

from vanilla_recipes.data.tokenizers import train_decoder_tokenizer, train_encoder_tokenizer
from vanilla_recipes.data.toy import toy_rows

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def toy_texts(task: str) -> list[str]:
    rows = toy_rows(task, "train", 200, 0)
    return [row["text"] for row in rows]


def save(model: PreTrainedModel, tokenizer, folder: Path) -> Path:
    """Saves a model and its tokenizer.

    Biases and norms get random values, so that a test notices if one of them is not copied.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_encoder(folder: Path, kind: str = "bert") -> Path:
    """Saves a masked language model."""
    torch.manual_seed(0)
    tokenizer = train_encoder_tokenizer(toy_texts("sentiment"), 500, 128)
    shared = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    configs = {
        "bert": lambda: BertForMaskedLM(BertConfig(**SIZES, **shared, max_position_embeddings=128)),
        "roberta": lambda: RobertaForMaskedLM(
            RobertaConfig(**SIZES, **shared, max_position_embeddings=129 + tokenizer.pad_token_id, type_vocab_size=1)
        ),
        "distilbert": lambda: DistilBertForMaskedLM(
            DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=32, **shared, max_position_embeddings=128)
        ),
    }
    return save(configs[kind](), tokenizer, folder)


def save_gpt2(folder: Path) -> Path:
    """Saves a causal language model. GPT-2 projects queries, keys and values with one fused matrix."""
    torch.manual_seed(0)
    tokenizer = train_decoder_tokenizer(toy_texts("stories"), 500, 128)
    ids = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=128, **ids)
    return save(GPT2LMHeadModel(config), tokenizer, folder)


def save_marian(folder: Path) -> Path:
    """Saves an encoder-decoder. As in Opus-MT, two SentencePiece models share one vocabulary."""
    torch.manual_seed(0)
    tokenizer = marian_tokenizer(folder)
    pad = tokenizer.pad_token_id
    layers = {f"{side}_{name}": size for side in ("encoder", "decoder")
              for name, size in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 32))}  # fmt: skip
    config = MarianConfig(
        vocab_size=len(tokenizer), d_model=16, **layers, max_position_embeddings=128, scale_embedding=True,
        pad_token_id=pad, eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=pad, forced_eos_token_id=None,
    )  # fmt: skip
    model = MarianMTModel(config)
    model.generation_config.bad_words_ids = [[pad]]
    return save(model, tokenizer, folder)


def marian_tokenizer(folder: Path) -> MarianTokenizer:
    """Trains a tokenizer on the toy sentences; writes its files into the folder."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    rows = [row["translation"] for row in toy_rows("translation", "train", 200, 0)]
    pieces: set[str] = set()
    for side, language in (("source", "en"), ("target", "de")):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([row[language] for row in rows]), model_prefix=str(folder / side),
            vocab_size=120, hard_vocab_limit=False, minloglevel=2,
        )  # fmt: skip
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
        pieces |= {line.split("\t")[0] for line in (folder / f"{side}.vocab").read_text("utf-8").splitlines()}
        (folder / f"{side}.vocab").unlink()
    tokens = ["</s>", "<unk>", *sorted(pieces - {"<s>", "</s>", "<unk>"}), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    return MarianTokenizer(str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"))
