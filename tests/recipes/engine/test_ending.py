"""Runs that end before `max_duration`: early stopping and the wall-clock limit."""

import dataclasses
import math
import os
import signal
import time

import psutil
import torch
from tiny_runs import losses, tiny_experiment, tiny_task, train, weights

from vanilla_recipes.processes.signals import StopRequest
from vanilla_recipes.run_folder.checkpoints import RunFolder
from vanilla_recipes.settings.durations import Duration
from vanilla_recipes.settings.experiment import CheckpointConfig, EvaluationConfig
from vanilla_recipes.settings.train_state import TrainState


def patient(patience: int | None, min_delta: float = 0.0) -> EvaluationConfig:
    return EvaluationConfig(every=Duration.parse("2 steps"), patience=patience, min_delta=min_delta)


# Early stopping


def test_ends_when_the_score_has_not_risen_for_so_long(tmp_path, capsys):
    experiment = tiny_experiment(tmp_path / "run", evaluation=patient(2))
    result = train(experiment, tiny_task(scores=[1.0, 3.0, 2.0, 3.0, 9.0]))
    assert (result.stopped_by, result.state.global_step, result.state.best_step) == (None, 8, 4)
    assert "ends early: no better score in 2 evaluations (evaluation.patience)" in capsys.readouterr().err
    assert {"best", "final"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_small_gains_do_not_count_but_are_kept(tmp_path):
    experiment = tiny_experiment(tmp_path / "run", evaluation=patient(2, min_delta=0.5))
    state = train(experiment, tiny_task(scores=[1.0, 1.4, 1.8, 9.0])).state
    assert (state.global_step, state.best_score) == (6, 1.8)


def test_loss_is_better_when_it_falls():
    state = TrainState(global_step=1).with_score(2.0, greater_is_better=False, min_delta=0.1)
    better = dataclasses.replace(state, global_step=2).with_score(1.5, greater_is_better=False, min_delta=0.1)
    worse = dataclasses.replace(better, global_step=3).with_score(1.45, greater_is_better=False, min_delta=0.1)
    assert (better.best_step, better.evaluations_without_gain) == (2, 0)
    assert (worse.best_step, worse.evaluations_without_gain) == (3, 1)


def test_score_that_is_no_number_is_replaced_by_any_other():
    state = TrainState(global_step=1).with_score(math.nan, greater_is_better=True, min_delta=0.0)
    assert state.best_step == 1
    assert dataclasses.replace(state, global_step=2).with_score(-1.0, True, 0.0).best_score == -1.0
    number = TrainState(global_step=1).with_score(1.0, True, 0.0)
    after = number.with_score(math.nan, True, 0.0)
    assert (after.best_score, after.evaluations_without_gain) == (1.0, 1)


def test_resumed_run_goes_on_counting(tmp_path):
    saved = {"checkpoint": CheckpointConfig(Duration.parse("2 steps"))}
    first = tiny_experiment(tmp_path / "run", evaluation=patient(3), max_duration=Duration.parse("6 steps"), **saved)
    assert train(first, tiny_task(scores=[3.0, 2.0, 1.0])).state.evaluations_without_gain == 2
    second = dataclasses.replace(first, resume="always", max_duration=Duration.parse("12 steps"))
    assert train(second, tiny_task(scores=[2.5, 9.0])).state.global_step == 8


def test_more_patience_lets_an_ended_run_go_on(tmp_path):
    first = tiny_experiment(tmp_path / "run", evaluation=patient(1), checkpoint=CheckpointConfig(Duration(2, "steps")))
    assert train(first, tiny_task(scores=[2.0, 1.0])).state.global_step == 4
    again = dataclasses.replace(first, resume="always", evaluation=patient(None))
    assert train(again, tiny_task(scores=[3.0, 4.0, 5.0, 6.0])).state.global_step == 12


# The wall-clock limit


def test_request_comes_when_the_process_is_old_enough():
    age = time.time() - psutil.Process().create_time()
    assert not StopRequest(Duration(age + 60, "seconds"))
    assert not StopRequest()
    old = StopRequest(Duration(age - 0.1, "seconds"))
    assert old
    assert old.reason == "max_wall_time"


def test_saves_at_the_next_step_and_the_rest_follows(tmp_path, monkeypatch, capsys):
    train(tiny_experiment(tmp_path / "straight"))
    task = tiny_task()
    calls = iter(range(1000))
    now = time.time()

    def make_batch(rows, epoch):
        if next(calls) == 6:
            monkeypatch.setattr(time, "time", lambda: now + 7200)
        return task.make_batch(rows, epoch)

    limited = tiny_experiment(tmp_path / "run", max_wall_time=Duration.parse("2 hours"))
    result = train(limited, dataclasses.replace(task, make_batch=make_batch))
    assert (result.stopped_by, result.state.global_step) == ("max_wall_time", 7)
    assert "max_wall_time stopped the run at step 7; resume=if_available continues it" in capsys.readouterr().err
    assert not (tmp_path / "run" / "final").exists()
    monkeypatch.undo()
    train(dataclasses.replace(limited, resume="always"))
    assert losses(tmp_path / "run") == losses(tmp_path / "straight")
    resumed, straight = weights(tmp_path / "run" / "final"), weights(tmp_path / "straight" / "final")
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)


def test_evaluation_and_saving_count_for_the_wall_clock(tmp_path, monkeypatch):
    """They do not count for `max_duration`, but a batch system sees them."""
    now = [time.time()]
    monkeypatch.setattr(time, "time", lambda: now[0])
    task = tiny_task()

    def score(records):
        now[0] += 3600
        return {"score": 1.0}

    slow = dataclasses.replace(task, validation=dataclasses.replace(task.validation, score=score))
    experiment = tiny_experiment(tmp_path, evaluation=patient(None), max_wall_time=Duration.parse("90 minutes"))
    assert train(experiment, slow).state.global_step == 5  # scored after steps 2 and 4


def test_stop_right_after_a_checkpoint_does_not_write_it_again(tmp_path, monkeypatch):
    saved = []
    save = RunFolder.save
    monkeypatch.setattr(RunFolder, "save", lambda self, state, *rest: saved.append(state) or save(self, state, *rest))
    task = tiny_task()
    calls = iter(range(1000))

    def make_batch(rows, epoch):
        if next(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return task.make_batch(rows, epoch)

    result = train(tiny_experiment(tmp_path / "run"), dataclasses.replace(task, make_batch=make_batch))
    assert result.state.global_step == 5
    assert [(state.global_step, state.checkpoint_step) for state in saved] == [(5, 5)]
