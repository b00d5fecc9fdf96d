"""The run folder: what it refuses before anything is read or written."""

from pathlib import Path

import pytest
import torch

from vanilla_recipes.errors import UserError
from vanilla_recipes.run_folder.checkpoints import RunFolder
from vanilla_recipes.settings.experiment import BatchConfig, Experiment
from vanilla_recipes.settings.train_state import TrainState

TENSORS = {"model": {"weight": torch.ones(1000)}, "optimizer": {"moments": torch.ones(2000)}}


@pytest.fixture
def begun(tmp_path) -> Path:
    """The folder of a run that has not taken a step."""
    RunFolder(Experiment(output_dir=str(tmp_path / "run"))).begin()
    return tmp_path / "run"


def resumed(folder: Path, **changes) -> RunFolder:
    return RunFolder(Experiment(output_dir=str(folder), **{"resume": "if_available"} | changes))


def test_refuses_a_folder_that_holds_a_run(begun):
    with pytest.raises(UserError, match=r"already holds a run: give another output_dir, .* resume=if_available"):
        RunFolder(Experiment(output_dir=str(begun)))


def test_refuses_a_folder_of_other_things(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UserError, match=r"holds files that are not of a run, such as thesis.txt: give a folder"):
        RunFolder(Experiment(output_dir=str(tmp_path)))


def test_refuses_to_resume_another_experiment(begun):
    message = r"of another experiment, which differs in batch\.tokens: 4096 -> 65, seed: 1 -> 2; give another"
    with pytest.raises(UserError, match=message):
        resumed(begun, seed=2, batch=BatchConfig(tokens=65))


def test_a_lost_description_is_that_of_the_newest_checkpoint(begun):
    resumed(begun).save(TrainState(global_step=1), "same", TENSORS)
    (begun / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"of another experiment, which differs in seed: 1 -> 2; give another"):
        resumed(begun, seed=2)
    assert resumed(begun).newest("same").state.global_step == 1


@pytest.mark.parametrize("content", [b"seed: [", b"\xff", b"recipe: cooking\nsalt: 1\npepper: 2"])
def test_refuses_a_run_whose_description_cannot_be_read(begun, content):
    (begun / "config.yaml").write_bytes(content)
    message = r"holds a run that this one cannot be compared with: \S+config\.yaml[^\n]+; give another [^\n]+$"
    with pytest.raises(UserError, match=message):
        resumed(begun)


def test_refuses_to_resume_from_nothing(tmp_path):
    with pytest.raises(UserError, match=r"resume=always, but .* has no checkpoint: use resume=if_available"):
        resumed(tmp_path, resume="always")


def test_reads_back_the_newest_state(begun):
    folder = resumed(begun)
    for step in (1, 2):
        folder.save(TrainState(global_step=step, best_score=0.5), "same", TENSORS)
    assert folder.newest("same").state == TrainState(global_step=2, best_score=0.5)


@pytest.mark.parametrize("resume", ["if_available", "always"])
def test_refuses_a_run_whose_checkpoints_are_all_damaged(begun, resume, caplog):
    resumed(begun).save(TrainState(global_step=1), "same", TENSORS)
    (begun / "checkpoints" / "step-00000001" / "weights.pt").write_bytes(b"")
    folder = resumed(begun, resume=resume)
    message = "run holds a run, but no undamaged checkpoint is left; nothing was changed: give another output_dir"
    with pytest.raises(UserError, match=message):
        folder.newest("same")
    assert "step-00000001 is damaged" in caplog.text


@pytest.mark.parametrize("resume", ["if_available", "always"])
def test_refuses_a_finished_run_without_checkpoints(begun, resume):
    (begun / "final").mkdir()
    message = "holds a run, but no undamaged checkpoint is left; nothing was changed: .*, or delete the folder"
    with pytest.raises(UserError, match=message):
        resumed(begun, resume=resume)


def test_begins_again_what_was_killed_before_its_first_checkpoint(begun):
    (begun / "metrics.jsonl").write_text('{"step": 1}')
    (begun / "best").mkdir()
    assert resumed(begun).newest("any") is None


def test_refuses_a_file_as_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="is a file: give a folder"):
        RunFolder(Experiment(output_dir=str(tmp_path / "run")))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file/run", "Not a directory"),
        ("new/" + "long" * 100, "File name too long"),
        ("link", "No such file or directory"),
        ("/proc/run", "No such file or directory"),
    ],
)
def test_refuses_a_path_that_cannot_be_written(tmp_path, name, reason):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UserError, match=f"cannot be written: {reason}; choose another output_dir"):
        RunFolder(Experiment(output_dir=str(tmp_path / name)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_making_one_leaves_nothing_behind(tmp_path):
    RunFolder(Experiment(output_dir=str(tmp_path / "new" / "run")))
    assert not list(tmp_path.iterdir())


def test_a_run_that_goes_on_has_no_results_until_it_ends(begun):
    resumed(begun).save(TrainState(global_step=1), "same", TENSORS)
    (begun / "results.json").write_text("{}")
    resumed(begun).begin()
    assert not (begun / "results.json").exists()
