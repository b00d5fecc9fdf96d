"""`vanilla_transformers.pipeline` for encoder-decoders: against `generate` called by hand, text by text."""

import logging
import subprocess
import sys

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    T5Config,
    T5ForConditionalGeneration,
    TextClassificationPipeline,
)

import vanilla_transformers
from vanilla_recipes.data.tokenizers import train_translation_tokenizer
from vanilla_transformers import VanillaSeq2SeqConfig, VanillaSeq2SeqForConditionalGeneration, pipeline
from vanilla_transformers.text.pipelines import Text2TextPipeline

TEXTS = ["the dog bites the man .", "the man", "", "the man bites the dog and the dog bites .", "dog", " "]
IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 2}
SIDES = {f"{side}_{name}": size for side in ("encoder", "decoder")
         for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))}  # fmt: skip


@pytest.fixture(scope="module")
def bpe():
    return train_translation_tokenizer(TEXTS * 3, vocab_size=400, max_length=64)


def models(vocab_size):
    """One of ours and three of transformers' own, random but decided."""
    ours = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "initializer_range": 0.5}
    ours |= {"encoder_layers": 1, "decoder_layers": 1}
    stock = {"vocab_size": vocab_size, "d_model": 16, "init_std": 0.5, "forced_eos_token_id": None, **SIDES, **IDS}
    t5 = {"vocab_size": vocab_size, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2} | IDS
    t5 |= {"initializer_factor": 4.0}
    torch.manual_seed(2)
    yield VanillaSeq2SeqForConditionalGeneration(VanillaSeq2SeqConfig(vocab_size=vocab_size, **ours, **IDS))
    yield MarianMTModel(MarianConfig(**stock, max_position_embeddings=64))
    yield BartForConditionalGeneration(BartConfig(**stock, max_position_embeddings=64))
    torch.manual_seed(0)
    yield T5ForConditionalGeneration(T5Config(**t5))


@pytest.fixture(params=range(4), ids=["vanilla", "marian", "bart", "t5"], scope="module")
def model(request, bpe):
    return list(models(len(bpe)))[request.param].eval()


def by_hand(model, bpe, text, **settings):
    """The answers to one text alone."""
    with torch.inference_mode():
        output = model.generate(**bpe(text, return_tensors="pt"), **settings)
    return bpe.batch_decode(output, skip_special_tokens=True)


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize(
    ("task", "key"),
    [
        ("translation", "translation_text"),
        ("summarization", "summary_text"),
        ("text2text-generation", "generated_text"),
    ],
)
def test_each_text_as_if_it_were_alone(task, key, num_beams, model, bpe):
    settings = {"num_beams": num_beams, "max_length": 12}
    found = pipeline(task, model=model, tokenizer=bpe, batch_tokens=12)(TEXTS, **settings)
    expected = [by_hand(model, bpe, text, **settings)[0] if text.strip() else "" for text in TEXTS]
    assert found == [{key: text} for text in expected]
    assert len(set(expected)) > 2
    assert pipeline(task, model=model, tokenizer=bpe)(TEXTS[0], **settings) == [{key: expected[0]}]


def test_blank_texts_stay_blank(model, bpe):
    translate = pipeline("translation", model=model, tokenizer=bpe, return_scores=True)
    blank = {"translation_text": "", "score": 0.0}
    assert translate(["", " \n"]) == [blank, blank]
    assert translate("", num_beams=2, num_return_sequences=2) == [blank, blank]
    assert translate([]) == []


def test_several_answers_to_each_text(model, bpe):
    settings = {"num_beams": 4, "num_return_sequences": 3, "max_length": 12}
    translate = pipeline("translation", model=model, tokenizer=bpe, **settings)
    found = translate(TEXTS[:3])
    for text, answers in zip(TEXTS[:3], found, strict=True):
        expected = by_hand(model, bpe, text, **settings) if text else [""] * 3
        assert [answer["translation_text"] for answer in answers] == expected
    assert translate(TEXTS[0]) == found[0]


def test_other_sources_are_read_as_they_come(model, bpe):
    translate = pipeline("translation", model=model, tokenizer=bpe, max_length=12)
    found = translate(text for text in TEXTS)
    assert iter(found) is found
    assert list(found) == translate(tuple(TEXTS)) == translate(TEXTS)
    endless = translate(iter(lambda: TEXTS[0], None))
    assert next(endless) == translate(TEXTS[:1])[0]


def test_scores_of_beams_are_their_sequence_scores(model, bpe):
    settings = {"num_beams": 4, "num_return_sequences": 4, "max_length": 12, "length_penalty": 1.0}
    found = pipeline("translation", model=model, tokenizer=bpe, return_scores=True)(TEXTS[:2], **settings)
    for text, answers in zip(TEXTS, found, strict=False):
        inputs = bpe(text, return_tensors="pt")
        output = model.generate(**inputs, **settings, output_scores=True, return_dict_in_generate=True)
        scores = [answer["score"] for answer in answers]
        assert scores == pytest.approx(output.sequences_scores.tolist(), abs=1e-5)


def test_scores_of_greedy_search_are_means_of_the_token_scores(model, bpe):
    found = pipeline("translation", model=model, tokenizer=bpe, return_scores=True, num_beams=1)(TEXTS, max_length=12)
    for text, answer in zip(TEXTS, found, strict=True):
        expected = 0.0
        if text.strip():
            inputs = bpe(text, return_tensors="pt")
            output = model.generate(
                **inputs, max_length=12, num_beams=1, output_scores=True, return_dict_in_generate=True
            )
            tokens = model.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)
            expected = tokens[0].mean().item()
        assert answer["score"] == pytest.approx(expected, abs=1e-5)


def test_logits_are_scored_some_rows_at_a_time(model, bpe, monkeypatch):
    translate = pipeline("translation", model=model, tokenizer=bpe, return_scores=True, max_length=12)
    whole = translate(TEXTS, num_beams=2, num_return_sequences=2)
    monkeypatch.setattr("vanilla_transformers.text.answers._SCORED_AT_ONCE", 1)
    for one, other in zip(whole, translate(TEXTS, num_beams=2, num_return_sequences=2), strict=True):
        assert [answer["score"] for answer in one] == pytest.approx([answer["score"] for answer in other], abs=1e-6)


# Long texts


def test_a_long_translation_is_that_of_its_sentences(model, bpe, caplog):
    sentences = [" ".join(["the dog bites the man"] * count) + "." for count in range(1, 12)]
    sentences = [sentence.capitalize() for sentence in sentences]
    assert len(bpe(" ".join(sentences))["input_ids"]) > 64
    translate = pipeline("translation", model=model, tokenizer=bpe, return_scores=True, max_length=12)
    alone = translate(sentences)
    short, long = translate(["the dog", " ".join(sentences)])
    assert long["translation_text"] == " ".join(answer["translation_text"] for answer in alone)
    worst, best = min(answer["score"] for answer in alone), max(answer["score"] for answer in alone)
    assert worst < long["score"] < best
    assert short["translation_text"] == translate("the dog")[0]["translation_text"]
    assert "cut to" not in caplog.text


def test_the_score_of_a_long_translation_counts_every_token(bpe):
    model = next(models(len(bpe)))
    sentence = "The dog bites the man and the man bites the dog again ."
    translate = pipeline("translation", model=model, tokenizer=bpe, return_scores=True, max_length=12)
    assert translate(" ".join([sentence] * 30))[0]["score"] == pytest.approx(translate(sentence)[0]["score"], abs=1e-6)


def test_a_sentence_that_is_too_long_is_cut_and_told(bpe, caplog):
    model = next(models(len(bpe)))
    endless = "The dog bites the man " * 40
    num_tokens = len(bpe(endless.strip())["input_ids"])
    with caplog.at_level(logging.WARNING):
        found = pipeline("translation", model=model, tokenizer=bpe, max_length=12)(["dog", f"The man. {endless}"])
    assert len(found) == 2
    messages = [record.getMessage() for record in caplog.records if "cut" in record.getMessage()]
    assert messages == [
        f"cut to the 64 tokens that the model reads: 1 of 3 sentences, the longest with {num_tokens} tokens"
    ]


def test_other_tasks_do_not_split(bpe, caplog):
    model = next(models(len(bpe)))
    text = "The dog bites the man. " * 30
    with caplog.at_level(logging.WARNING):
        (found,) = pipeline("summarization", model=model, tokenizer=bpe, max_length=12)(text)
    ids = bpe(text, truncation=True, max_length=64, return_tensors="pt")
    assert found["summary_text"] == bpe.decode(model.generate(**ids, max_length=12)[0], skip_special_tokens=True)
    assert "1 of 1 texts, the longest with" in caplog.text


@pytest.mark.parametrize(
    ("task", "saved", "given", "length"),
    [
        ("translation", {"max_length": 100}, {}, 2 * 2 + 20),
        ("translation", {"max_length": 9}, {}, 9),
        ("translation", {"max_length": 9}, {"max_new_tokens": 15}, 16),
        ("translation", {}, {"max_length": 30}, 30),
        ("summarization", {"max_length": 30}, {}, 30),
        ("summarization", {}, {}, 2 * 2 + 20),
    ],
)
def test_how_long_an_answer_may_be(task, saved, given, length, bpe, monkeypatch):
    model = next(models(len(bpe)))
    model.generation_config.update(eos_token_id=None, **saved)
    outputs = []
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda **settings: outputs.append(generate(**settings)) or outputs[-1])
    pipeline(task, model=model, tokenizer=bpe)("dog", **given)
    assert outputs[0].shape[1] == length


# What a configuration says of a task (T5)


@pytest.mark.parametrize(
    ("task", "options"),
    [("translation_en_to_de", {}), ("translation", {"src_lang": "en", "tgt_lang": "de"})],
)
def test_the_prefix_and_the_settings_of_the_task(task, options, bpe):
    *_, model = models(len(bpe))
    model.config.task_specific_params = {
        "translation_en_to_de": {"prefix": "the man ", "num_beams": 3, "max_length": 7}
    }
    (found,) = pipeline(task, model=model, tokenizer=bpe, **options)("bites the dog")
    expected = by_hand(model, bpe, "the man bites the dog", num_beams=3, max_length=7)
    assert found["translation_text"] == expected[0] != by_hand(model, bpe, "bites the dog", max_length=7)[0]
    (longer,) = pipeline(task, model=model, tokenizer=bpe, **options)("bites the dog", max_new_tokens=20)
    assert longer["translation_text"] == by_hand(model, bpe, "the man bites the dog", num_beams=3, max_length=21)[0]


# The function


def test_from_a_folder(bpe, tmp_path):
    model = next(models(len(bpe))).eval()
    model.save_pretrained(tmp_path)
    bpe.save_pretrained(tmp_path)
    translate = pipeline("translation", model=str(tmp_path), device="cpu")
    assert translate(TEXTS) == pipeline("translation", model=model, tokenizer=bpe)(TEXTS)
    half = pipeline("translation", model=str(tmp_path), device=-1, dtype=torch.bfloat16)
    assert half.model.dtype == torch.bfloat16
    assert half.model.device.type == "cpu"


def test_every_other_task_is_that_of_transformers(saved_models):
    classify = pipeline("text-classification", model=str(saved_models["EncoderForSequenceClassification"]), top_k=None)
    assert isinstance(classify, TextClassificationPipeline)
    assert len(classify(["w7 w8"])[0]) == 3


def test_the_package_does_not_load_the_pipelines_until_they_are_asked_for():
    code = (
        "import sys, vanilla_transformers as v\n"
        "assert 'vanilla_transformers.text.pipelines' not in sys.modules\n"
        "v.pipeline\n"
        "assert 'vanilla_transformers.text.pipelines' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "pipeline" in vanilla_transformers.__all__
    with pytest.raises(AttributeError, match="has no attribute 'pipelin'"):
        _ = vanilla_transformers.pipelin


@pytest.mark.parametrize(
    ("options", "texts", "message"),
    [
        ({"batch_size": 8}, "dog", "^batch_size=8: batches are made by tokens; give batch_tokens instead$"),
        ({"src_lang": "en"}, "dog", "^src_lang='en': this model takes no src_lang; leave it out$"),
        ({"tgt_lang": "de"}, "dog", "^tgt_lang='de': this model takes no tgt_lang; leave it out$"),
        ({"num_beam": 2}, "dog", r"model_kwargs` are not used by the model: \['num_beam'\]"),
        ({}, ["dog", 3], "^3: a text must be a string, not of type int$"),
        ({}, [["dog"]], r"^\['dog'\]: a text must be a string, not of type list$"),
    ],
)
def test_options_that_do_not_suit(options, texts, message, bpe):
    model = next(models(len(bpe)))
    with pytest.raises(ValueError, match=message):
        pipeline("translation", model=model, tokenizer=bpe)(texts, **options)


def test_a_model_and_a_tokenizer_are_needed(bpe):
    with pytest.raises(ValueError, match=r"^translation: model is missing; give a folder, a name"):
        pipeline("translation")
    with pytest.raises(ValueError, match=r"^summarization: tokenizer is missing; it must be given beside a model"):
        pipeline("summarization", model=next(models(len(bpe))))


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), (None, False)])
def test_the_progress_bar(progress, shown, bpe, capsys):
    translate = Text2TextPipeline("translation", next(models(len(bpe))), bpe, max_length=5)
    translate(TEXTS, progress=progress)
    assert ("6/6" in capsys.readouterr().err) == shown
