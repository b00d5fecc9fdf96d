"""A whole run of a recipe: read the experiment, train, score the best model on the test rows."""

import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from accelerate import Accelerator

from vanilla_transformers.recipes.engine.checkpoints import RunFolder
from vanilla_transformers.recipes.engine.config_files import load_experiment
from vanilla_transformers.recipes.engine.evaluation import evaluate
from vanilla_transformers.recipes.engine.experiment import Experiment
from vanilla_transformers.recipes.engine.folders import write_text
from vanilla_transformers.recipes.engine.launch import build_accelerator, set_attention
from vanilla_transformers.recipes.engine.loop import fit
from vanilla_transformers.recipes.engine.task import Examples, Task
from vanilla_transformers.recipes.engine.tracking import no_library_bars

ExperimentT = TypeVar("ExperimentT", bound=Experiment)


def train(experiment_class: type[ExperimentT], setup: Callable[[ExperimentT], Task], argv: Sequence[str]) -> int:
    """Trains and scores what the arguments describe: a configuration, then `key=value` overrides.

    Args:
        experiment_class: what the configuration describes.
        setup: reads and checks all rows, so that a fault in the last of them shows before the training, and makes the
            model.
        argv: the command line without the program's name.

    Returns:
        0, also where a signal stopped the run and its state is saved.

    Raises:
        UserError: anything wrong with the configuration, the data, the run folder or the disk.
    """
    experiment = load_experiment(experiment_class, argv[0], argv[1:])
    run_folder = RunFolder(experiment)
    accelerator = build_accelerator(experiment)
    with no_library_bars():
        task = setup(experiment)
        set_attention(task.model, experiment, accelerator.device)
        result = fit(task, experiment, run_folder, accelerator)
        if result.stopped_by is None and task.test is not None:
            _score_best(task, task.test, experiment, run_folder, accelerator)
    accelerator.end_training()
    return 0


def _score_best(
    task: Task, test: Examples, experiment: Experiment, run_folder: RunFolder, accelerator: Accelerator
) -> None:
    """Scores the best model on the test rows and writes `results.json`."""
    folder = run_folder.path / "best"
    model = type(task.model).from_pretrained(folder).to(accelerator.device).eval()
    scores = evaluate(model, test, experiment.evaluation.batch_tokens, accelerator)
    if accelerator.is_main_process:
        results = {"model": "best", "test": scores, **task.settings}
        write_text(run_folder.path / "results.json", json.dumps(results, indent=2) + "\n")
        shown = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in scores.items()
        )
        print(f"test: {shown}; model in {folder}")
