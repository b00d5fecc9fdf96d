"""`fast/` is plugged in at one place: with it and without it models give the same, within 1e-5, and the same tokens."""

import os
import subprocess
import sys
from dataclasses import asdict
from unittest.mock import Mock

import pytest
import torch
from tiny import LM_HEADS, MODELS, first_output, name_of, random_ids, tiny_inputs, tiny_labels, tiny_model

from vanilla_transformers import fast
from vanilla_transformers.model.operations import OPERATIONS, Operations

TOLERANCE = dict(rtol=1e-5, atol=1e-5)
SEARCHES = [{}, {"num_beams": 4}, {"do_sample": True, "top_k": 0}, {"num_beams": 3, "num_return_sequences": 2}]


@pytest.fixture(autouse=True)
def plugged():
    with fast.unplugged():  # whatever the environment asked for
        fast.plug_in()
        yield


def test_every_operation_is_exchanged_and_given_back():
    assert OPERATIONS == fast.OURS
    for name, function in asdict(Operations()).items():
        assert getattr(OPERATIONS, name) is not function, name
    with fast.unplugged():
        assert Operations() == OPERATIONS
    assert OPERATIONS == fast.OURS


def test_an_unknown_operation_is_refused():
    with pytest.raises(AttributeError, match="sofmax"):
        OPERATIONS.sofmax = torch.softmax


@pytest.mark.parametrize("model_class", MODELS, ids=name_of)
def test_outputs(model_class):
    model, inputs = tiny_model(model_class), tiny_inputs(model_class, batch_size=8)
    found = first_output(model, inputs)
    with fast.unplugged():
        torch.testing.assert_close(found, first_output(model, inputs), **TOLERANCE)


def loss_and_gradients(model, batch) -> list[torch.Tensor]:
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    gradients = (torch.zeros_like(each) if each.grad is None else each.grad.clone() for each in model.parameters())
    return [loss.detach(), *gradients]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("model_class", LM_HEADS, ids=name_of)
def test_losses_and_gradients(model_class, smoothing):
    model = tiny_model(model_class, label_smoothing=smoothing).train()
    inputs = tiny_inputs(model_class, batch_size=8)
    batch = inputs | tiny_labels(model_class, inputs) | {"return_logits": False}
    found = loss_and_gradients(model, batch)
    with fast.unplugged():
        torch.testing.assert_close(found, loss_and_gradients(model, batch), **TOLERANCE)


@pytest.mark.parametrize("settings", SEARCHES, ids=str)
@pytest.mark.parametrize("model_class", [LM_HEADS[0], LM_HEADS[2]], ids=name_of)
def test_tokens(model_class, settings, monkeypatch):
    """Of weights far apart, so that no search chooses between tokens that are nearly as likely."""
    model = tiny_model(model_class, initializer_range=0.5, norm_position="pre", tie_word_embeddings=False)

    def tokens() -> list[list[int]]:
        torch.manual_seed(3)
        return model.generate(random_ids(5, 6), max_new_tokens=16, bad_words_ids=[[1]], **settings).tolist()

    ours = Mock(wraps=OPERATIONS.search)
    monkeypatch.setattr(OPERATIONS, "search", ours)
    found = tokens()
    assert ours.call_count == 1
    with fast.unplugged():
        assert tokens() == found
    assert ours.call_count == 1
    assert len({tuple(row) for row in found}) > 1


@pytest.mark.parametrize(("value", "is_plain"), [("0", True), ("1", False), (None, False)])
def test_the_environment_can_leave_it_out(value, is_plain):
    code = (
        "import vanilla_transformers\n"
        "from vanilla_transformers.model.operations import OPERATIONS, Operations\n"
        "print(OPERATIONS == Operations())"
    )
    environment = {name: text for name, text in os.environ.items() if name != "VANILLA_TRANSFORMERS_FAST"}
    environment |= {} if value is None else {"VANILLA_TRANSFORMERS_FAST": value}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(is_plain)
