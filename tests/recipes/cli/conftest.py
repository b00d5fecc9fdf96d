"""A tiny translation model that is saved once, and copies of it that a test may damage."""

import shutil
from pathlib import Path

import pytest

SENTENCES = ["the dog bites the man .", "the man bites the dog ."]


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder-decoder with its tokenizer and generation settings, as save_pretrained() leaves it."""
    import torch

    from vanilla_recipes.data.tokenizers import train_translation_tokenizer
    from vanilla_transformers import VanillaSeq2SeqConfig, VanillaSeq2SeqForConditionalGeneration

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = train_translation_tokenizer(SENTENCES * 3, vocab_size=400, max_length=32)
    torch.manual_seed(0)
    config = VanillaSeq2SeqConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=32,
        encoder_layers=1,
        decoder_layers=1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.bos_token_id,
    )
    model = VanillaSeq2SeqForConditionalGeneration(config)
    model.generation_config.max_length = 8
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def model_folder(saved_model: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(saved_model, tmp_path / "model"))
