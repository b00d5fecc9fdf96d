"""Which checkpoints stay, and what of them.

`step-<n>` is a checkpoint from which a run can go on. `weights-<n>` is what is left of an older one that only a mean
over checkpoints still needs: without the optimizer's state it takes a third of the space.
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
    """The step of a checkpoint."""
    return int(folder.name.rpartition("-")[2])


def resumable(checkpoints: Path) -> list[Path]:
    """The checkpoints from which a run can go on, the newest first."""
    return sorted(_named(checkpoints, RESUMABLE), key=step_of, reverse=True)


def scheduled(checkpoints: Path) -> list[Path]:
    """The checkpoints that `checkpoint.every` asked for, also those with weights alone, the newest first.

    A mean leaves out those that were written because the run was stopped: it must not depend on when that was.
    """
    whole = [folder for folder in resumable(checkpoints) if _is_scheduled(folder)]
    steps = {step_of(folder) for folder in whole}
    bare = [folder for folder in _named(checkpoints, WEIGHTS_ONLY) if step_of(folder) not in steps]
    return sorted([*whole, *bare], key=step_of, reverse=True)


def prune(checkpoints: Path, newest: int, experiment: Experiment) -> None:
    """Removes what the experiment does not keep, the oldest first, and the optimizer's state where it is of no use.

    Args:
        checkpoints: the folder that holds them.
        newest: the step of the one just written, which stays. Later ones are damaged: the run went on from before them.
        experiment: bounds their number and size, and says how many are averaged.
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
        logger.warning("checkpoint.max_gb=%g: %s alone takes %.3g GB; it stays", max_gb, folders[0], sizes[0])


def _all(checkpoints: Path) -> list[Path]:
    return [*_named(checkpoints, RESUMABLE), *_named(checkpoints, WEIGHTS_ONLY)]


def _named(checkpoints: Path, prefix: str) -> list[Path]:
    """The folders whose name is the prefix and a step; what else somebody put there is not ours."""
    return [path for path in checkpoints.glob(f"{prefix}*") if path.name.removeprefix(prefix).isdecimal()]


def _is_scheduled(folder: Path) -> bool:
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))["state"]
        return state["checkpoint_step"] == state["global_step"]
    except (OSError, ValueError, KeyError):
        return False  # damaged: of no use for a mean


def _emptied(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    return path


def _remove(folder: Path) -> None:
    """Removes a checkpoint under a name that says so, lest a kill leaves a part of it that looks damaged."""
    aside = _emptied(folder.with_name(f"{WRITING}{folder.name}"))
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)
