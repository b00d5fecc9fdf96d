"""Attention maps of texts: their tokens, the loss of every kind of model, the effect of a head, and bad input."""

import logging

import pytest
import torch
from tiny import DECODERS, ENCODERS, SEQ2SEQ, tiny_model
from tiny_languages import nllb as tiny_nllb
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2ForSequenceClassification

import vanilla_transformers
from vanilla_recipes.data.tokenizers import train_decoder_tokenizer
from vanilla_transformers import attention_maps
from vanilla_transformers.inspection import (
    attention_maps as attention_mapping,
)
from vanilla_transformers.inspection import (
    effects as attention_effects,
)
from vanilla_transformers.inspection import (
    passages as attention_passages,
)
from vanilla_transformers.inspection.effects import NUM_MASKED
from vanilla_transformers.inspection.passages import token_labels
from vanilla_transformers.inspection.probe import AttentionMapError, Head, attention_sites

TEXT, TARGET = "w7 w8 w9 w10", "w20 w21 w22"
TRANSLATOR, MASKED, CLASSIFIER, DECODER = SEQ2SEQ[1], ENCODERS[1], ENCODERS[2], DECODERS[1]


def without_head(model, head: Head):
    """The same model with zeros in place of the head's part of the output projection."""
    (site,) = [site for site in attention_sites(model) if (site.kind, site.layer) == head[:2]]
    with torch.no_grad():
        site.module.o_proj.weight.unflatten(1, (site.num_heads, -1))[:, head.head] = 0
    return model


def translation_loss(model, tokenizer) -> torch.Tensor:
    source, labels = tokenizer(TEXT, return_tensors="pt"), tokenizer(TARGET, return_tensors="pt")["input_ids"]
    return model(**source, labels=labels).loss


def decoder_loss(model, tokenizer) -> torch.Tensor:
    inputs = tokenizer(TEXT, return_tensors="pt")
    return model(**inputs, labels=inputs["input_ids"]).loss


def masked_loss(model, tokenizer) -> torch.Tensor:
    """All four words, each masked alone."""
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    losses = []
    for place in range(1, 5):
        masked = ids.clone()
        masked[0, place] = tokenizer.mask_token_id
        losses.append(-model(masked).logits[0, place].log_softmax(-1)[ids[0, place]])
    return torch.stack(losses).mean()


def classifier_loss(model, tokenizer) -> torch.Tensor:
    whole = tiny_model(type(model))(**tokenizer(TEXT, return_tensors="pt")).logits
    return -model(**tokenizer(TEXT, return_tensors="pt")).logits.log_softmax(-1)[0, whole.argmax()]


def token_loss(model, tokenizer) -> torch.Tensor:
    whole = tiny_model(type(model))(**tokenizer(TEXT, return_tensors="pt")).logits.argmax(-1)
    log_probs = model(**tokenizer(TEXT, return_tensors="pt")).logits.log_softmax(-1)
    return -log_probs.gather(-1, whole[..., None]).mean()


def span_loss(model, tokenizer) -> torch.Tensor:
    def log_probs(model):
        outputs = model(**tokenizer(TEXT, return_tensors="pt"))
        return torch.stack((outputs.start_logits, outputs.end_logits)).log_softmax(-1)

    return -log_probs(model).gather(-1, log_probs(tiny_model(type(model))).argmax(-1, keepdim=True)).mean()


LOSSES = {
    TRANSLATOR: translation_loss,
    DECODER: decoder_loss,
    MASKED: masked_loss,
    CLASSIFIER: classifier_loss,
    DECODERS[2]: classifier_loss,
    ENCODERS[3]: token_loss,
    ENCODERS[4]: span_loss,
}


@pytest.mark.parametrize("model_class", LOSSES, ids=lambda model_class: model_class.__name__)
@torch.no_grad()
def test_loss_and_effects_are_those_computed_by_hand(model_class, tokenizer):
    model = tiny_model(model_class)
    target = TARGET if model_class is TRANSLATOR else None
    maps = attention_maps(model, tokenizer, TEXT, target)
    by_hand = LOSSES[model_class]
    assert maps.loss == pytest.approx(by_hand(model, tokenizer).item(), abs=1e-5)
    assert set(maps.loss_changes) == set(maps.weights)
    for head in list(maps.weights)[3::5]:
        expected = by_hand(without_head(tiny_model(model_class), head), tokenizer).item()
        assert maps.loss + maps.loss_changes[head] == pytest.approx(expected, abs=1e-5)
    assert max(map(abs, maps.loss_changes.values())) > 1e-3


def test_maps_of_a_translation(tokenizer):
    model = tiny_model(TRANSLATOR)
    maps = attention_maps(model, tokenizer, TEXT, TARGET)
    source, target = ["w7", "w8", "w9", "w10", "</s>"], ["<s>", "<s>", "w20", "w21", "w22"]
    assert maps.tokens == {
        "encoder": (["<s>", *source], ["<s>", *source]),
        "decoder": (target, target),
        "cross": (target, ["<s>", *source]),
    }
    assert len(maps.weights) == 3 * 2 * 4
    assert maps.weights["cross", 1, 3].shape == (5, 6)
    assert all((weights.sum(-1) - 1).abs().max() < 1e-6 for weights in maps.weights.values())
    assert maps.measure == "mean -log p of the target's tokens"
    assert maps.notes == ()


def test_rows_are_taken_a_few_at_a_time_where_memory_is_short(tokenizer, monkeypatch):
    for model_class in (TRANSLATOR, MASKED):
        model = tiny_model(model_class)
        target = TARGET if model_class is TRANSLATOR else None
        at_once = attention_maps(model, tokenizer, TEXT, target)
        with monkeypatch.context() as patch:
            patch.setattr(attention_effects, "_LOGITS_AT_ONCE", 3 * 6 * 67)
            apart = attention_maps(model, tokenizer, TEXT, target)
        assert apart.loss_changes == pytest.approx(at_once.loss_changes, abs=1e-6)


def test_only_what_is_asked_for(tokenizer):
    maps = attention_maps(tiny_model(TRANSLATOR), tokenizer, TEXT, TARGET, [1], [0, 2], ["cross"])
    assert list(maps.weights) == list(maps.loss_changes) == [("cross", 1, 0), ("cross", 1, 2)]
    assert list(maps.tokens) == ["cross"]


def test_without_effects_only_one_pass_is_made(tokenizer):
    model = tiny_model(DECODER, num_hidden_layers=12)

    def operations(**choice) -> int:
        with FlopCounterMode(display=False) as counter:
            attention_maps(model, tokenizer, TEXT, **choice)
        return counter.get_total_flops()

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**tokenizer(TEXT, return_tensors="pt"))
    plain = counter.get_total_flops()
    one = {"layers": [5], "heads": [3]}
    assert operations(**one, effects=False) < 1.02 * plain
    assert operations(**one) < 2.02 * plain  # and one pass with the head off
    maps = attention_maps(model, tokenizer, TEXT, **one, effects=False)
    assert (maps.loss, maps.loss_changes, maps.measure) == (None, {}, "not measured")


def test_without_a_target_it_is_what_the_model_generates(tokenizer):
    model = tiny_model(TRANSLATOR)
    model.generation_config.update(num_beams=3, max_length=7, do_sample=False)
    maps = attention_maps(model, tokenizer, TEXT, effects=False)
    sequence = model.generate(**tokenizer(TEXT, return_tensors="pt"))[0]
    assert maps.tokens["cross"][0] == tokenizer.convert_ids_to_tokens(sequence[:-1])
    assert maps.notes == ("the target is what the model generates, with 3 beams",)


def test_masked_tokens_are_spread_over_the_text(tokenizer):
    model = tiny_model(MASKED)
    passage = attention_passages.read(model, tokenizer, " ".join(f"w{number}" for number in range(5, 45)), None)
    measure = attention_effects.masked_measure(tokenizer, passage)
    places = (measure.inputs["input_ids"] == tokenizer.mask_token_id).nonzero()[:, 1]
    assert places.tolist() == [3, 8, 13, 18, 23, 28, 33, 38]
    assert measure.labels.ne(-100).sum() == NUM_MASKED
    assert "8 tokens" in measure.meaning


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: tiny_model(ENCODERS[0]), "no loss: the model has no prediction head"),
        (lambda: tiny_model(CLASSIFIER, num_labels=1), "no loss: the model does not choose one class"),
        (lambda: tiny_model(CLASSIFIER, problem_type="multi_label_classification"), "no loss: the model does not"),
    ],
)
def test_where_nothing_can_be_measured_the_reason_is_told(make, reason, tokenizer):
    maps = attention_maps(make(), tokenizer, TEXT)
    assert (maps.loss, maps.loss_changes) == (None, {})
    assert maps.measure.startswith(reason)
    assert len(maps.weights) == 8


def test_a_stock_decoder_that_classifies_without_a_padding_token(tokenizer):
    config = GPT2Config(vocab_size=67, n_embd=16, n_layer=1, n_head=2, num_labels=3, pad_token_id=None)
    maps = attention_maps(GPT2ForSequenceClassification(config), tokenizer, TEXT)
    assert len(maps.loss_changes) == 2


def test_the_modes_of_the_modules_stay(tokenizer):
    model = tiny_model(DECODER).train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]
    attention_maps(model, tokenizer, TEXT)
    assert [module.training for module in model.modules()] == before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_long_text_is_cut_with_a_count(tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        maps = attention_maps(tiny_model(DECODER), tokenizer, "w7 " * 60, effects=False)
    assert maps.notes == ("the text has 62 tokens and was cut to the 48 that the model reads",)
    assert maps.notes[0] in caplog.text
    assert maps.weights["decoder", 0, 0].shape == (48, 48)
    maps = attention_maps(tiny_model(TRANSLATOR), tokenizer, TEXT, "w7 " * 60, effects=False)
    assert maps.notes == ("the target has 62 tokens and was cut to the 48 that the model reads",)


@pytest.mark.parametrize(
    ("model_class", "text", "choice", "message"),
    [
        (DECODER, "", {}, "the text is '': give at least one word"),
        (DECODER, " \n", {}, "give at least one word"),
        (DECODER, 7, {}, "the text is 7: give at least one word"),
        (TRANSLATOR, TEXT, {"target": ""}, "the target is ''"),
        (DECODER, TEXT, {"target": "w9"}, "target='w9': VanillaDecoderForCausalLM is no encoder-decoder; leave it out"),
        (SEQ2SEQ[0], TEXT, {}, "target is missing: VanillaSeq2SeqModel cannot generate one"),
        (DECODER, TEXT, {"layers": [0, 2]}, "there is no layer 2; this model has layers 0 to 1"),
        (DECODER, TEXT, {"layers": [-1]}, "there is no layer -1; this model has layers 0 to 1"),
        (DECODER, TEXT, {"heads": [4]}, "there is no head 4; this model has heads 0 to 3"),
        (DECODER, TEXT, {"kinds": ["cross"]}, "this model has no cross attention; it has decoder"),
        (TRANSLATOR, TEXT, {"kinds": ["self"]}, "no self attention; it has encoder and decoder and cross"),
        (DECODER, TEXT, {"heads": []}, "no head is chosen"),
        (ENCODERS[5], TEXT, {}, "VanillaEncoderForMultipleChoice reads several texts at once"),
    ],
)
def test_bad_input_is_one_clear_line(model_class, text, choice, message, tokenizer):
    with pytest.raises(AttentionMapError, match=message.replace("(", r"\(")) as fault:
        attention_maps(tiny_model(model_class), tokenizer, text, **choice)
    assert "\n" not in str(fault.value)


def test_layers_of_unequal_stacks(tokenizer):
    model = tiny_model(TRANSLATOR, decoder_layers=1)
    maps = attention_maps(model, tokenizer, TEXT, TARGET, layers=[1], effects=False)
    assert {head.kind for head in maps.weights} == {"encoder"}
    with pytest.raises(AttentionMapError, match="encoder has layers 0 to 1, decoder has layer 0, cross has layer 0"):
        attention_maps(model, tokenizer, TEXT, TARGET, layers=[2])


def test_too_many_weights_are_refused(tokenizer, monkeypatch):
    monkeypatch.setattr(attention_mapping, "MOST_WEIGHTS", 100)
    with pytest.raises(AttentionMapError, match="the maps have 288 weights together, more than 100: choose fewer"):
        attention_maps(tiny_model(DECODER), tokenizer, TEXT)


def test_bytes_are_shown_as_characters_and_white_space_is_visible():
    tokenizer = train_decoder_tokenizer(["ein Übel ist ein Übel"] * 3, vocab_size=270, max_length=64)
    labels = token_labels(tokenizer, tokenizer("ein Übel\n\t\u200bist")["input_ids"])
    assert "".join(labels) == "ein▁Übel⏎⇥<E2><80><8B>ist"
    assert token_labels(tokenizer, [0]) == ["<|endoftext|>"]


def test_the_public_name_is_the_function_whatever_was_imported():
    assert vanilla_transformers.attention_maps is attention_mapping.attention_maps
    assert "attention_maps" in vanilla_transformers.__all__


def test_a_target_for_a_class_that_does_not_prepare_its_decoder_inputs():
    model, tokenizer = tiny_nllb()
    assert not hasattr(model, "prepare_decoder_input_ids_from_labels")
    maps = attention_maps(model.eval(), tokenizer, "the dog", "the man")
    rows, columns = maps.tokens["cross"]
    target = tokenizer(text_target="the man")["input_ids"]
    assert (len(rows), len(columns)) == (len(target), len(tokenizer("the dog")["input_ids"]))
    assert rows[0] == tokenizer.convert_ids_to_tokens(model.config.decoder_start_token_id)
    assert maps.loss == pytest.approx(
        model(**tokenizer("the dog", return_tensors="pt"), labels=torch.tensor([target])).loss.item(), rel=1e-5
    )
