"""The certificate of the gradient, and what it notices."""

import torch
from tiny_runs import tiny_experiment, tiny_task

from vanilla_recipes.engine import certificates as module
from vanilla_recipes.engine.certificates import certificates
from vanilla_recipes.settings.experiment import BatchConfig
from vanilla_recipes.settings.train_state import TrainState


def certified(folder, tokens: int = 200, **state) -> dict:
    task, experiment = tiny_task(), tiny_experiment(folder, batch=BatchConfig(tokens=tokens))
    return certificates(task.model.eval(), task, TrainState(**state), experiment)


def test_the_gradient_is_the_same_however_the_batch_is_cut(tmp_path):
    gradient = certified(tmp_path)["gradient"]
    assert gradient["parts"] == [2, gradient["rows"]]
    assert gradient["rows"] == 8
    assert 0 < gradient["relative_difference"] < 1e-6


def test_a_mean_over_each_part_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "training_loss", lambda model, batch, count: model(**batch).loss)
    assert certified(tmp_path)["gradient"]["relative_difference"] > 1e-2


def test_a_gradient_that_cannot_be_compared_is_not_certified(tmp_path, monkeypatch):
    for factor in (0.0, float("nan")):
        monkeypatch.setattr(module, "training_loss", lambda model, batch, count, by=factor: model(**batch).loss * by)
        assert certified(tmp_path).keys() == {"resume"}


def test_a_lack_of_memory_costs_the_certificate_alone(tmp_path, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(module, "training_loss", fail)
    assert certified(tmp_path).keys() == {"resume"}


def test_rows_fit_into_a_micro_batch(tmp_path):
    whole = certified(tmp_path, tokens=64)["gradient"]["rows"]
    halves = certified(tmp_path, tokens=64, micro_batches=2)["gradient"]["rows"]
    assert 2 <= halves < whole
    assert certified(tmp_path, tokens=1)["gradient"]["rows"] == 2


def test_resumes_are_told(tmp_path):
    assert certified(tmp_path, resumes=3)["resume"] == {"times": 3, "fingerprint": "tiny"}
