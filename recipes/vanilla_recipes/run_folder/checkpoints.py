"""The run folder and the checkpoints in it, from which a run goes on exactly."""

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
from vanilla_recipes.settings.durations import TrainState
from vanilla_recipes.settings.experiment import Experiment

logger = logging.getLogger(__name__)

CONFIG, METRICS, RESULTS = "config.yaml", "metrics.jsonl", "results.json"
"""Files of a run folder."""

_MANIFEST = "manifest.json"
_RUN_FILES = (CONFIG, "checkpoints", METRICS, "best", "final")
# A resumed run may differ in these from the run it continues: none of them changes what a step computes, except that
# another `max_duration` moves a schedule that decays over it, which is what whoever extends a run asks for.
_FREE_TO_CHANGE = (
    "recipe",  # which may have another name now; that it is the right one is a rule of the experiment
    "output_dir", "resume", "max_duration", "max_wall_time", "process_timeout", "log_every", "checkpoint",
    "evaluation.every", "evaluation.batch_tokens", "evaluation.patience", "evaluation.min_delta", "batch.micro_batches",
    "gradient_checkpointing", "averaging.checkpoints", "tracking",
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint."""

    folder: Path
    state: TrainState

    def load_tensors(self) -> dict[str, Any]:
        """What was given to `RunFolder.save`, on the CPU."""
        return {"model": _load(self.folder / WEIGHTS), **_load(self.folder / TRAINING)}


class RunFolder:
    """The output folder of one experiment.

    Making one checks, and leaves nothing behind yet: `begin` does.

    Raises:
        UserError: the folder holds a run and `resume` does not allow it, or other things than a run, or the run is of
            another experiment or has no checkpoint left, or `resume=always` finds no run, or the path is no folder or
            cannot be written.
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
        """The file of the run's records."""
        return self.path / METRICS

    def begin(self) -> None:
        """Makes the folder, removes what a killed run left half-written and writes the resolved experiment.

        The results of a run that goes on are no longer those of its models.
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
        """Writes a checkpoint, all or nothing, then removes or empties the oldest, as the experiment says.

        Args:
            state: where the run stands.
            fingerprint: that of the task, with which alone the run can go on.
            tensors: what `Checkpoint.load_tensors` gives back; "model" holds the weights.
        """
        with complete_folder(self.checkpoints / f"{RESUMABLE}{state.global_step:08d}") as folder:
            _save(tensors["model"], folder / WEIGHTS)
            _save({name: value for name, value in tensors.items() if name != "model"}, folder / TRAINING)
            record = {"fingerprint": fingerprint, "state": dataclasses.asdict(state)}
            (folder / STATE).write_text(json.dumps(record), encoding="utf-8")
            write_experiment(self.experiment, folder / CONFIG)
            manifest = {path.name: _size_and_hash(path) for path in sorted(folder.iterdir())}
            (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        prune(self.checkpoints, state.global_step, self.experiment)

    def newest(self, fingerprint: str) -> Checkpoint | None:
        """The newest checkpoint whose files are what its manifest says; damaged ones are named and passed over.

        Returns:
            None where there is no run to continue.

        Raises:
            UserError: the checkpoint is of a task with another fingerprint, or none of the run's is whole.
        """
        for folder in resumable(self.checkpoints):
            fault = next(_faults(folder), None)
            if fault is None:
                return self._read(folder, fingerprint)
            logger.warning("%s is damaged (%s) and is passed over", folder, fault)
        self._refuse_to_start_over()
        return None

    def weights_before(self, step: int, count: int) -> list[Path]:
        """The files with the weights of the last `count` scheduled checkpoints before a step, the newest first.

        Those that are damaged are named and passed over. `torch.load` reads them.
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
                    f"output_dir={self.path} holds other things than a run, such as {others[0]}: give a folder that is "
                    f"new or empty"
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
                f"give another output_dir, or the same settings to continue it"
            )

    def _refuse_to_start_over(self) -> None:
        """Refuses a run that is over or whose checkpoints are damaged; one killed before its first is begun again."""
        if resumable(self.checkpoints) or (self.path / "final").exists():
            raise UserError(
                f"output_dir={self.path} holds a run, but no whole checkpoint of it is left; nothing was touched: give "
                f"another output_dir, or delete the folder to start over"
            )

    def _try_to_write(self) -> None:
        """Makes the missing folders and a file aside, where the other processes do not meet them, and removes them."""
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
    with open(path, "wb") as file:  # a file of ours tells of a full disk, torch's own does not
        torch.save(tensors, file)


def _load(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


def _has_whole_weights(folder: Path) -> bool:
    fault = next(_faults(folder, only=WEIGHTS), None)
    if fault is not None:
        logger.warning("%s is damaged (%s) and is left out of the mean", folder, fault)
    return fault is None


def _faults(folder: Path, only: str | None = None) -> Iterator[str]:
    """What is wrong with a checkpoint, or with one file of it."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        for name, expected in manifest.items():
            if only in (None, name) and _size_and_hash(folder / name) != expected:
                yield f"{name} is not what the manifest says"
    except (OSError, ValueError) as error:
        yield str(error)
