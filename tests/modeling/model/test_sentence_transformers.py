"""sentence-transformers reads an encoder folder and puts mean pooling on it."""

import pytest
import sentence_transformers
import torch
from tiny import ENCODERS, tiny_model

TEXTS = ["w7 w8 w9", "w20 w21 w22 w23 w24"]


def by_hand(folder, tokenizer) -> torch.Tensor:
    """Mean over each text's own tokens."""
    model = ENCODERS[0].from_pretrained(folder)
    with torch.no_grad():
        states = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state for text in TEXTS]
    return torch.cat([state.mean(1) for state in states])


@pytest.mark.parametrize("head", ["EncoderModel", "EncoderForMaskedLM"])
def test_encoder_folder_is_mean_pooled(head, saved_models, tokenizer, tmp_path):
    folder = saved_models[head]
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    embeddings = model.encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(embeddings, by_hand(folder, tokenizer), rtol=0, atol=1e-5)
    model.save(str(tmp_path))
    again = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    assert torch.equal(again.encode(TEXTS, convert_to_tensor=True), embeddings)


def test_left_padding_changes_no_embedding(tokenizer, tmp_path):
    tiny_model(ENCODERS[0]).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    model.tokenizer.padding_side = "left"
    embeddings = model.encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(embeddings, by_hand(tmp_path, tokenizer), rtol=0, atol=1e-5)
