"""Which checkpoints stay: by number, by size, and with weights alone where a mean needs them."""

import logging
from pathlib import Path

import pytest
import torch
from tiny_runs import KilledError, tiny_experiment, train

from vanilla_recipes.run_folder import checkpoints
from vanilla_recipes.run_folder.checkpoints import RunFolder
from vanilla_recipes.settings.durations import Duration
from vanilla_recipes.settings.experiment import AveragingConfig, CheckpointConfig, Experiment
from vanilla_recipes.settings.train_state import TrainState

KILOBYTE_WEIGHTS = {"model": {"weight": torch.ones(250)}, "optimizer": {"moments": torch.ones(500)}}


def begun(folder: Path, **changes) -> RunFolder:
    run = RunFolder(Experiment(output_dir=str(folder), resume="if_available", **changes))
    run.begin()
    return run


def save(run: RunFolder, step: int, scheduled: bool = True) -> None:
    state = TrainState(global_step=step, checkpoint_step=step if scheduled else None)
    run.save(state, "same", KILOBYTE_WEIGHTS)


def names(run: RunFolder) -> list[str]:
    return sorted(path.name for path in run.checkpoints.iterdir())


def test_only_the_last_can_be_resumed_and_older_ones_keep_their_weights(tmp_path):
    run = begun(tmp_path, checkpoint=CheckpointConfig(keep=2), averaging=AveragingConfig(checkpoints=4))
    for step in range(1, 8):
        save(run, step)
    assert names(run) == ["step-00000006", "step-00000007", "weights-00000004", "weights-00000005"]
    assert sorted(path.name for path in (run.checkpoints / "weights-00000004").iterdir()) == [
        "config.yaml", "manifest.json", "state.json", "weights.pt",
    ]  # fmt: skip
    assert run.newest("same").state.global_step == 7
    steps = [int(path.parent.name[-8:]) for path in run.weights_before(7, 3)]
    assert steps == [6, 5, 4]


def test_a_mean_does_not_know_when_the_run_was_stopped(tmp_path):
    straight, stopped = (
        begun(tmp_path / name, checkpoint=CheckpointConfig(keep=1), averaging=AveragingConfig(checkpoints=3))
        for name in ("straight", "stopped")
    )
    for step in (10, 20, 30):
        save(straight, step)
        save(stopped, step - 3, scheduled=False)
        save(stopped, step)
    assert names(stopped) == names(straight) == ["step-00000030", "weights-00000010", "weights-00000020"]


def test_damaged_weights_are_named_and_left_out_of_the_mean(tmp_path, caplog):
    run = begun(tmp_path, checkpoint=CheckpointConfig(keep=1), averaging=AveragingConfig(checkpoints=3))
    for step in (1, 2, 3):
        save(run, step)
    (run.checkpoints / "weights-00000002" / "weights.pt").write_bytes(b"")
    assert [path.parent.name for path in run.weights_before(3, 2)] == ["weights-00000001"]
    assert "weights-00000002 is damaged (weights.pt does not match the manifest) and is left out" in caplog.text


def test_size_is_bounded_and_the_oldest_go_first(tmp_path):
    run = begun(tmp_path, checkpoint=CheckpointConfig(keep=9, max_gb=18e-6))
    for step in range(1, 7):
        save(run, step)
    sizes = [sum(path.stat().st_size for path in folder.iterdir()) for folder in run.checkpoints.iterdir()]
    assert 2 <= len(sizes) < 6
    assert sum(sizes) <= 18_000 < sum(sizes) + max(sizes)
    assert names(run) == [f"step-{step:08d}" for step in range(7 - len(sizes), 7)]


def test_the_newest_stays_although_it_alone_is_too_large(tmp_path, caplog):
    run = begun(tmp_path, checkpoint=CheckpointConfig(keep=2, max_gb=1e-6))
    with caplog.at_level(logging.WARNING):
        save(run, 1)
        save(run, 2)
    assert names(run) == ["step-00000002"]
    assert "checkpoint.max_gb=1e-06: " in caplog.text
    assert "step-00000002 alone takes" in caplog.text


def test_damaged_newer_ones_do_not_push_out_the_run_that_goes_on(tmp_path):
    run = begun(tmp_path, checkpoint=CheckpointConfig(keep=1))
    save(run, 20)
    (run.checkpoints / "step-00000020" / "training.pt").unlink()
    save(run, 15)
    assert names(run) == ["step-00000015"]
    assert run.newest("same").state.global_step == 15


def test_foreign_files_are_left_alone(tmp_path):
    run = begun(tmp_path, checkpoint=CheckpointConfig(keep=1, max_gb=1.0))
    (run.checkpoints / "step-00000001.bak").mkdir()
    (run.checkpoints / "notes.txt").write_text("mine")
    save(run, 1)
    save(run, 2)
    assert names(run) == ["notes.txt", "step-00000001.bak", "step-00000002"]


@pytest.mark.parametrize("left", ["training.pt", None])
def test_half_emptied_checkpoint_of_a_killed_run_is_emptied_later(tmp_path, left):
    run = begun(tmp_path, checkpoint=CheckpointConfig(keep=1), averaging=AveragingConfig(checkpoints=3))
    save(run, 1)
    save(run, 2)
    if left:
        (run.checkpoints / "weights-00000001" / left).write_bytes(b"rest")
    save(run, 3)
    assert not list(run.checkpoints.glob("weights-*/training.pt"))
    assert names(run) == ["step-00000003", "weights-00000001", "weights-00000002"]


@pytest.mark.parametrize("every", [4, 5])
def test_a_run_killed_between_saving_and_removing_removes_when_it_resumes(tmp_path, monkeypatch, every):
    """Also if nothing is left to train, and so nothing is saved any more: 12 steps, the last checkpoint at step 12."""
    settings = {"checkpoint": CheckpointConfig(Duration.parse(f"{every} steps"), keep=1)}
    train(tiny_experiment(tmp_path / "straight", **settings))

    def killed(checkpoints, newest, experiment):
        if newest == 12:
            raise KilledError

    monkeypatch.setattr(checkpoints, "prune", killed)
    with pytest.raises(KilledError):
        train(tiny_experiment(tmp_path / "killed", **settings))
    monkeypatch.undo()
    assert len(list((tmp_path / "killed" / "checkpoints").iterdir())) == 3
    train(tiny_experiment(tmp_path / "killed", resume="always", **settings))
    for name in ("straight", "killed"):
        assert [path.name for path in (tmp_path / name / "checkpoints").iterdir()] == ["step-00000012"]
