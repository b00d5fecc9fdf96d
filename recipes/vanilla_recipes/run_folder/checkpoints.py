"""The run folder and its checkpoints, from which a run resumes with identical results."""

import dataclasses
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from vanilla_recipes.errors import UserError
from vanilla_recipes.folders import WRITING, clear_leftovers, complete_folder
from vanilla_recipes.run_folder.retention import (
    RESUMABLE,
    STATE,
    TRAINING,
    WEIGHTS,
    prune,
    resumable,
    scheduled,
    step_of,
)
from vanilla_recipes.settings.config_files import differences, load_experiment, write_experiment
from vanilla_recipes.settings.config_values import shown
from vanilla_recipes.settings.experiment import Experiment
from vanilla_recipes.settings.train_state import TrainState

logger = logging.getLogger(__name__)

CONFIG, METRICS, RESULTS = "config.yaml", "metrics.jsonl", "results.json"
"""Names of files in a run folder."""

_MANIFEST = "manifest.json"
_RUN_FILES = (CONFIG, "checkpoints", METRICS, "best", "final")
# Settings that may differ between a run and the run that resumes it, because they do not change what a step computes.
# The exception is `max_duration`, which may change because a run may be extended: a learning-rate schedule that decays
# over this duration changes with it.
_FREE_TO_CHANGE = (
    "recipe",  # a recipe may have been renamed since; `Experiment.problems` checks the name
    "output_dir", "resume", "max_duration", "max_wall_time", "process_timeout", "log_every", "checkpoint",
    "evaluation.every", "evaluation.batch_tokens", "evaluation.patience", "evaluation.min_delta", "batch.micro_batches",
    "gradient_checkpointing", "averaging.checkpoints", "tracking",
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files match its manifest."""

    folder: Path
    state: TrainState

    def load_tensors(self) -> dict[str, Any]:
        """Loads the tensors that were passed to `RunFolder.save`, on the CPU."""
        return {"model": _load(self.folder / WEIGHTS), **_load(self.folder / TRAINING)}


class RunFolder:
    """The run folder of an experiment.

    The constructor only checks the folder and writes nothing permanent; `begin` creates the folder.

    Args:
        experiment: gives the path (`output_dir`) and whether to resume.

    Raises:
        UserError: If the path is not a folder or not writable. With `resume=never`, if the folder holds a run or other
            files. With another value of `resume`, if the run in the folder is of another experiment, has a damaged
            `config.yaml`, or has ended without a checkpoint left. With `resume=always`, if there is no checkpoint.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.path = experiment.output_path
        self.checkpoints = self.path / "checkpoints"
        try:
            self._check()
            self._try_to_write()
        except OSError as error:
            raise self._not_writable(error) from error

    @property
    def metrics_file(self) -> Path:
        """The path of `metrics.jsonl`."""
        return self.path / METRICS

    def begin(self) -> None:
        """Creates the folder, removes incomplete files of a killed run, and writes the resolved experiment.

        Also deletes `results.json`: once a run continues, the results no longer describe its models.

        Raises:
            UserError: If the folder is not writable.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            (self.path / RESULTS).unlink(missing_ok=True)
            clear_leftovers(self.path)
            clear_leftovers(self.checkpoints)
            write_experiment(self.experiment, self.path / CONFIG)
        except OSError as error:
            raise self._not_writable(error) from error

    def save(self, state: TrainState, fingerprint: str, tensors: dict[str, Any]) -> None:
        """Writes a checkpoint atomically. Then prunes old checkpoints according to the experiment.

        Args:
            state: the counters of the run.
            fingerprint: the fingerprint of the task. Only a task with the same fingerprint can resume the run.
            tensors: the tensors that `Checkpoint.load_tensors` returns; "model" holds the weights.

        Raises:
            UserError: If the disk is full or not writable.
        """
        with complete_folder(self.checkpoints / f"{RESUMABLE}{state.global_step:08d}") as folder:
            _save(tensors["model"], folder / WEIGHTS)
            _save({name: value for name, value in tensors.items() if name != "model"}, folder / TRAINING)
            record = {"fingerprint": fingerprint, "state": dataclasses.asdict(state)}
            (folder / STATE).write_text(json.dumps(record), encoding="utf-8")
            write_experiment(self.experiment, folder / CONFIG)
            manifest = {path.name: _size_and_hash(path) for path in sorted(folder.iterdir())}
            (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        self.prune(state)

    def prune(self, state: TrainState) -> None:
        """Removes the checkpoints that the experiment does not keep. `state` is the state in the newest checkpoint."""
        prune(self.checkpoints, state.global_step, self.experiment)

    def newest(self, fingerprint: str) -> Checkpoint | None:
        """The newest checkpoint whose files match its manifest. Damaged checkpoints are skipped with a warning.

        Args:
            fingerprint: the fingerprint of the task.

        Returns:
            The checkpoint, or None if the folder holds no run to continue.

        Raises:
            UserError: If the checkpoint is of a task with another fingerprint, or all checkpoints are damaged.
        """
        for folder in resumable(self.checkpoints):
            fault = next(_faults(folder), None)
            if fault is None:
                return self._read(folder, fingerprint)
            logger.warning("%s is damaged (%s) and is skipped", folder, fault)
        self._refuse_to_start_over()
        return None

    def weights_before(self, step: int, count: int) -> list[Path]:
        """The weight files of the last `count` scheduled checkpoints before a step, newest first.

        Damaged checkpoints are skipped with a warning. `torch.load` reads the files.
        """
        earlier = (folder for folder in scheduled(self.checkpoints) if step_of(folder) < step)
        return [folder / WEIGHTS for folder in islice(filter(_has_whole_weights, earlier), count)]

    def _read(self, folder: Path, fingerprint: str) -> Checkpoint:
        record = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if record["fingerprint"] != fingerprint:
            raise UserError(
                f"resume: the training data, the validation data or the tokenizer differ from those that {self.path} "
                f"was begun with: bring them back, or start in another output_dir"
            )
        return Checkpoint(folder, TrainState(**record["state"]))

    def _check(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"output_dir={self.path} is a file: give a folder")
        holds_run = any((self.path / name).exists() for name in _RUN_FILES)
        if self.experiment.resume == "never":
            if holds_run:
                raise UserError(
                    f"output_dir={self.path} already holds a run: give another output_dir, delete it, or continue it "
                    f"with resume=if_available"
                )
            others = sorted(path.name for path in self.path.glob("[!.]*"))
            if others:
                raise UserError(
                    f"output_dir={self.path} holds files that are not of a run, such as {others[0]}: give a folder "
                    f"that is new or empty"
                )
            return
        written = (folder / CONFIG for folder in (self.path, *resumable(self.checkpoints)))
        config = next((file for file in written if file.exists()), None)
        if config is not None:
            self._check_same_experiment(config)
        if not resumable(self.checkpoints):
            self._refuse_to_start_over()
            if self.experiment.resume == "always":
                raise UserError(f"resume=always, but {self.checkpoints} has no checkpoint: use resume=if_available")

    def _check_same_experiment(self, config: Path) -> None:
        try:
            earlier = load_experiment(type(self.experiment), str(config))
        except UserError as error:
            raise UserError(
                f"output_dir={self.path} holds a run that this one cannot be compared with: {error}; give another "
                f"output_dir or, if that file is damaged, replace it by the config.yaml of a checkpoint"
            ) from error
        changed = differences(earlier, self.experiment, ignored=_FREE_TO_CHANGE)
        if changed:
            listed = ", ".join(f"{key}: {shown(old)} -> {shown(new)}" for key, (old, new) in changed.items())
            raise UserError(
                f"output_dir={self.path} holds a run of another experiment, which differs in {listed}; "
                f"give another output_dir, or the same settings to continue the run"
            )

    def _refuse_to_start_over(self) -> None:
        """Refuses a finished run and a run whose checkpoints are all damaged. Their files would be overwritten.

        A run that was killed before its first checkpoint is not refused, so it starts again.
        """
        if resumable(self.checkpoints) or (self.path / "final").exists():
            raise UserError(
                f"output_dir={self.path} holds a run, but no undamaged checkpoint is left; nothing was changed: give "
                f"another output_dir, or delete the folder to start over"
            )

    def _try_to_write(self) -> None:
        """Creates the missing folders and a file inside a temporary folder, and removes them.

        The temporary folder keeps processes that check at the same time from seeing each other's files.
        """
        base = next(path for path in (self.path, *self.path.parents) if os.path.lexists(path))
        with tempfile.TemporaryDirectory(prefix=WRITING, dir=base) as aside:
            folder = Path(aside) / self.path.relative_to(base)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CONFIG).write_bytes(b"#")

    def _not_writable(self, error: OSError) -> UserError:
        return UserError(f"{self.path}: cannot be written: {error.strerror}; choose another output_dir")


def _size_and_hash(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _save(tensors: dict[str, Any], path: Path) -> None:
    with open(path, "wb") as file:  # Python's file reports a full disk as an OSError; torch's own file does not
        torch.save(tensors, file)


def _load(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


def _has_whole_weights(folder: Path) -> bool:
    fault = next(_faults(folder, only=WEIGHTS), None)
    if fault is not None:
        logger.warning("%s is damaged (%s) and is left out of the average", folder, fault)
    return fault is None


def _faults(folder: Path, only: str | None = None) -> Iterator[str]:
    """Yields a message for each file of a checkpoint that does not match the manifest.

    A file that cannot be read also gives a message, and ends the check.

    Args:
        folder: the folder of the checkpoint.
        only: name of the only file to check; None checks all files.
    """
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        for name, expected in manifest.items():
            if only in (None, name) and _size_and_hash(folder / name) != expected:
                yield f"{name} does not match the manifest"
    except (OSError, ValueError) as error:
        yield str(error)
