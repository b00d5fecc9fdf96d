"""Trackers: checked before a run, fed while it lasts, and unable to end it."""

import dataclasses
import logging
import tomllib
from pathlib import Path

import accelerate.tracking
import pytest
from accelerate.tracking import GeneralTracker
from project import ROOT

from vanilla_recipes.errors import UserError
from vanilla_recipes.processes.launch import build_accelerator
from vanilla_recipes.reports import trackers
from vanilla_recipes.reports.trackers import check_trackers, start_trackers
from vanilla_recipes.settings.experiment import TRACKERS, Experiment, TrackingConfig
from vanilla_recipes.settings.train_state import TrainState


def tracked(folder: Path, *names: str, resume: str = "never") -> Experiment:
    tracking = TrackingConfig(trackers=list(names), project="proofs")
    experiment = Experiment(output_dir=str(folder), tracking=tracking, model={"pretrained": "mine/model"})
    return dataclasses.replace(experiment, resume=resume)


class Recorder(GeneralTracker):
    """A tracker that keeps what it gets, or fails from some call on."""

    name = "tensorboard"
    requires_logging_directory = False

    def __init__(self, fails_at: str = "", error: Exception | None = None) -> None:
        super().__init__(_blank=True)
        self.fails_at, self.error, self.calls = fails_at, error or RuntimeError("the server is gone\nfor good"), []

    def _note(self, name: str, *values) -> None:
        self.calls.append((name, *values))
        if name == self.fails_at:
            raise self.error

    def start(self) -> None:
        print("welcome")
        self._note("start")

    def store_init_configuration(self, values: dict) -> None:
        self._note("configuration", values)

    def log(self, values: dict, step: int | None = None, **kwargs) -> None:
        self._note("log", values, step)

    def finish(self) -> None:
        self._note("finish")


@pytest.fixture
def recorder(monkeypatch):
    """Takes the place of every tracker; more than one can be asked for."""

    def replace(*recorders: Recorder) -> None:
        waiting = iter(recorders)
        monkeypatch.setattr(trackers, "_build", lambda name, experiment, state: next(waiting))

    return replace


def run(experiment: Experiment, step: int = 0):
    """An accelerator whose trackers have started, at a step of the run."""
    accelerator = build_accelerator(experiment)
    start_trackers(experiment, TrainState(global_step=step), accelerator)
    return accelerator


# Before the run


def test_a_tracker_that_is_not_installed_names_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", lambda: [])
    experiment = tracked(tmp_path / "run", "trackio")
    message = (
        r'^tracking\.trackers: trackio is not installed: pip install "trackio<1,>=\S+", or remove it '
        r"from tracking\.trackers$"
    )
    with pytest.raises(UserError, match=message):
        check_trackers(experiment, build_accelerator(experiment))
    assert not (tmp_path / "run").exists()


def test_no_trackers_need_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", lambda: [])
    experiment = tracked(tmp_path)
    check_trackers(experiment, build_accelerator(experiment))
    run(experiment).end_training()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("key", "reason"), [(None, "there is no API key"), ("abc", "API key")])
def test_weights_and_biases_without_a_valid_key(tmp_path, monkeypatch, key, reason):
    import wandb

    wandb.teardown()
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    experiment = tracked(tmp_path / "run", "wandb")
    with pytest.raises(UserError) as caught:
        check_trackers(experiment, build_accelerator(experiment))
    assert str(caught.value).startswith("tracking.trackers: wandb cannot log in: ")
    assert reason in str(caught.value)
    assert str(caught.value).endswith("or set WANDB_MODE=offline and call `wandb sync` later")
    assert "\n" not in str(caught.value)
    wandb.teardown()


def test_a_tracker_that_does_not_start_is_one_line(tmp_path, recorder):
    recorder(Recorder(fails_at="start", error=RuntimeError("no route to https://me:secret@server/x\nat line 3")))
    message = (
        r"^tracking\.trackers: tensorboard does not start: no route to https://server/x at line 3; free some space, or "
        r"remove it from tracking\.trackers$"
    )
    with pytest.raises(UserError, match=message):
        run(tracked(tmp_path, "tensorboard"))


# While it lasts


def test_settings_are_plain_and_without_passwords(tmp_path, recorder):
    tracker = Recorder()
    recorder(tracker)
    experiment = dataclasses.replace(tracked(tmp_path, "tensorboard"), output_dir="https://me:secret@server/run")
    run(experiment)
    name, settings = tracker.calls[1]
    assert name == "configuration"
    assert settings["optimizer.betas"] == "[0.9, 0.98]"
    assert settings["optimizer.learning_rate"] == 1e-3
    assert settings["model.pretrained"] == "mine/model"
    assert "tracking.run_name" not in settings  # null
    assert settings["checkpoint.every"] == "1000 steps"
    assert settings["output_dir"] == "https://server/run"
    assert {type(value) for value in settings.values()} <= {bool, int, float, str}


def test_a_failing_tracker_warns_once_and_harms_nobody(tmp_path, recorder, caplog):
    failing, working = Recorder(fails_at="log"), Recorder()
    recorder(failing, working)
    accelerator = run(tracked(tmp_path, "tensorboard", "trackio"))
    with caplog.at_level(logging.WARNING):
        for step in (1, 2, 3):
            accelerator.log({"loss": 1.0 / step}, step=step)
        accelerator.end_training()
    warning = "tensorboard has failed and gets no more figures; the run continues, and metrics.jsonl has all figures: "
    assert [record.getMessage() for record in caplog.records] == [f"{warning}the server is gone for good"]
    assert [call[2] for call in failing.calls if call[0] == "log"] == [1]
    assert [call[2] for call in working.calls if call[0] == "log"] == [1, 2, 3]
    assert working.calls[-1] == ("finish",)


def test_greetings_stay_off_stdout(tmp_path, recorder, capsys):
    recorder(Recorder())
    run(tracked(tmp_path, "tensorboard"))
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "welcome\n")


def test_a_resumed_run_does_not_tell_its_settings_again(tmp_path, recorder):
    tracker = Recorder()
    recorder(tracker)
    run(tracked(tmp_path, "tensorboard", resume="always"), 5)
    assert tracker.calls == [("start",)]


# The real ones


def test_tensorboard_drops_what_a_killed_run_logged_after_its_checkpoint(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = run(tracked(tmp_path, "tensorboard"))
    for step in (1, 2, 3):
        first.log({"loss": 10.0 * step}, step=step)  # and then it is killed
    second = run(tracked(tmp_path, "tensorboard", resume="if_available"), 2)
    for step in (3, 4):
        second.log({"loss": 1.0 * step}, step=step)
    second.end_training()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 10), (2, 20), (3, 3), (4, 4)]


def test_weights_and_biases_goes_on_in_the_same_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    first = tracked(tmp_path / "run", "wandb")
    check_trackers(first, build_accelerator(first))
    ids = []
    for experiment in (first, dataclasses.replace(first, resume="if_available")):
        accelerator = run(experiment, 0 if experiment is first else 2)
        accelerator.log({"loss": 1.0}, step=3)
        ids.append(accelerator.get_tracker("wandb", unwrap=True).id)
        accelerator.end_training()
    assert ids[0] == ids[1] == (tmp_path / "run" / "wandb" / "run-id").read_text()
    other = run(first)
    assert other.get_tracker("wandb", unwrap=True).id != ids[0]
    other.end_training()


def test_trackio_goes_on_in_the_same_run(tmp_path, monkeypatch):
    from trackio import sqlite_storage, utils

    for module in (utils, sqlite_storage):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    for step in (0, 2):
        accelerator = run(tracked(tmp_path / "run", "trackio", resume="if_available"), step)
        accelerator.log({"loss": 1.0}, step=step + 1)
        accelerator.end_training()
    logs = sqlite_storage.SQLiteStorage.get_logs("proofs", "run")
    assert [log["step"] for log in logs] == [1, 3]


def test_every_tracker_has_an_extra_and_a_way_out():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(TRACKERS) <= set(project["optional-dependencies"])
    assert set(TRACKERS) == set(trackers._WAYS_OUT)
