"""Decides which checkpoints are kept.

`step-<n>` is a complete checkpoint, from which a run can resume. `weights-<n>` holds only the weights of an older
checkpoint that is still needed for averaging; without the optimizer state it takes a third of the disk space.
"""

import json
import logging
import shutil
from pathlib import Path

from vanilla_recipes.folders import WRITING
from vanilla_recipes.settings.experiment import Experiment

logger = logging.getLogger(__name__)

STATE, WEIGHTS, TRAINING = "state.json", "weights.pt", "training.pt"
RESUMABLE, WEIGHTS_ONLY = "step-", "weights-"


def step_of(folder: Path) -> int:
    """The step of a checkpoint, from its folder name."""
    return int(folder.name.rpartition("-")[2])


def resumable(checkpoints: Path) -> list[Path]:
    """The folders of the complete checkpoints, newest first."""
    return sorted(_named(checkpoints, RESUMABLE), key=step_of, reverse=True)


def scheduled(checkpoints: Path) -> list[Path]:
    """The checkpoints written because of `checkpoint.every`, with and without optimizer state, newest first.

    Checkpoints written because the run was stopped are left out: the average of the checkpoints must not depend on when
    the run was stopped.
    """
    whole = [folder for folder in resumable(checkpoints) if _is_scheduled(folder)]
    steps = {step_of(folder) for folder in whole}
    bare = [folder for folder in _named(checkpoints, WEIGHTS_ONLY) if step_of(folder) not in steps]
    return sorted([*whole, *bare], key=step_of, reverse=True)


def prune(checkpoints: Path, newest: int, experiment: Experiment) -> None:
    """Removes the checkpoints that the experiment does not keep, oldest first.

    A checkpoint that is only needed for averaging keeps its weights and loses its optimizer state.

    Args:
        checkpoints: the folder of the checkpoints.
        newest: the step of the checkpoint that was just written; it is kept. Checkpoints of later steps are removed:
            they are damaged, which is why the run resumed from an earlier checkpoint.
        experiment: gives the maximum number and size of checkpoints, and how many are averaged.
    """
    for folder in _all(checkpoints):
        if step_of(folder) > newest:
            _remove(folder)
    averaged = {step_of(folder) for folder in scheduled(checkpoints)[: experiment.averaging.checkpoints or 0]}
    for folder in resumable(checkpoints)[experiment.checkpoint.keep :]:
        if step_of(folder) in averaged:
            folder.rename(_emptied(folder.with_name(f"{WEIGHTS_ONLY}{folder.name.removeprefix(RESUMABLE)}")))
        else:
            _remove(folder)
    for folder in _named(checkpoints, WEIGHTS_ONLY):
        if step_of(folder) in averaged:
            (folder / TRAINING).unlink(missing_ok=True)
        else:
            _remove(folder)
    if experiment.checkpoint.max_gb is not None:
        _keep_within(checkpoints, experiment.checkpoint.max_gb)


def _keep_within(checkpoints: Path, max_gb: float) -> None:
    folders = sorted(_all(checkpoints), key=step_of, reverse=True)
    sizes = [sum(path.stat().st_size for path in folder.rglob("*")) / 1e9 for folder in folders]
    while len(folders) > 1 and sum(sizes) > max_gb:
        sizes.pop()
        _remove(folders.pop())
    if sum(sizes) > max_gb:
        logger.warning("checkpoint.max_gb=%g: %s alone takes %.3g GB; it is kept", max_gb, folders[0], sizes[0])


def _all(checkpoints: Path) -> list[Path]:
    return [*_named(checkpoints, RESUMABLE), *_named(checkpoints, WEIGHTS_ONLY)]


def _named(checkpoints: Path, prefix: str) -> list[Path]:
    """The folders whose name is the prefix followed by a step. Other folders belong to the user and are ignored."""
    return [path for path in checkpoints.glob(f"{prefix}*") if path.name.removeprefix(prefix).isdecimal()]


def _is_scheduled(folder: Path) -> bool:
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))["state"]
        return state["checkpoint_step"] == state["global_step"]
    except (OSError, ValueError, KeyError):
        return False  # a damaged checkpoint cannot be averaged


def _emptied(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    return path


def _remove(folder: Path) -> None:
    """Renames a checkpoint to a temporary name and deletes it, so that a kill leaves no damaged checkpoint behind."""
    aside = _emptied(folder.with_name(f"{WRITING}{folder.name}"))
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)
