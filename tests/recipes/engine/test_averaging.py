"""Averaged weights: the moving average and the mean of checkpoints, by hand and through runs."""

import dataclasses

import pytest
import torch
from tiny_runs import KilledError, kill_after, losses, records, tiny_experiment, tiny_task, train, weights
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vanilla_recipes.engine import loop
from vanilla_recipes.engine.averaging import AveragedWeights, mean_weights
from vanilla_recipes.settings.durations import Duration
from vanilla_recipes.settings.experiment import AveragingConfig, CheckpointConfig, EvaluationConfig

EMA = {"averaging": AveragingConfig(ema_decay=0.9)}
MEAN = {
    "averaging": AveragingConfig(checkpoints=3),
    "checkpoint": CheckpointConfig(Duration.parse("3 steps"), keep=1),
}


def changed(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape)


# The arithmetic


def test_moving_average_equals_torchs_once_it_is_warm():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    ours, theirs = AveragedWeights(model), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    theirs.update_parameters(model)  # its first update copies
    for step in range(10, 20):  # (1 + 10) / (10 + 10) is above 0.5
        changed(model)
        ours.update(step, decay=0.5)
        theirs.update_parameters(model)
    with ours.applied():
        for own, other in zip(model.parameters(), theirs.module.parameters(), strict=True):
            torch.testing.assert_close(own, other)


def test_first_steps_do_not_weigh_on_the_average():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    average = AveragedWeights(model)
    model.weight.data.fill_(1.0)
    average.update(1, decay=0.999)  # d = 2/11
    assert average.state_dict()["weight"].item() == pytest.approx(9 / 11)
    average.update(2, decay=0.999)  # d = 3/12
    assert average.state_dict()["weight"].item() == pytest.approx(1 - 2 / 11 * 3 / 12)


def test_applied_weights_give_way_to_the_models_own_bit_for_bit():
    model = nn.Linear(5, 5)
    average = AveragedWeights(model)
    changed(model)
    before, averaged = model.weight.clone(), average.state_dict()["weight"].clone()
    with average.applied():
        assert torch.equal(model.weight, averaged)
    assert torch.equal(model.weight, before)
    assert torch.equal(average.state_dict()["weight"], averaged)


def test_frozen_and_tied_weights():
    model = nn.ModuleDict({"table": nn.Embedding(4, 3), "head": nn.Linear(3, 4), "frozen": nn.Linear(2, 2)})
    model["head"].weight = model["table"].weight
    model["frozen"].requires_grad_(False)
    assert set(AveragedWeights(model).state_dict()) == {"table.weight", "head.bias"}


def test_mean_of_weights():
    first = {"weight": torch.tensor([1.0, 2.0])}
    others = [{"weight": torch.tensor([3.0, 2.0]), "other": torch.ones(1)}, {"weight": torch.tensor([5.0, 8.0])}]
    mean = mean_weights(first, others)
    assert mean["weight"].tolist() == [3.0, 4.0]
    assert mean.keys() == {"weight"}


# Runs


def test_scores_and_models_are_the_averages_and_the_raw_weights_stay(tmp_path):
    raw, averaged = tmp_path / "raw", tmp_path / "averaged"
    train(tiny_experiment(raw))
    train(tiny_experiment(averaged, **EMA))
    assert losses(raw) == losses(averaged)
    assert_equal(weights(averaged / "final_raw"), weights(raw / "final"))
    final = weights(averaged / "final")
    assert not torch.equal(final["lm_head.weight"], weights(raw / "final")["lm_head.weight"])
    assert_equal(final, weights(averaged / "best"))  # the last step was the first to be scored
    assert not (raw / "final_raw").exists()


@pytest.mark.parametrize("changes", [EMA, MEAN], ids=["moving", "mean"])
def test_averages_resume_bit_for_bit(tmp_path, changes):
    every = {"evaluation": EvaluationConfig(every=Duration.parse("4 steps"))}
    train(tiny_experiment(tmp_path / "straight", **changes, **every))
    with pytest.raises(KilledError):
        train(tiny_experiment(tmp_path / "killed", **changes, **every), kill_after(7))
    train(tiny_experiment(tmp_path / "killed", resume="always", **changes, **every))
    for name in ("final", "final_raw"):
        assert_equal(weights(tmp_path / "killed" / name), weights(tmp_path / "straight" / name))


def test_final_is_the_mean_of_the_last_checkpoints(tmp_path):
    folder = tmp_path / "run"
    result = train(tiny_experiment(folder, **MEAN))
    files = [folder / "checkpoints" / name / "weights.pt" for name in ("weights-00000006", "weights-00000009")]
    parts = [torch.load(file) for file in files] + [weights(folder / "final_raw")]
    expected = torch.stack([part["model.encoder.layers.0.feed_forward.up_proj.weight"] for part in parts]).mean(0)
    actual = weights(folder / "final")["model.encoder.layers.0.feed_forward.up_proj.weight"]
    torch.testing.assert_close(actual, expected)
    assert result.state.averaged_step == 12
    assert [record["step"] for record in records(folder) if "validation_score" in record] == [12]


def test_mean_that_scores_worse_is_final_but_not_best(tmp_path):
    every = EvaluationConfig(every=Duration.parse("12 steps"))
    folder = tmp_path / "run"
    state = train(tiny_experiment(folder, evaluation=every, **MEAN), tiny_task(scores=[2.0, 1.0])).state
    assert (state.best_score, state.best_step) == (2.0, 12)
    assert_equal(weights(folder / "best"), weights(folder / "final_raw"))
    assert not torch.equal(weights(folder / "final")["lm_head.weight"], weights(folder / "best")["lm_head.weight"])


def test_mean_that_was_scored_before_a_kill_is_recorded_once(tmp_path, monkeypatch):
    every = {"evaluation": EvaluationConfig(every=Duration.parse("4 steps"))}
    train(tiny_experiment(tmp_path / "straight", **MEAN, **every))

    def save(run):
        if run.state.averaged_step:  # the mean was scored, and no checkpoint knows of it
            raise KilledError
        saved(run)

    saved = loop.Loop._save
    monkeypatch.setattr(loop.Loop, "_save", save)
    with pytest.raises(KilledError):
        train(tiny_experiment(tmp_path / "killed", **MEAN, **every))
    monkeypatch.undo()
    assert scored_steps(tmp_path / "killed") == [4, 8, 12, 12]
    train(tiny_experiment(tmp_path / "killed", resume="always", **MEAN, **every))
    assert scored_steps(tmp_path / "killed") == scored_steps(tmp_path / "straight") == [4, 8, 12, 12]


def test_finished_mean_is_not_scored_again(tmp_path):
    folder = tmp_path / "run"
    train(tiny_experiment(folder, **MEAN))
    before = (folder / "metrics.jsonl").read_text(), weights(folder / "final")
    train(dataclasses.replace(tiny_experiment(folder, **MEAN), resume="always"))
    assert (folder / "metrics.jsonl").read_text() == before[0]
    assert_equal(weights(folder / "final"), before[1])


def scored_steps(folder) -> list[int]:
    return [record["step"] for record in records(folder) if "validation_score" in record]


def assert_equal(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
