"""Every recipe goes on from a saved model with adapters, and leaves a model that needs neither them nor PEFT."""

import importlib
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tiny_settings import TINY

from vanilla_transformers import (
    VanillaDecoderForCausalLM,
    VanillaEncoderForMaskedLM,
    VanillaEncoderForSequenceClassification,
    VanillaSeq2SeqForConditionalGeneration,
)

NEW = ["model.hidden_size=16", "model.num_attention_heads=2", "model.intermediate_size=32", "tokenizer.vocab_size=500"]
LAYERS = {"translation": ["model.encoder_layers=1", "model.decoder_layers=1"]}
MODELS = {
    "translation": VanillaSeq2SeqForConditionalGeneration,
    "generation": VanillaDecoderForCausalLM,
    "masked_lm": VanillaEncoderForMaskedLM,
    "classification": VanillaEncoderForSequenceClassification,
}
BASES = {"classification": "masked_lm"}  # the others go on from a model of their own


def run(recipe: str, folder: Path, *overrides: str) -> Path:
    main = importlib.import_module(f"vanilla_recipes.{recipe}").main
    shown = ["generation.prompts=[The]", "generation.max_new_tokens=2"] if recipe == "generation" else []
    assert main([f"{recipe}/toy", *TINY, *shown, *overrides, f"output_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    """A saved model of each recipe that others start from."""
    folder = tmp_path_factory.mktemp("bases")
    layers = {recipe: LAYERS.get(recipe, ["model.num_hidden_layers=1"]) for recipe in MODELS}
    recipes = [recipe for recipe in MODELS if recipe not in BASES]
    return {recipe: run(recipe, folder / recipe, *NEW, *layers[recipe]) / "best" for recipe in recipes}


@pytest.mark.parametrize("recipe", MODELS)
def test_adapters_beside_the_merged_model(bases, tmp_path, recipe):
    base = bases[BASES.get(recipe, recipe)]
    best = run(recipe, tmp_path / "run", f"model.pretrained={base}", "peft.r=4") / "best"
    model_class = MODELS[recipe]
    saved = model_class.from_pretrained(best)
    found = PeftModel.from_pretrained(model_class.from_pretrained(base, config=saved.config), best / "adapter")
    ids = torch.randint(10, 200, (3, 9))
    with torch.inference_mode():
        inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if recipe == "translation" else {})
        expected, logits = (model.eval()(**inputs).logits for model in (saved, found))
        before = model_class.from_pretrained(base, config=saved.config).eval()(**inputs).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, before, atol=1e-3)
