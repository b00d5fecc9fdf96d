"""What the demo says of each kind of model is what the model says."""

import math

import pytest
import torch
from tiny import LENGTH, tiny_model
from tiny_languages import nllb
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

import vanilla_transformers as vanilla
from vanilla_recipes.demo.answers import ANSWER, answer, shown, task_of
from vanilla_recipes.demo.maps import maps_page
from vanilla_recipes.errors import UserError

TEXT = " ".join(f"w{number}" for number in range(10, 10 + LENGTH))
KINDS = {
    "Translate": vanilla.VanillaSeq2SeqForConditionalGeneration,
    "Classify": vanilla.VanillaEncoderForSequenceClassification,
    "Continue a text": vanilla.VanillaDecoderForCausalLM,
    "Fill in masked words": vanilla.VanillaEncoderForMaskedLM,
}


@pytest.fixture
def show(tokenizer):
    """A tiny model on the page, by its heading."""
    return lambda heading: shown("tiny", tiny_model(KINDS[heading]), tokenizer)


def logits_of(model, text: str) -> torch.Tensor:
    with torch.no_grad():
        return model.model(**model.tokenizer(text, return_tensors="pt")).logits[0]


def test_translations_have_the_mean_probability_of_their_tokens(show):
    model = show("Translate")
    found = answer(model, TEXT)
    (group,) = found.groups
    assert group.heading == "The best 4 of 4 beams, with the probability per token (geometric mean)"
    best = group.candidates[0]
    assert (found.text, found.target) == (TEXT, best.text)
    inputs = model.tokenizer(TEXT, return_tensors="pt")
    settings = {"num_beams": 4, "early_stopping": True, "max_new_tokens": None, "max_length": 2 * (LENGTH + 2) + 20}
    outputs = model.model.generate(**inputs, **settings, output_scores=True, return_dict_in_generate=True)
    assert model.tokenizer.decode(outputs.sequences[0], skip_special_tokens=True) == best.text
    assert best.probability == pytest.approx(math.exp(outputs.sequences_scores[0]), abs=1e-4)


def test_a_long_translation_is_told_and_made_of_sentences(show):
    model = show("Translate")
    sentence = " ".join(["w10"] * 20)
    found = answer(model, "\n".join([sentence] * 3))
    assert found.notes == ("the text has 62 tokens, the model reads 48: it was read sentence by sentence",)
    assert found.groups[0].candidates[0].text.count("\n") == 2
    with pytest.raises(UserError, match="sentence 2 has 62 tokens, 14 more than the 48 that the model reads: shorten"):
        answer(model, f"{sentence}\n{' '.join(['w10'] * 60)}")


def test_languages_are_chosen():
    model = shown("nllb", *nllb())
    assert {"deu_Latn", "eng_Latn"} <= set(model.languages)
    found = answer(model, "A dog runs.", {"src_lang": "eng_Latn", "tgt_lang": "deu_Latn"})
    assert len(found.groups[0].candidates) == 4
    with pytest.raises(UserError, match="tgt_lang is missing: the model writes several languages"):
        answer(model, "A dog runs.", {"src_lang": "eng_Latn"})


def test_all_classes_have_their_probability(show):
    model = show("Classify")
    (group,) = answer(model, TEXT).groups
    expected = logits_of(model, TEXT).softmax(-1).sort(descending=True)
    assert [each.text for each in group.candidates] == [f"LABEL_{number}" for number in expected.indices.tolist()]
    torch.testing.assert_close(torch.tensor([each.probability for each in group.candidates]), expected.values)


def test_a_value_is_no_probability(tokenizer):
    model = tiny_model(KINDS["Classify"], num_labels=1, problem_type="regression")
    (group,) = answer(shown("tiny", model, tokenizer), TEXT).groups
    value = model(**tokenizer(TEXT, return_tensors="pt")).logits.item()
    assert [(each.text, each.probability) for each in group.candidates] == [(f"LABEL_0: {value:.4f}", None)]


def test_continuations_and_the_next_token(show):
    model = show("Continue a text")
    torch.manual_seed(0)
    found = answer(model, TEXT)
    samples, tokens = found.groups
    assert samples.heading == "3 continuations, drawn at temperature 0.8"
    assert len({each.text for each in samples.candidates}) == 3
    assert {each.before for each in samples.candidates} == {TEXT}
    expected = logits_of(model, TEXT)[-1].softmax(-1).topk(8)
    assert [each.text for each in tokens.candidates] == model.tokenizer.convert_ids_to_tokens(expected.indices)
    torch.testing.assert_close(torch.tensor([each.probability for each in tokens.candidates]), expected.values)
    assert found.text.startswith(TEXT)
    assert found.num_tokens > 0


def test_a_long_text_is_gone_on_from_at_its_end(show):
    found = answer(show("Continue a text"), " ".join(["w10"] * 70))
    assert found.notes == ("the text has 72 tokens, the model reads 48: it continued the last 24",)


def test_the_maps_of_a_long_text_are_those_of_its_end_and_of_what_follows(show):
    model = show("Continue a text")
    words = [f"w{5 + number % 50}" for number in range(70)]
    found = answer(model, " ".join(words))
    mapped = found.text.split()
    assert mapped[:23] == words[-23:]  # 24 tokens, of which the last is </s>
    assert 23 < len(mapped) <= model.limit


@pytest.mark.parametrize("mask", ["[MASK]", "<mask>", "__", "_____"])
def test_masks_are_filled(mask, show):
    model = show("Fill in masked words")
    found = answer(model, f"w10 {mask} w12 {mask}")
    assert [group.heading[:7] for group in found.groups] == ["Mask 1:", "Mask 2:"]
    expected = logits_of(model, "w10 <mask> w12 <mask>").softmax(-1)
    for place, group in zip((2, 4), found.groups, strict=True):
        top = expected[place].topk(8)
        assert [each.text for each in group.candidates] == model.tokenizer.convert_ids_to_tokens(top.indices)
        torch.testing.assert_close(torch.tensor([each.probability for each in group.candidates]), top.values)
    assert answer(model, f"w10 {mask}").groups[0].heading.startswith("The mask: ")


@pytest.mark.parametrize("heading", KINDS)
def test_what_cannot_be_answered_is_told(heading, show):
    model = show(heading)
    for text in ("", " \n"):
        with pytest.raises(UserError, match="the text is empty: write something first, such as "):
            answer(model, text)
    with pytest.raises(UserError, match="not UTF-8"):
        answer(model, "w10 \ud800")
    if heading != "Continue a text":
        with pytest.raises(
            UserError, match="the text has 62 tokens, 14 more than the 48 that the model reads: shorten"
        ):
            answer(model, " ".join(["w10"] * 60))
    if heading == "Fill in masked words":
        with pytest.raises(UserError, match=r"the text has no mask: write \[MASK\] or __ for a word"):
            answer(model, TEXT)


def test_unknown_tokens_and_the_speed_are_told(show):
    found = answer(show("Classify"), "w10 nonsense w11")
    assert found.notes == ("1 of 5 tokens are unknown: the vocabulary lacks these parts of the text",)
    assert found.speed.startswith("5 tokens read in 0.")
    assert found.speed.endswith(f": {5 / found.seconds:,.0f} tokens/s")


def test_the_facts_of_a_model(show):
    model = show("Classify")
    size = sum(parameter.numel() for parameter in model.model.parameters())
    assert model.facts == f"{size:,} parameters, float32 on cpu; reads up to 48 tokens"


@pytest.mark.parametrize("heading", KINDS)
def test_maps_of_an_answer(heading, show):
    model = show(heading)
    found = answer(model, f"{TEXT} __" if heading.startswith("Fill") else TEXT)
    with_effects, without = (maps_page(model, found, effects) for effects in (True, False))
    assert "not measured" in without
    assert "not measured" not in with_effects
    assert '"model": "tiny"' in without


def test_too_many_maps_for_a_browser(show, monkeypatch):
    model = show("Classify")
    monkeypatch.setattr("vanilla_recipes.demo.maps.MOST_WEIGHTS", 200)
    with pytest.raises(UserError, match=r"the maps of 8 heads over 9 tokens are too large .* shorten the text to 5"):
        maps_page(model, answer(model, TEXT))


def test_models_that_cannot_be_shown(tokenizer):
    with pytest.raises(
        UserError, match="a VanillaEncoderForTokenClassification cannot be shown; an encoder-decoder, a"
    ):
        shown("tiny", tiny_model(vanilla.VanillaEncoderForTokenClassification), tokenizer)
    tokenizer = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, unk_token="<unk>")
    with pytest.raises(UserError, match="the tokenizer has no mask token; name it"):
        shown("tiny", tiny_model(KINDS["Fill in masked words"]), tokenizer)


def test_stock_models(tokenizer):
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": 1, "eos_token_id": 3, "bos_token_id": 2}
    bert = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    t5 = T5Config(d_model=16, d_ff=32, d_kv=8, num_layers=1, num_heads=2, decoder_start_token_id=1, **sizes)
    models = (
        GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, **sizes)),
        BertForMaskedLM(BertConfig(**bert, **sizes)),
        T5ForConditionalGeneration(t5),
    )
    for model in models:
        page = shown("stock", model, tokenizer)
        found = answer(page, f"{TEXT} __" if "Bert" in type(model).__name__ else TEXT)
        assert found.groups[0].candidates
        assert "decoder" in maps_page(page, found) or "encoder" in maps_page(page, found)
    assert task_of("t5", T5ForConditionalGeneration, t5) is ANSWER
