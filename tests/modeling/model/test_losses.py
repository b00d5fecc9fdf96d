"""Losses against torch's own, and the same gradient however a batch is cut."""

import math

import pytest
import torch
from tiny import (
    DECODERS,
    ENCODERS,
    HEADS,
    LENGTH,
    LM_HEADS,
    NUM_LABELS,
    PAD,
    SEQ2SEQ,
    SEQUENCE_HEADS,
    VOCAB_SIZE,
    is_seq2seq,
    name_of,
    random_ids,
    tiny_inputs,
    tiny_labels,
    tiny_model,
)
from torch.nn import functional

from vanilla_transformers.model.caches import CACHE
from vanilla_transformers.model.losses import cross_entropy_loss, reduce_loss

every_head = pytest.mark.parametrize("model_class", HEADS, ids=name_of)
every_sequence_head = pytest.mark.parametrize("model_class", SEQUENCE_HEADS, ids=name_of)
QA_HEAD = ENCODERS[4]
SMOOTHING = 0.2


def gradients(model, batches: list[dict], **kwargs) -> torch.Tensor:
    """The gradient of all parameters in one vector, summed over the batches."""
    model.zero_grad()
    for batch in batches:
        model(**batch, **kwargs).loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def cut(batch: dict, size: int) -> list[dict]:
    rows = len(next(iter(batch.values())))
    return [{name: value[i : i + size] for name, value in batch.items()} for i in range(0, rows, size)]


def count_targets(model_class, labels: dict[str, torch.Tensor]) -> torch.Tensor:
    """What `transformers.Trainer` counts."""
    if model_class is QA_HEAD:
        return torch.tensor(len(labels["start_positions"]))
    targets = labels["labels"]
    return (targets[:, 1:] if model_class is DECODERS[1] else targets).ne(-100).sum()


def reference(logits, labels, **kwargs) -> torch.Tensor:
    return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), **kwargs)


def place_reference(logits, places, reduction="mean", **kwargs) -> torch.Tensor:
    """Row by row over the places that `tiny_inputs` does not pad."""
    rows = zip(logits, tiny_inputs(QA_HEAD, batch_size=len(logits))["attention_mask"].bool(), places, strict=True)
    losses = torch.stack(
        [functional.cross_entropy(row[mask][None], place[None], **kwargs) for row, mask, place in rows]
    )
    return losses.sum() if reduction == "sum" else losses.mean()


def reference_loss(model_class, output, labels: dict, **kwargs) -> torch.Tensor:
    """The loss of a head, from its logits, by `torch.nn.functional.cross_entropy` alone."""
    if model_class is QA_HEAD:
        ends = ((output.start_logits, labels["start_positions"]), (output.end_logits, labels["end_positions"]))
        return sum(place_reference(logits, places, **kwargs) for logits, places in ends) / 2
    if model_class is DECODERS[1]:
        return reference(output.logits[:, :-1], labels["labels"][:, 1:], **kwargs)
    return reference(output.logits, labels["labels"], **kwargs)


@pytest.mark.parametrize("knobs", [{}, {"label_smoothing": SMOOTHING}], ids=["plain", "smoothed"])
@every_head
def test_gradient_does_not_depend_on_how_a_batch_is_cut(model_class, knobs):
    model = tiny_model(model_class, **knobs).train()
    inputs = tiny_inputs(model_class, batch_size=8)
    labels = tiny_labels(model_class, inputs)
    num_items = count_targets(model_class, labels)
    batch = inputs | labels
    whole = gradients(model, [batch], num_items_in_batch=num_items)
    assert whole.norm() > 1e-3
    for size in (4, 2, 1):
        pieces = gradients(model, cut(batch, size), num_items_in_batch=num_items)
        assert (pieces - whole).norm() < 1e-6 * whole.norm()
    torch.testing.assert_close(gradients(model, [batch]), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("number", [40, torch.tensor(40), torch.tensor([40.0]).squeeze()], ids=["int", "long", "float"])
@every_head
def test_loss_is_the_sum_over_the_number_of_items(model_class, number):
    model = tiny_model(model_class)
    inputs = tiny_inputs(model_class, batch_size=4)
    labels = tiny_labels(model_class, inputs)
    output = model(**inputs, **labels, num_items_in_batch=number)
    expected = reference_loss(model_class, output, labels, reduction="sum") / 40
    torch.testing.assert_close(output.loss, expected, rtol=1e-6, atol=1e-6)


@every_head
def test_label_smoothing_is_torchs_in_training_and_off_in_evaluation(model_class):
    model = tiny_model(model_class, label_smoothing=SMOOTHING)
    inputs = tiny_inputs(model_class, batch_size=4)
    labels = tiny_labels(model_class, inputs)
    for training, smoothing in ((True, SMOOTHING), (False, 0.0)):
        output = model.train(training)(**inputs, **labels)
        expected = reference_loss(model_class, output, labels, label_smoothing=smoothing)
        torch.testing.assert_close(output.loss, expected, rtol=1e-6, atol=1e-6)
    smoothed = reference_loss(model_class, output, labels, label_smoothing=SMOOTHING)
    assert (smoothed - output.loss).abs() > 1e-3


@every_head
def test_no_target_at_all_gives_zero_and_no_nan(model_class):
    model = tiny_model(model_class, label_smoothing=SMOOTHING).train()
    inputs = tiny_inputs(model_class)
    outside = 999 if model_class is QA_HEAD else -100
    labels = {name: torch.full_like(value, outside) for name, value in tiny_labels(model_class, inputs).items()}
    assert gradients(model, [inputs | labels]).abs().max() == 0
    assert model(**inputs, **labels).loss == 0
    assert model(**inputs, **labels, num_items_in_batch=torch.tensor(0)).loss == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ignored_positions_change_nothing(smoothing):
    logits, labels = torch.randn(3, 5, 11), torch.randint(0, 11, (3, 5))
    labels[1, 2:] = labels[2] = -100
    expected = functional.cross_entropy(logits[labels != -100], labels[labels != -100], label_smoothing=smoothing)
    loss = cross_entropy_loss(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)


def test_cross_entropy_worked_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)]])
    torch.testing.assert_close(cross_entropy_loss(logits, torch.tensor([1])), torch.tensor(math.log(4 / 3)))
    smoothed = 0.9 * math.log(4 / 3) + 0.1 * (math.log(4 / 3) + math.log(4)) / 2
    loss = cross_entropy_loss(logits, torch.tensor([1]), label_smoothing=0.1)
    torch.testing.assert_close(loss, torch.tensor(smoothed))


def test_loss_of_bfloat16_logits_is_computed_in_float32():
    logits, labels = torch.randn(4, 9).bfloat16(), torch.tensor([0, 3, 5, 8])
    loss = cross_entropy_loss(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, functional.cross_entropy(logits.float(), labels))


def test_reduce_loss_divides_by_the_step_or_by_the_targets():
    losses = torch.tensor([1.0, 2.0, 3.0])
    assert reduce_loss(losses, 3) == 2
    assert reduce_loss(losses, 3, num_items_in_batch=12) == 0.5
    assert reduce_loss(losses * 0, 0) == 0


def test_regression_with_one_label():
    for model_class in SEQUENCE_HEADS:
        model = tiny_model(model_class, num_labels=1)
        inputs, targets = tiny_inputs(model_class, batch_size=4), torch.tensor([0.5, -1.0, 2.0, 0.0])
        output = model(**inputs, labels=targets)
        torch.testing.assert_close(output.loss, functional.mse_loss(output.logits.squeeze(-1), targets))
        column = model(**inputs, labels=targets[:, None], num_items_in_batch=8)
        torch.testing.assert_close(column.loss, output.loss / 2)


@every_sequence_head
def test_regression_of_several_numbers(model_class):
    model = tiny_model(model_class, problem_type="regression")
    inputs, targets = tiny_inputs(model_class), torch.randn(2, NUM_LABELS)
    output = model(**inputs, labels=targets)
    torch.testing.assert_close(output.loss, functional.mse_loss(output.logits, targets))


@every_sequence_head
def test_multi_label_is_inferred_from_floats(model_class):
    model = tiny_model(model_class)
    inputs, targets = tiny_inputs(model_class), torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    output = model(**inputs, labels=targets)
    expected = functional.binary_cross_entropy_with_logits(output.logits, targets)
    torch.testing.assert_close(output.loss, expected)
    # The Trainer counts every element of the labels.
    torch.testing.assert_close(model(**inputs, labels=targets, num_items_in_batch=targets.numel()).loss, expected)


@every_sequence_head
def test_problem_type_is_found_from_the_labels_and_kept(model_class):
    targets = {"single_label_classification": torch.tensor([0, 2]), "multi_label_classification": torch.rand(2, 3)}
    for problem_type, labels in targets.items():
        model = tiny_model(model_class)
        model(**tiny_inputs(model_class), labels=labels)
        assert model.config.problem_type == problem_type


@pytest.mark.parametrize("outside", [LENGTH, LENGTH + 4, -100, LENGTH - 1])  # the last is padding
def test_a_span_end_outside_the_input_is_no_target(outside):
    model = tiny_model(QA_HEAD)
    inputs = tiny_inputs(QA_HEAD)
    output = model(**inputs, start_positions=torch.tensor([1, 2]), end_positions=torch.tensor([3, outside]))
    start = place_reference(output.start_logits, torch.tensor([1, 2]))
    end = functional.cross_entropy(output.end_logits[:1], torch.tensor([3]))  # the first row has no padding
    torch.testing.assert_close(output.loss, (start + end) / 2)


@pytest.mark.parametrize("knobs", [{}, {"label_smoothing": SMOOTHING}], ids=["plain", "smoothed"])
def test_a_span_loss_does_not_depend_on_the_width_of_the_batch(knobs):
    model = tiny_model(QA_HEAD, **knobs).train()
    inputs = tiny_inputs(QA_HEAD)
    labels = {"start_positions": torch.tensor([1, 2]), "end_positions": torch.tensor([6, 4])}
    whole = gradients(model, [inputs | labels], num_items_in_batch=2)
    rows = cut(inputs | labels, 1)
    rows[1] |= {name: tensor[:, :-2] for name, tensor in rows[1].items() if name in inputs}
    pieces = gradients(model, rows, num_items_in_batch=2)
    assert (pieces - whole).norm() < 1e-6 * whole.norm()


def test_decoder_shifts_labels_once_and_shift_labels_never():
    model = tiny_model(DECODERS[1])
    input_ids = random_ids(2, LENGTH)
    output = model(input_ids, labels=input_ids)
    log_probs = output.logits.log_softmax(-1)
    by_hand = -sum(log_probs[b, t, input_ids[b, t + 1]] for b in range(2) for t in range(LENGTH - 1)) / (
        2 * (LENGTH - 1)
    )
    torch.testing.assert_close(output.loss, by_hand)
    shifted = functional.pad(input_ids[:, 1:], (0, 1), value=-100)
    torch.testing.assert_close(model(input_ids, shift_labels=shifted).loss, by_hand)
    torch.testing.assert_close(model(input_ids, labels=input_ids, shift_labels=shifted).loss, by_hand)


def test_seq2seq_labels_are_not_shifted_and_make_the_decoder_input():
    model_class = SEQ2SEQ[1]
    model = tiny_model(model_class)
    inputs = tiny_inputs(model_class)
    del inputs["decoder_input_ids"]
    labels = torch.tensor([[10, 11, 12, 3], [20, 3, -100, -100]])
    decoder_input_ids = torch.tensor([[2, 10, 11, 12], [2, 20, 3, PAD]])
    assert torch.equal(model.prepare_decoder_input_ids_from_labels(labels), decoder_input_ids)
    output = model(**inputs, labels=labels)
    log_probs = model(**inputs, decoder_input_ids=decoder_input_ids).logits.log_softmax(-1)
    targets = [(0, 0, 10), (0, 1, 11), (0, 2, 12), (0, 3, 3), (1, 0, 20), (1, 1, 3)]
    by_hand = -sum(log_probs[b, t, token] for b, t, token in targets) / len(targets)
    torch.testing.assert_close(output.loss, by_hand)
    assert labels[1, -1] == -100


@pytest.mark.parametrize("model_class", [SEQ2SEQ[1], *DECODERS[1:3]], ids=name_of)
def test_a_training_step_keeps_no_cache(model_class):
    model, inputs = tiny_model(model_class), tiny_inputs(model_class)
    assert CACHE in model(**inputs)
    assert CACHE not in model(**inputs, **tiny_labels(model_class, inputs))


@pytest.mark.parametrize("model_class", LM_HEADS, ids=name_of)
def test_loss_function_that_transformers_infers_is_ours(model_class):
    """Libraries that compute the loss themselves, through `loss_function`, must get what the head computes."""
    model = tiny_model(model_class)
    inputs = tiny_inputs(model_class)
    labels = tiny_labels(model_class, inputs)["labels"]
    output = model(**inputs, labels=labels)
    shifts = {} if is_seq2seq(model_class) else {"shift_labels": None}
    again = model.loss_function(logits=output.logits, labels=labels, vocab_size=VOCAB_SIZE, **shifts)
    torch.testing.assert_close(again, output.loss)
