"""The training loop on a tiny task: exact gradients, exact resumes, and runs that end badly or early."""

import dataclasses
import logging
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from tiny_runs import (
    KilledError,
    content,
    kill_after,
    losses,
    predict_nothing,
    records,
    tiny_experiment,
    tiny_task,
    train,
    weights,
)

from vanilla_recipes.engine.loop import Loop
from vanilla_recipes.engine.plan import Plan
from vanilla_recipes.engine.task import Examples
from vanilla_recipes.errors import UserError
from vanilla_recipes.processes.launch import build_accelerator
from vanilla_recipes.processes.signals import StopRequest
from vanilla_recipes.run_folder.checkpoints import Checkpoint, RunFolder
from vanilla_recipes.settings.durations import Duration
from vanilla_recipes.settings.experiment import (
    BatchConfig,
    CheckpointConfig,
    EvaluationConfig,
    ScheduleConfig,
)

# Gradients


def step_gradient(folder: Path, micro_batches: int) -> torch.Tensor:
    """The gradient of the first step, in one line."""
    experiment = tiny_experiment(folder, batch=BatchConfig(tokens=160, micro_batches=micro_batches))
    task = tiny_task(dropout=0.0)
    accelerator = build_accelerator(experiment)
    loop = Loop(task, experiment, RunFolder(experiment), accelerator, StopRequest())
    parts = loop.gradients.cut([max(loop.plan.groups(0), key=len)], 0, micro_batches)
    assert len(parts) == micro_batches
    loop.gradients.add_up(parts, loop.gradients.num_targets(parts), step=0)
    return torch.cat([parameter.grad.flatten() for parameter in task.model.parameters()])


@pytest.mark.parametrize("micro_batches", [2, 4, 7])
def test_gradient_does_not_depend_on_micro_batches(tmp_path, micro_batches):
    whole = step_gradient(tmp_path / "whole", 1)
    cut = step_gradient(tmp_path / "cut", micro_batches)
    assert whole.norm() > 0
    assert (cut - whole).norm() / whole.norm() < 1e-6


def test_more_micro_batches_than_rows_train_alike(tmp_path):
    for micro_batches in (1, 40):
        batch = BatchConfig(tokens=64, micro_batches=micro_batches)
        train(tiny_experiment(tmp_path / str(micro_batches), batch=batch), tiny_task(dropout=0.0))
    whole, cut = losses(tmp_path / "1"), losses(tmp_path / "40")
    assert cut == pytest.approx(whole, rel=1e-4)


# Resumes


@pytest.fixture(scope="module")
def straight_run(tmp_path_factory) -> Path:
    """A run of twelve steps, never interrupted."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    train(tiny_experiment(folder))
    return folder


@pytest.mark.parametrize("step", [0, 3, 5, 7, 11])
def test_resumed_run_equals_a_straight_one(tmp_path, straight_run, step):
    folder = tmp_path / "run"
    with pytest.raises(KilledError):
        train(tiny_experiment(folder), kill_after(step))
    assert not (folder / "final").exists()
    train(tiny_experiment(folder, resume="if_available"))
    assert losses(folder) == losses(straight_run)
    resumed, straight = weights(folder / "final"), weights(straight_run / "final")
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)


def test_stop_signal_saves_and_the_rest_follows(tmp_path, straight_run, capsys):
    folder = tmp_path / "run"
    task = tiny_task()
    calls = iter(range(1000))

    def make_batch(rows, epoch):
        if next(calls) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return task.make_batch(rows, epoch)

    result = train(tiny_experiment(folder), dataclasses.replace(task, make_batch=make_batch))
    assert (result.stopped_by, result.state.global_step) == ("SIGTERM", 7)
    assert "SIGTERM stopped the run at step 7; resume=if_available continues it" in capsys.readouterr().err
    assert not (folder / "final").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    train(tiny_experiment(folder, resume="always"))
    assert losses(folder) == losses(straight_run)


def test_damaged_checkpoint_is_named_and_passed_over(tmp_path, straight_run, caplog):
    folder = tmp_path / "run"
    with pytest.raises(KilledError):
        train(tiny_experiment(folder), kill_after(11))
    tensors = folder / "checkpoints" / "step-00000010" / "training.pt"
    tensors.write_bytes(tensors.read_bytes()[:-1000])
    with caplog.at_level(logging.WARNING):
        train(tiny_experiment(folder, resume="always"))
    assert "step-00000010 is damaged (training.pt does not match the manifest) and is skipped" in caplog.text
    assert losses(folder) == losses(straight_run)


def test_only_the_last_checkpoints_stay(straight_run):
    names = sorted(path.name for path in (straight_run / "checkpoints").iterdir())
    assert names == ["step-00000010", "step-00000012"]


def test_longer_run_goes_on_from_the_end(tmp_path):
    schedule = ScheduleConfig("constant", None)
    train(tiny_experiment(tmp_path / "run", schedule=schedule))
    train(
        tiny_experiment(tmp_path / "run", schedule=schedule, max_duration=Duration.parse("16 steps"), resume="always")
    )
    assert sorted(losses(tmp_path / "run")) == list(range(1, 17))


def test_finished_run_has_nothing_left_to_do(tmp_path):
    folder = tmp_path / "run"
    train(tiny_experiment(folder))
    metrics = (folder / "metrics.jsonl").read_text()
    train(tiny_experiment(folder, resume="always"))
    assert (folder / "metrics.jsonl").read_text() == metrics


def test_refuses_other_data_before_it_touches_anything(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    train(tiny_experiment(folder))
    before = content(folder)
    monkeypatch.setattr(Checkpoint, "load_tensors", lambda self: pytest.fail("loaded the tensors"))
    message = (
        "^resume: the training data, the validation data or the tokenizer differ from those that "
        rf"{re.escape(str(folder))} was begun with: "
        r"bring them back, or start in another output_dir$"
    )
    with pytest.raises(UserError, match=message):
        train(tiny_experiment(folder, resume="if_available"), dataclasses.replace(tiny_task(), fingerprint="others"))
    assert content(folder) == before


# Scores, models, faults


def test_best_model_is_that_of_the_best_score(tmp_path):
    every = EvaluationConfig(every=Duration.parse("4 steps"))
    experiment = tiny_experiment(tmp_path / "run", evaluation=every)
    state = train(experiment, tiny_task(scores=[1.0, 3.0, 2.0])).state
    assert (state.best_score, state.best_step) == (3.0, 8)
    scored = [record for record in records(tmp_path / "run") if "validation_score" in record]
    assert [(record["step"], record["validation_score"]) for record in scored] == [(4, 1.0), (8, 3.0), (12, 2.0)]
    best, final = weights(tmp_path / "run" / "best"), weights(tmp_path / "run" / "final")
    assert not torch.equal(best["lm_head.weight"], final["lm_head.weight"])


def test_loss_that_is_not_finite_ends_the_run_and_spoils_nothing(tmp_path):
    task = tiny_task()
    calls = iter(range(1000))

    def make_batch(rows, epoch):
        if next(calls) == 7:
            task.model.lm_head.weight.data[5] = float("nan")
        return task.make_batch(rows, epoch)

    experiment = tiny_experiment(tmp_path / "run", log_every=Duration.parse("100 steps"))
    with pytest.raises(UserError, match="step 8: the loss or its gradient is not finite; nothing was saved after it"):
        train(experiment, dataclasses.replace(task, make_batch=make_batch))
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000005"]
    assert not (tmp_path / "run" / "best").exists()
    train(dataclasses.replace(experiment, resume="always"))


@pytest.mark.parametrize("log_every", ["1 steps", "15 steps"])
def test_batch_of_a_loss_that_is_not_finite_is_named(tmp_path, log_every):
    """In the second epoch, whose batches are planned anew, and read only some steps later."""
    task = tiny_task()
    plan = Plan(task.lengths, 64, 1)
    bad = len(plan.groups(0)) + 1  # steps before the one of the second batch of the second epoch
    calls = iter(range(1000))

    def make_batch(rows, epoch):
        if next(calls) == bad:
            task.model.lm_head.weight.data[5] = float("nan")
        return task.make_batch(rows, epoch)

    experiment = tiny_experiment(
        tmp_path / "run",
        max_duration=Duration.parse("30 steps"),
        log_every=Duration.parse(log_every),
        checkpoint=CheckpointConfig(every=None),
    )
    rows = plan.groups(1)[1]
    shown = ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")
    message = (
        f"step {bad + 1}: .*; its batch was number 1 of epoch 1, with the training rows {shown} "
        rf"\({len(rows)} rows, counted from 0\)$"
    )
    with pytest.raises(UserError, match=message):
        train(experiment, dataclasses.replace(task, make_batch=make_batch))


def test_batch_without_targets_is_no_fault(tmp_path):
    task = tiny_task()

    def make_batch(rows, epoch):
        batch = task.make_batch(rows, epoch)
        return batch | {"labels": torch.full_like(batch["labels"], -100)}

    train(tiny_experiment(tmp_path / "run"), dataclasses.replace(task, make_batch=make_batch))
    assert set(losses(tmp_path / "run").values()) == {0.0}


def test_full_disk_is_one_clear_line_and_leaves_nothing_half_written(tmp_path):
    def save_model(model, folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    task = dataclasses.replace(tiny_task(), save_model=save_model)
    with pytest.raises(UserError, match=r"run/best: cannot be written: .*No space left on device; free some space"):
        train(tiny_experiment(tmp_path / "run"), task)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"checkpoints", "config.yaml", "metrics.jsonl"}


def test_time_bounds_a_run_and_evaluation_does_not_count(tmp_path):
    third_of_a_second = Duration.parse("0.3 seconds")
    experiment = tiny_experiment(tmp_path / "run", max_duration=third_of_a_second, checkpoint=CheckpointConfig(None))
    slow = Examples(tiny_task().lengths, predict_nothing, lambda records: time.sleep(0.5) or {"score": 1.0})
    state = train(experiment, dataclasses.replace(tiny_task(), validation=slow)).state
    assert 0.3 <= state.elapsed_seconds < 5
    assert state.global_step > 1
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_counts_epochs_and_real_tokens(tmp_path):
    task = tiny_task()
    state = train(tiny_experiment(tmp_path / "run", max_duration=Duration.parse("2 epochs")), task).state
    assert (state.epoch, state.step_in_epoch) == (2, 0)
    assert state.tokens == 2 * task.lengths.sum()
