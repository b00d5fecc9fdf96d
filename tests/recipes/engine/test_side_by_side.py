"""Groups computed at the same time: the gradients of groups computed in turn, the same each time."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tiny_runs import losses, tiny_experiment, tiny_task, train

from vanilla_recipes.engine import loop as loop_module
from vanilla_recipes.engine.side_by_side import SideBySide, shallow_copy, side_by_side
from vanilla_recipes.engine.step import Gradients, Loss
from vanilla_recipes.settings.experiment import AdapterConfig, AveragingConfig, BatchConfig

pytestmark = pytest.mark.fast  # groups are computed side by side only if dropout is that of `fast/`
GROUPS = [np.arange(0, 7), np.arange(7, 12), np.arange(12, 22)]


def gradients_of(task, num_copies: int, groups=GROUPS) -> tuple[float, torch.Tensor]:
    """The loss of a step and its gradient in one line; with one copy the groups are computed in turn."""
    model = task.model.train()
    model.zero_grad()
    threads = SideBySide(model, num_copies, nullcontext) if num_copies > 1 else None
    step = Gradients(task, Loss(model), Accelerator(cpu=True), seed=3, side_by_side=threads)
    parts = step.cut(groups, 0, 1)
    loss = step.add_up(parts, step.num_targets(parts), step=5)
    return loss.item(), torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("num_copies", [2, 3, 4])
def test_gradient_and_dropout_are_those_of_groups_in_turn(num_copies):
    task = tiny_task(dropout=0.3)
    loss, gradient = gradients_of(task, 1)
    _, without_dropout = gradients_of(tiny_task(dropout=0.0), 1)
    assert (gradient - without_dropout).norm() > 0.1 * without_dropout.norm()
    together_loss, together = gradients_of(task, num_copies)
    assert together_loss == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(together, gradient, rtol=1e-5, atol=1e-7)


def test_gradient_is_the_same_each_time():
    task = tiny_task(dropout=0.3)
    _, first = gradients_of(task, 2)
    assert all(torch.equal(gradients_of(task, 2)[1], first) for _ in range(20))


def test_torchs_own_generator_and_threads_are_left_alone():
    task = tiny_task(dropout=0.3)
    before, num_threads = torch.get_rng_state(), torch.get_num_threads()
    gradients_of(task, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == num_threads


def test_gradient_is_added_to_one_that_is_there():
    task = tiny_task(dropout=0.0)
    _, once = gradients_of(task, 2)
    step = Gradients(task, Loss(task.model), Accelerator(cpu=True), 3, SideBySide(task.model, 2, nullcontext))
    parts = step.cut(GROUPS, 0, 1)
    step.add_up(parts, step.num_targets(parts), step=6)
    twice = torch.cat([parameter.grad.flatten() for parameter in task.model.parameters()])
    torch.testing.assert_close(twice, 2 * once, rtol=1e-5, atol=1e-7)


def test_copies_share_weights_but_not_gradients():
    model = tiny_task().model
    model.get_encoder().requires_grad_(False)
    other = shallow_copy(model)
    pairs = list(zip(model.parameters(), other.parameters(), strict=True))
    assert all(mine is not its and mine.data_ptr() == its.data_ptr() for mine, its in pairs)
    assert [its.requires_grad for _, its in pairs] == [mine.requires_grad for mine, _ in pairs]
    assert other.get_input_embeddings().weight is other.get_output_embeddings().weight
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(2)
    assert torch.equal(other.get_input_embeddings().weight, model.get_input_embeddings().weight)


def test_an_error_in_any_thread_is_raised_when_all_have_ended():
    task = tiny_task()
    threads = SideBySide(task.model, 2, nullcontext)
    for bad in (0, 1):
        batches = [dict(task.make_batch(rows, 0)) for rows in GROUPS[:2]]
        batches[bad]["input_ids"] = batches[bad]["input_ids"] + 1000
        with pytest.raises((ValueError, IndexError)):
            threads.add_up(batches, torch.tensor(1.0), [0, 0])
    _, expected = gradients_of(task, 2)
    task.model.zero_grad()  # what is left in the copies would be added to it
    step = Gradients(task, Loss(task.model), Accelerator(cpu=True), 3, threads)
    parts = step.cut(GROUPS, 0, 1)
    step.add_up(parts, step.num_targets(parts), step=5)
    assert torch.equal(torch.cat([parameter.grad.flatten() for parameter in task.model.parameters()]), expected)


def run_losses(folder: Path, monkeypatch, num_copies: int, **changes) -> dict[int, float]:
    """The losses of a run whose groups are computed in turn, or side by side whatever threads there are."""
    made = None if num_copies == 1 else lambda model, *_: SideBySide(model, num_copies, nullcontext)
    monkeypatch.setattr(loop_module, "side_by_side", made or (lambda *_: None))
    train(tiny_experiment(folder, batch=BatchConfig(tokens=160, groups=3), **changes), tiny_task())
    return losses(folder)


@pytest.mark.parametrize("changes", [{}, {"averaging": AveragingConfig(ema_decay=0.9)}], ids=["plain", "averaged"])
def test_runs_learn_alike(tmp_path, monkeypatch, changes):
    in_turn = run_losses(tmp_path / "turn", monkeypatch, 1, **changes)
    together = run_losses(tmp_path / "together", monkeypatch, 2, **changes)
    assert len(in_turn) == 12
    assert in_turn[12] < in_turn[1]
    assert together == pytest.approx(in_turn, rel=1e-4)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_who_is_computed_side_by_side(tmp_path, two_threads):
    accelerator, model = Accelerator(cpu=True), tiny_task().model
    model.set_attn_implementation("eager")
    experiment = tiny_experiment(tmp_path, batch=BatchConfig(tokens=160, groups=3))
    found = side_by_side(model, experiment, accelerator)
    assert found is not None
    assert found.num_copies == 2
    for changes in (
        {"batch": BatchConfig(tokens=160)},
        {"compile": True},
        {"gradient_checkpointing": True},
        {"peft": AdapterConfig(r=2)},
    ):
        assert side_by_side(model, replace(experiment, **changes), accelerator) is None
    model.config.attention_probs_dropout_prob = 0.1
    assert side_by_side(model, experiment, accelerator) is not None
    model.set_attn_implementation("sdpa")  # its dropout draws from torch's own generator
    assert side_by_side(model, experiment, accelerator) is None


def test_one_thread_computes_in_turn(tmp_path):
    experiment = tiny_experiment(tmp_path, batch=BatchConfig(tokens=160, groups=3))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert side_by_side(tiny_task().model, experiment, Accelerator(cpu=True)) is None
    finally:
        torch.set_num_threads(before)
