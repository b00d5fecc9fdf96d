"""Fixtures for all tests (saved tiny models, a tokenizer), and the order of the test files."""

from pathlib import Path

import pytest
from tiny import MODELS, VOCAB_SIZE, name_of, tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<unk>", "<pad>", "<s>", "</s>", "<mask>")


SLOWEST = (
    "test_private_names", "test_translation_learns", "test_generation_learns", "test_round_trip", "test_upload",
    "test_masked_lm_learns", "test_push", "test_space", "test_classification_learns", "test_renewal", "test_benchmarks",
)  # fmt: skip
"""Test files that take longest, up to 110 s. They start first, so that no process runs alone at the end."""


def pytest_collection_modifyitems(items):
    order = {name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))  # stable: all other tests keep their order


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with the words `w5`, `w6`, ...; the id of a word is its number. It adds `<s>` and `</s>`."""
    vocabulary = {token: index for index, token in enumerate(SPECIAL_TOKENS)}
    vocabulary |= {f"w{index}": index for index in range(len(SPECIAL_TOKENS), VOCAB_SIZE)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=48,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory, tokenizer) -> dict[str, Path]:
    """A saved folder (`save_pretrained`) with model and tokenizer for each class, by class name without `Vanilla`."""
    folders = {}
    for model_class in MODELS:
        folder = tmp_path_factory.mktemp(name_of(model_class))
        tiny_model(model_class).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folders[name_of(model_class)] = folder
    return folders
