"""Going on from a saved classifier: its outputs follow the names of the labels."""

import pytest
import torch
from tiny import DECODERS, ENCODERS, random_ids, tiny_model
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    RobertaConfig,
    XLNetConfig,
)

from vanilla_recipes.errors import UserError
from vanilla_recipes.models import pretrained
from vanilla_recipes.models.classification_head import reorder_outputs
from vanilla_recipes.models.pretrained import load_pretrained
from vanilla_transformers import VanillaEncoderForSequenceClassification

SAVED = ["low", "mid", "high"]
SORTED = ["high", "low", "mid"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
STOCK = {
    "bert": BertConfig(vocab_size=67, **SMALL),
    "roberta": RobertaConfig(vocab_size=67, pad_token_id=1, **SMALL),
    "distilbert": DistilBertConfig(vocab_size=67, dim=16, n_layers=1, n_heads=2, hidden_dim=16),
    "gpt2": GPT2Config(vocab_size=67, n_embd=16, n_layer=1, n_head=2, pad_token_id=1, bos_token_id=2, eos_token_id=3),
}


def names(labels: list[str]) -> dict:
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def head(labels: list[str]) -> dict:
    return names(labels) | {"problem_type": "single_label_classification"}


def save(model, tokenizer, folder, labels=SAVED):
    for name, value in names(labels).items():
        setattr(model.config, name, value)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model.eval()(random_ids(4, 6)).logits


@pytest.mark.parametrize("model_class", [ENCODERS[2], DECODERS[2]], ids=["encoder", "decoder"])
def test_outputs_follow_their_names(model_class, tokenizer, tmp_path):
    saved = save(tiny_model(model_class), tokenizer, tmp_path)
    loaded, _ = load_pretrained(model_class, str(tmp_path), {}, head(SORTED))
    assert torch.equal(logits(loaded), logits(saved)[:, [2, 0, 1]])
    assert loaded.config.id2label == dict(enumerate(SORTED))
    loaded.save_pretrained(tmp_path / "again")
    again = model_class.from_pretrained(tmp_path / "again")
    assert torch.equal(logits(again), logits(loaded))


@pytest.mark.parametrize("config", STOCK.values(), ids=STOCK)
def test_outputs_of_models_of_transformers_follow_their_names(config, tokenizer, tmp_path):
    torch.manual_seed(0)
    config.num_labels = 3
    saved = save(AutoModelForSequenceClassification.from_config(config), tokenizer, tmp_path)
    model_class = DECODERS[2] if config.model_type == "gpt2" else ENCODERS[2]
    loaded, _ = load_pretrained(model_class, str(tmp_path), {}, head(SORTED))
    assert type(loaded) is type(saved)
    assert torch.equal(logits(loaded), logits(saved)[:, [2, 0, 1]])


def test_the_same_order_changes_nothing(tokenizer, tmp_path, caplog):
    saved = save(tiny_model(ENCODERS[2]), tokenizer, tmp_path)
    loaded, _ = load_pretrained(VanillaEncoderForSequenceClassification, str(tmp_path), {}, head(SAVED))
    assert torch.equal(logits(loaded), logits(saved))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (
            ["bad", "fine", "good"],
            "labels of the saved model are low, mid, high, those of the data are bad, fine, good",
        ),
        (["low", "mid"], "labels of the saved model are low, mid, high, those of the data are low, mid"),
        (["low", "mid", "High"], "those of the data are low, mid, High"),
        ([f"class {number}" for number in range(9)], "class 3, class 4 and 4 others"),
    ],
)
def test_other_names_get_a_new_head(labels, told, tokenizer, tmp_path, caplog):
    saved = save(tiny_model(ENCODERS[2]), tokenizer, tmp_path)
    loaded, _ = load_pretrained(VanillaEncoderForSequenceClassification, str(tmp_path), {}, head(labels))
    assert told in caplog.text
    assert caplog.text.count("the classification head is new") == 1
    weight = loaded.classifier.weight
    assert weight.shape[0] == len(labels)
    assert not torch.equal(weight[:2], saved.classifier.weight[:2])
    assert torch.equal(loaded.base_model.get_input_embeddings().weight, saved.base_model.get_input_embeddings().weight)


def test_labels_without_names_are_those_of_the_data(tokenizer, tmp_path, caplog):
    saved = save(tiny_model(ENCODERS[2]), tokenizer, tmp_path, [f"LABEL_{number}" for number in range(3)])
    loaded, _ = load_pretrained(VanillaEncoderForSequenceClassification, str(tmp_path), {}, head(SORTED))
    assert torch.equal(logits(loaded), logits(saved))
    assert "have no names: they are taken for high, low, mid, in this order" in caplog.text


def test_a_head_of_several_layers_of_that_size_is_refused():
    """XLNet's summary of a sequence has as many outputs as the model is wide."""
    model = AutoModelForSequenceClassification.from_config(
        XLNetConfig(vocab_size=67, d_model=4, n_layer=1, n_head=2, d_inner=8, num_labels=4)
    )
    with pytest.raises(UserError, match=r"m: its labels have another order .* 2 layers of its head have 4 outputs"):
        reorder_outputs(model, [1, 0, 2, 3], "m")


def test_a_model_of_another_task_gets_the_head_that_loading_makes(tokenizer, tmp_path, monkeypatch, caplog):
    """Its config names two labels, the default of transformers, although it never had a classifier."""
    model = tiny_model(ENCODERS[1], num_labels=2)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr(pretrained, "renew_outputs", lambda _: pytest.fail("it was made anew"))
    load_pretrained(VanillaEncoderForSequenceClassification, str(tmp_path), {}, head(["bad", "good"]))
    assert "the classification head is new" not in caplog.text
