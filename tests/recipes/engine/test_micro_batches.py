"""Finding the number of micro-batches, on a model that runs out of memory above a size."""

import dataclasses
import json
from contextlib import nullcontext
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from tiny_runs import KilledError, kill_after, losses, tiny_experiment, tiny_task, train, weights

from vanilla_recipes.engine import micro_batches as memory
from vanilla_recipes.engine.loop import Loop
from vanilla_recipes.engine.micro_batches import find_micro_batches
from vanilla_recipes.engine.side_by_side import SideBySide
from vanilla_recipes.engine.step import Gradients
from vanilla_recipes.engine.task import Task
from vanilla_recipes.errors import UserError
from vanilla_recipes.processes.launch import build_accelerator
from vanilla_recipes.processes.signals import StopRequest
from vanilla_recipes.run_folder.checkpoints import RunFolder
from vanilla_recipes.settings.durations import Duration
from vanilla_recipes.settings.experiment import BatchConfig, Experiment

FAULTS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("MPS backend out of memory (MPS allocated: 1.00 GB)"),
]
MAX_PLACES = 32
AUTO = {"batch": BatchConfig(tokens=160, micro_batches="auto")}


@pytest.fixture(autouse=True)
def no_garbage_collection(monkeypatch):
    """It takes half a second with everything imported, and there is no device to clear."""
    monkeypatch.setattr("vanilla_recipes.engine.micro_batches.clear_device_cache", lambda **_: None)


def limited_task(max_places: int, fault: Exception = FAULTS[0], **settings) -> Task:
    """A task whose model takes so many tokens at most, padding included; the fault comes after the layers."""
    task = tiny_task(**settings)
    forward = task.model.forward

    def limited(**batch):
        outputs = forward(**batch)
        if task.model.training and batch["input_ids"].numel() > max_places:
            raise fault
        return outputs

    task.model.forward = limited
    return task


def loop_of(experiment: Experiment, task: Task) -> Loop:
    return Loop(task, experiment, RunFolder(experiment), build_accelerator(experiment), StopRequest())


@pytest.mark.parametrize("fault", FAULTS, ids=["cuda", "cpu", "mps"])
def test_doubles_until_the_largest_batches_fit(tmp_path, fault):
    loop = loop_of(tiny_experiment(tmp_path, **AUTO), limited_task(MAX_PLACES, fault))
    assert max(loop.plan.cost(rows, 0) for rows in loop.plan.groups(0)) > 2 * MAX_PLACES
    found = find_micro_batches(loop.gradients, loop.plan, 0)
    assert found in (2, 4, 8)
    parts = [each.batch for rows in loop.plan.groups(0) for each in loop.gradients.cut([rows], 0, found)]
    assert max(batch["input_ids"].numel() for batch in parts) <= MAX_PLACES


@pytest.mark.parametrize(("num_processes", "num_groups", "number"), [(1, 2, 8), (2, 2, 8), (8, 2, 2), (2, 3, 4)])
def test_number_is_doubled_until_micro_batches_are_single_rows(monkeypatch, num_processes, num_groups, number):
    gradients = Gradients(tiny_task(), None, SimpleNamespace(num_processes=num_processes, process_index=0))
    groups = [np.arange(8 * group, 8 * group + 8) for group in range(num_groups)]

    def fits(gradients, groups, epoch, num_micro):
        return all(len(each.batch["input_ids"]) == 1 for each in gradients.cut(groups, epoch, num_micro))

    monkeypatch.setattr(memory, "is_sharded", lambda accelerator: False)
    monkeypatch.setattr(memory, "_largest", lambda plan, epoch: [groups])
    monkeypatch.setattr(memory, "_fits_everywhere", fits)
    assert find_micro_batches(gradients, None, 0) == number


def test_probe_computes_groups_as_the_steps_do(tmp_path):
    """Side by side, which takes the memory of both at a time."""
    experiment = tiny_experiment(tmp_path, batch=BatchConfig(tokens=160, groups=2, micro_batches="auto"))
    loop = loop_of(experiment, limited_task(MAX_PLACES))
    loop.gradients.side_by_side = threads = SideBySide(loop.task.model, 2, nullcontext)
    with patch.object(threads, "add_up", wraps=threads.add_up) as add_up:
        found = find_micro_batches(loop.gradients, loop.plan, 0)
    assert found in (2, 4)
    assert add_up.call_count > 2
    assert all(parameter.grad is None for model in threads._models for parameter in model.parameters())


def test_probe_leaves_no_trace(tmp_path):
    loop = loop_of(tiny_experiment(tmp_path, **AUTO), limited_task(MAX_PLACES))
    before = {name: tensor.clone() for name, tensor in loop.task.model.state_dict().items()}
    random_state = torch.get_rng_state()
    find_micro_batches(loop.gradients, loop.plan, 0)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in loop.task.model.state_dict().items())
    assert all(parameter.grad is None for parameter in loop.parameters)
    assert not loop.optimizer.state


def test_run_equals_one_with_the_number_given(tmp_path):
    train(tiny_experiment(tmp_path / "found", **AUTO), limited_task(MAX_PLACES))
    state = json.loads(next((tmp_path / "found" / "checkpoints").glob("*12/state.json")).read_text())["state"]
    given = BatchConfig(tokens=160, micro_batches=state["micro_batches"])
    train(tiny_experiment(tmp_path / "given", batch=given))
    assert losses(tmp_path / "found") == losses(tmp_path / "given")


def test_resumed_run_keeps_the_number_although_memory_has_grown(tmp_path):
    dying = kill_after(45)  # batches of the probe and of the steps, some of them cut into several
    limited = dataclasses.replace(limited_task(MAX_PLACES), make_batch=dying.make_batch)
    with pytest.raises(KilledError):
        train(tiny_experiment(tmp_path / "run", **AUTO), limited)
    train(tiny_experiment(tmp_path / "straight", **AUTO), limited_task(MAX_PLACES))
    train(tiny_experiment(tmp_path / "run", resume="always", **AUTO), limited_task(10_000))
    assert losses(tmp_path / "run") == losses(tmp_path / "straight")
    first, second = weights(tmp_path / "run" / "final"), weights(tmp_path / "straight" / "final")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_row_that_does_not_fit_is_one_clear_line(tmp_path):
    message = (
        r"^batch\.micro_batches=auto: row \d+ alone, with \d+ tokens, does not fit into the memory of cpu: set "
        r"gradient_checkpointing=true or precision=bf16, shorten the rows, or take a smaller model$"
    )
    with pytest.raises(UserError, match=message):
        train(tiny_experiment(tmp_path / "run", **AUTO), limited_task(0))


def test_sharded_models_need_a_number(tmp_path, monkeypatch):
    monkeypatch.setattr("vanilla_recipes.engine.micro_batches.is_sharded", lambda accelerator: True)
    loop = loop_of(tiny_experiment(tmp_path, **AUTO), tiny_task())
    with pytest.raises(UserError, match=r"batch\.micro_batches=auto: cannot be found under FSDP .*: give a number"):
        find_micro_batches(loop.gradients, loop.plan, 0)


def test_other_errors_are_not_taken_for_too_little_memory(tmp_path):
    with pytest.raises(RuntimeError, match="shapes do not match"):
        train(tiny_experiment(tmp_path / "run", **AUTO), limited_task(MAX_PLACES, RuntimeError("shapes do not match")))


def test_step_that_runs_out_of_memory_is_one_clear_line(tmp_path):
    message = (
        r"^step 1: out of memory: raise batch\.micro_batches \(auto finds the number\) or set "
        r"gradient_checkpointing=true; CUDA out of memory\. Tried"
    )
    with pytest.raises(UserError, match=message):
        train(tiny_experiment(tmp_path / "run", max_duration=Duration.parse("2 steps")), limited_task(0))
