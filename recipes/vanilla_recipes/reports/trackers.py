"""TensorBoard, Trackio and Weights & Biases, through Accelerate. A tracker that fails does not stop a training run."""

import logging
import re
import sys
import uuid
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import reduce
from pathlib import Path
from typing import Any

import accelerate.tracking
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, TensorBoardTracker, TrackioTracker, WandBTracker
from accelerate.utils import broadcast_object_list

from vanilla_recipes.errors import UserError, one_line
from vanilla_recipes.folders import write_text
from vanilla_recipes.settings.config_files import leaf_types, to_plain
from vanilla_recipes.settings.experiment import Experiment
from vanilla_recipes.settings.train_state import TrainState
from vanilla_transformers.releases import install_command

logger = logging.getLogger(__name__)

_SECONDS_TO_ANSWER = 30
_WAYS_OUT = {
    "tensorboard": "free some space, or remove it from tracking.trackers",
    "trackio": "check its TRACKIO_ variables, or remove it from tracking.trackers",
    "wandb": "call `wandb login`, set WANDB_API_KEY, or set WANDB_MODE=offline and call `wandb sync` later",
}


def check_trackers(experiment: Experiment, accelerator: Accelerator) -> None:
    """Checks that the trackers of the experiment can be used, before any data is read or written.

    Raises:
        UserError: If a tracker is not installed, or the login at Weights & Biases fails. Every process raises the
            error.
    """

    def check() -> None:
        names = experiment.tracking.trackers
        installed = {str(name) for name in accelerate.tracking.get_available_trackers()}
        for name in names:
            if name not in installed:
                raise UserError(
                    f"tracking.trackers: {name} is not installed: {install_command(name)}, or "
                    f"remove it from tracking.trackers"
                )
        if "wandb" in names:
            _check_wandb_login()

    _on_main_process(check, accelerator)


def start_trackers(experiment: Experiment, state: TrainState, accelerator: Accelerator) -> None:
    """Starts the trackers of the experiment, and registers them with the Accelerator.

    After this call `Accelerator.log` sends figures to them, and `Accelerator.end_training` ends them. A resumed run
    continues the same run in each tracker.

    Raises:
        UserError: If a tracker does not start. Every process raises the error.
    """

    def start() -> None:
        trackers = [_Guarded(_build(name, experiment, state)) for name in experiment.tracking.trackers]
        accelerator.log_with = trackers
        accelerator.init_trackers(experiment.tracking.project, None if state.global_step else _settings(experiment))

    _on_main_process(start, accelerator)


class _Guarded(GeneralTracker):
    """Wraps a tracker. Its first failure is logged as a warning and disables the tracker; the run continues."""

    requires_logging_directory = False

    def __init__(self, tracker: GeneralTracker) -> None:
        super().__init__(_blank=True)
        self.name: str = tracker.name
        self._tracker, self._works = tracker, True

    @property
    def tracker(self) -> Any:
        """The tracking library's own object."""
        return self._tracker.tracker

    def start(self) -> None:
        """Starts the tracker.

        Raises:
            UserError: If the tracker does not start.
        """
        try:
            with redirect_stdout(sys.stderr):  # trackio prints a greeting, but stdout is for the scores only
                self._tracker.start()
        except Exception as error:  # each library raises its own exception classes
            way_out = _WAYS_OUT[self.name]
            raise UserError(f"tracking.trackers: {self.name} does not start: {_reason(error)}; {way_out}") from error

    def store_init_configuration(self, values: dict) -> None:
        self._attempt(self._tracker.store_init_configuration, values)

    def log(self, values: dict, step: int | None = None, **kwargs: Any) -> None:
        self._attempt(self._tracker.log, values, step=step, **kwargs)

    def finish(self) -> None:
        self._attempt(self._tracker.finish)

    def _attempt(self, action: Callable, *args: Any, **kwargs: Any) -> None:
        if not self._works:
            return
        try:
            with redirect_stdout(sys.stderr):
                action(*args, **kwargs)
        except Exception as error:
            self._works = False
            logger.warning(
                "%s has failed and gets no more figures; the run continues, and metrics.jsonl has all figures: %s",
                self.name, _reason(error),
            )  # fmt: skip


def _build(name: str, experiment: Experiment, state: TrainState) -> GeneralTracker:
    folder, project = experiment.output_path, experiment.tracking.project
    run_name = experiment.tracking.run_name or folder.resolve().name
    if name == "tensorboard":
        # `purge_step` drops the events that a killed run wrote after its checkpoint: a resumed run repeats these steps.
        return TensorBoardTracker("tensorboard", str(folder), purge_step=state.global_step + 1)
    if name == "trackio":
        return TrackioTracker(project, name=run_name, resume="allow" if state.global_step else "never", embed=False)
    return WandBTracker(project, **_wandb_options(folder, run_name, is_new=experiment.resume == "never"))


def _wandb_options(folder: Path, run_name: str, is_new: bool) -> dict[str, Any]:
    """Options of `wandb.init`. The run folder holds wandb's files and the run id, which a resumed run uses again."""
    id_file = folder / "wandb" / "run-id"
    if is_new or not id_file.exists():
        write_text(id_file, uuid.uuid4().hex)
    # Only figures and settings are tracked, not the console output, the code, the command line or the host.
    settings = {"console": "off", "disable_code": True, "disable_git": True, "x_disable_meta": True}
    settings |= {"quiet": True, "init_timeout": _SECONDS_TO_ANSWER}
    run_id = id_file.read_text(encoding="utf-8").strip()
    return {"name": run_name, "id": run_id, "resume": "allow", "dir": str(folder), "settings": settings}


def _check_wandb_login() -> None:
    import wandb

    try:
        mode = wandb.setup().settings.mode
        if mode in ("online", "shared", "run") and not wandb.login(prompt=False, timeout=_SECONDS_TO_ANSWER):
            raise UserError("there is no API key")
    except Exception as error:
        raise UserError(f"tracking.trackers: wandb cannot log in: {_reason(error)}; {_WAYS_OUT['wandb']}") from error


def _settings(experiment: Experiment) -> dict[str, Any]:
    """The settings of the experiment by dotted key, without nulls and passwords, as types that TensorBoard accepts."""
    plain = to_plain(experiment)
    flat = {
        key: reduce(lambda section, name: section.get(name), key.split("."), plain)
        for key in leaf_types(type(experiment))
    }
    return {
        key: value if isinstance(value, (bool, int, float)) else _without_password(str(value))
        for key, value in flat.items()
        if value is not None
    }


def _without_password(text: str) -> str:
    return re.sub(r"://[^/\s]*@", "://", text)


def _reason(error: Exception) -> str:
    """The message of a library's exception in one line, without passwords."""
    return _without_password(one_line(str(error))).rstrip(".") or type(error).__name__


def _on_main_process(action: Callable[[], None], accelerator: Accelerator) -> None:
    """Calls `action` on the main process. Every process raises its UserError, so that no process waits forever."""
    faults: list[str | None] = [None]
    if accelerator.is_main_process:
        try:
            action()
        except UserError as error:
            faults = [str(error)]
    if accelerator.num_processes > 1:
        broadcast_object_list(faults)
    if faults[0] is not None:
        raise UserError(faults[0])
