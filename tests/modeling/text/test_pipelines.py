"""`pipeline` for every task that exists for the heads, from a saved folder, against the model called by hand."""

import pytest
import torch
from tiny import DECODERS, ENCODERS, tiny_model
from transformers import AutoTokenizer, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from vanilla_recipes.data.tokenizers import train_decoder_tokenizer

TEXTS = ["w7 w8 w9", "w20 w21 w22 w23 w24"]
COVERED = {
    "feature-extraction",
    "fill-mask",
    "text-classification",
    "text-generation",
    "token-classification",
    "zero-shot-classification",
}


def make(task: str, folder, **settings):
    return pipeline(task, model=str(folder), device="cpu", **settings)


def by_hand(folder, model_class, text, pair=None):
    """Logits or hidden states (1, T, ...) of a text."""
    inputs = AutoTokenizer.from_pretrained(folder)(text, pair, return_tensors="pt")
    with torch.no_grad():
        return model_class.from_pretrained(folder)(**inputs)[0]


def test_every_text_task_of_the_families_is_covered():
    ours = {name for model_class in (*ENCODERS, *DECODERS) for name in model_class.config_class.family_auto_map}
    tasks = {
        task
        for task, settings in PIPELINE_REGISTRY.supported_tasks.items()
        if settings["type"] == "text" and ours & {auto_class.__name__ for auto_class in settings["pt"]}
    }
    assert tasks == COVERED


@pytest.mark.parametrize("model_class", [ENCODERS[0], DECODERS[0]], ids=["encoder", "decoder"])
def test_feature_extraction(model_class, saved_models):
    folder = saved_models[model_class.__name__.removeprefix("Vanilla")]
    for text, features in zip(TEXTS, make("feature-extraction", folder)(TEXTS), strict=True):
        torch.testing.assert_close(torch.tensor(features), by_hand(folder, model_class, text), rtol=0, atol=1e-5)


def test_fill_mask(saved_models):
    folder = saved_models["EncoderForMaskedLM"]
    found = make("fill-mask", folder)("w7 <mask> w9", top_k=3)
    scores, ids = by_hand(folder, ENCODERS[1], "w7 <mask> w9")[0, 2].softmax(-1).topk(3)
    assert [entry["token"] for entry in found] == ids.tolist()
    assert [entry["score"] for entry in found] == pytest.approx(scores.tolist(), abs=1e-5)
    assert found[0]["sequence"].split()[-1] == "w9"


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("model_class", [ENCODERS[2], DECODERS[2]], ids=["encoder", "decoder"])
def test_text_classification(model_class, batch_size, saved_models):
    folder = saved_models[model_class.__name__.removeprefix("Vanilla")]
    found = make("text-classification", folder, top_k=None)(TEXTS, batch_size=batch_size)
    for text, entries in zip(TEXTS, found, strict=True):
        expected = by_hand(folder, model_class, text)[0].softmax(-1).tolist()
        scores = {entry["label"]: entry["score"] for entry in entries}
        assert [scores[f"LABEL_{index}"] for index in range(3)] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("model_class", [ENCODERS[3], DECODERS[3]], ids=["encoder", "decoder"])
def test_token_classification(model_class, saved_models):
    folder = saved_models[model_class.__name__.removeprefix("Vanilla")]
    found = make("token-classification", folder, ignore_labels=[])(TEXTS[1])
    scores, labels = by_hand(folder, model_class, TEXTS[1])[0, 1:-1].softmax(-1).max(-1)
    assert [entry["entity"] for entry in found] == [f"LABEL_{label}" for label in labels]
    assert [entry["score"] for entry in found] == pytest.approx(scores.tolist(), abs=1e-5)


@pytest.mark.parametrize("model_class", [ENCODERS[2], DECODERS[2]], ids=["encoder", "decoder"])
def test_zero_shot_classification(model_class, tokenizer, tmp_path):
    labels = {0: "contradiction", 1: "neutral", 2: "entailment"}
    tiny_model(model_class, id2label=labels, label2id={name: index for index, name in labels.items()}).save_pretrained(
        tmp_path
    )
    tokenizer.save_pretrained(tmp_path)
    classify = make("zero-shot-classification", tmp_path, hypothesis_template="w30 {}")
    found = classify(TEXTS[0], candidate_labels=["w40", "w50"], multi_label=True)
    for label, score in zip(found["labels"], found["scores"], strict=True):
        logits = by_hand(tmp_path, model_class, TEXTS[0], f"w30 {label}")[0, [0, 2]]
        assert score == pytest.approx(logits.softmax(-1)[1].item(), abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_text_generation(batch_size, tokenizer, tmp_path):
    model = tiny_model(DECODERS[1], eos_token_id=None)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    generate = make("text-generation", tmp_path, batch_size=batch_size)
    found = generate(TEXTS, max_new_tokens=5, do_sample=False, return_full_text=False)
    for text, entries in zip(TEXTS, found, strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=5, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert entries[0]["generated_text"].split() == tokenizer.decode(tokens, skip_special_tokens=True).split()
        assert entries[0]["generated_text"]


@pytest.mark.skipif("decision" not in PIPELINE_REGISTRY.supported_tasks, reason="transformers is older than the task")
def test_decision(tmp_path):
    """Answers a question by the logits of its options' labels after a chat prompt; any causal model can."""
    tokenizer = train_decoder_tokenizer(["a plain text"], vocab_size=300, max_length=512)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    tiny_model(DECODERS[1], vocab_size=len(tokenizer), max_position_embeddings=512).save_pretrained(tmp_path)
    decide = make("decision", tmp_path)
    question = {"type": "choice", "instructions": "Which?", "criteria": {"left": None, "right": None}}
    request = {"state": "a text", "questions": {"side": question}}
    answer = decide(request)["side"]
    (inputs, _), *_ = decide.decision_config.prepare_inputs(request, tokenizer)
    with torch.no_grad():
        logits = DECODERS[1].from_pretrained(tmp_path)(inputs["input_ids"]).logits[0, -1]
    labels = tokenizer.convert_tokens_to_ids(["A", "B"])
    expected = logits[labels].softmax(-1).tolist()
    assert list(answer["probabilities"].values()) == pytest.approx(expected, abs=1e-5)
