"""A masked-language-model head over the masked positions alone is the head over all tokens."""

import pytest
import torch
from tiny import ENCODERS, VOCAB_SIZE, tiny_inputs, tiny_labels, tiny_model
from torch.export import Dim

MASKED_LM = ENCODERS[1]


@pytest.fixture
def full() -> dict[str, torch.Tensor]:
    """Inputs with labels (B, T), of which -100 marks what is no target."""
    inputs = tiny_inputs(MASKED_LM, batch_size=4, length=9)
    inputs |= tiny_labels(MASKED_LM, inputs)
    inputs["labels"][:, ::2] = -100
    return inputs


@pytest.fixture
def picked(full) -> dict[str, torch.Tensor]:
    """The same with the positions of the targets."""
    return at_targets(full)


def at_targets(full: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    positions = full["labels"].flatten().ne(-100).nonzero().squeeze(1)
    return full | {"masked_positions": positions, "labels": full["labels"].flatten()[positions]}


def loss_and_gradients(model, inputs, **kwargs) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    torch.manual_seed(0)  # dropout
    loss = model(**inputs, **kwargs).loss
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def check_equal(model, full, picked, **kwargs) -> None:
    expected_loss, expected = loss_and_gradients(model, full, **kwargs)
    loss, gradients = loss_and_gradients(model, picked, **kwargs)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=0)
    scale = max(gradient.abs().max() for gradient in expected.values())
    assert scale > 1e-3
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=1e-6 * float(scale), msg=name)


@pytest.mark.parametrize("knobs", [{}, {"label_smoothing": 0.1}, {"hidden_dropout_prob": 0.2}], ids=str)
@pytest.mark.parametrize("num_items_in_batch", [None, 23, torch.tensor(23.0)], ids=["mean", "int", "tensor"])
def test_same_loss_and_gradients_as_the_full_head(full, picked, knobs, num_items_in_batch):
    model = tiny_model(MASKED_LM, **knobs).train()
    check_equal(model, full, picked, num_items_in_batch=num_items_in_batch)


def test_same_under_gradient_checkpointing(full, picked):
    model = tiny_model(MASKED_LM, hidden_dropout_prob=0.1).train()
    model.activation_checkpointing_enable()
    check_equal(model, full, picked)


def test_logits_are_rows_of_the_full_logits(full, picked):
    model = tiny_model(MASKED_LM)
    with torch.no_grad():
        expected = model(**full).logits.flatten(0, 1)[picked["masked_positions"]]
        logits = model(**picked).logits
        without_labels = model(**{name: tensor for name, tensor in picked.items() if name != "labels"})
    assert logits.shape == (len(picked["labels"]), VOCAB_SIZE)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)
    assert without_labels.loss is None
    assert torch.equal(without_labels.logits, logits)


def test_unordered_and_repeated_positions(full):
    model = tiny_model(MASKED_LM)
    positions = torch.tensor([9, 0, 9, 35])
    with torch.no_grad():
        expected = model(full["input_ids"], full["attention_mask"]).logits.flatten(0, 1)[positions]
        logits = model(full["input_ids"], full["attention_mask"], masked_positions=positions).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)


def test_no_masked_position_at_all(full):
    model = tiny_model(MASKED_LM).train()
    none = torch.zeros(0, dtype=torch.long)
    output = model(full["input_ids"], masked_positions=none, labels=none)
    output.loss.backward()
    assert output.loss.item() == 0
    assert all(not parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_without_a_graph_break(full, picked, backend):
    torch.compiler.reset()
    expected_loss, expected = loss_and_gradients(tiny_model(MASKED_LM, num_hidden_layers=1).train(), full)
    model = tiny_model(MASKED_LM, num_hidden_layers=1).train()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)
    for inputs in (at_targets(dict(full, labels=full["labels"].roll(1, 1))), picked):  # another number of targets each
        model.zero_grad(set_to_none=True)
        loss = compiled(**inputs).loss
        loss.backward()
    torch.testing.assert_close(loss.detach(), expected_loss, rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-5, atol=1e-5, msg=name)
    torch.compiler.reset()


def test_exports_with_any_number_of_positions(full):
    model = tiny_model(MASKED_LM)
    inputs = {"input_ids": full["input_ids"], "masked_positions": torch.tensor([1, 2, 3])}
    shapes = {"input_ids": {0: Dim("batch"), 1: Dim("length", min=2, max=64)}, "masked_positions": {0: Dim("masked")}}
    program = torch.export.export(model, args=(), kwargs=inputs, dynamic_shapes=shapes)
    inputs = {"input_ids": full["input_ids"][:3, :5], "masked_positions": torch.tensor([4, 0, 14, 9])}
    with torch.no_grad():
        expected = model(**inputs).logits
    torch.testing.assert_close(program.module()(**inputs).logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("positions", [[0, 36], [3, -1]])
def test_a_position_outside_the_batch_is_named(full, positions):
    range_of = f"{min(positions)} to {max(positions)}"
    message = f"masked_positions range from {range_of}, but the batch has the indices 0 to 35: count them as b"
    with pytest.raises(ValueError, match=message):
        tiny_model(MASKED_LM)(full["input_ids"], masked_positions=torch.tensor(positions))


def test_labels_that_do_not_go_with_the_positions(full, picked):
    model = tiny_model(MASKED_LM)
    message = r"masked_positions has the shape \(\d+,\) and labels \(4, 9\), but needs the shape \(N,\)"
    with pytest.raises(ValueError, match=message):
        model(**picked | {"labels": full["labels"]})
    message = r"masked_positions has the shape \(4, 9\), but needs the shape \(N,\), with one index b \* T \+ t"
    with pytest.raises(ValueError, match=message):
        model(full["input_ids"], masked_positions=torch.zeros(4, 9, dtype=torch.long))
