"""A complete run of a recipe: reads the experiment, trains, and scores the best model on the test rows."""

import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from accelerate import Accelerator

from vanilla_recipes.engine.adapters import check_adapters, with_adapters
from vanilla_recipes.engine.certificates import certificates
from vanilla_recipes.engine.evaluation import evaluate
from vanilla_recipes.engine.loop import fit
from vanilla_recipes.engine.summary import best_scores, run_figures, summary_table
from vanilla_recipes.engine.task import Task
from vanilla_recipes.folders import write_text
from vanilla_recipes.models.attention_kernel import set_attention
from vanilla_recipes.processes.launch import build_accelerator
from vanilla_recipes.processes.processes import contact, join_slurm
from vanilla_recipes.reports.metrics import MetricsLog
from vanilla_recipes.reports.progress import no_library_bars
from vanilla_recipes.reports.trackers import check_trackers
from vanilla_recipes.run_folder.checkpoints import RESULTS, RunFolder
from vanilla_recipes.settings.config_files import load_experiment
from vanilla_recipes.settings.experiment import Experiment
from vanilla_recipes.settings.train_state import TrainState

ExperimentT = TypeVar("ExperimentT", bound=Experiment)


def train(experiment_class: type[ExperimentT], setup: Callable[[ExperimentT], Task], argv: Sequence[str]) -> int:
    """Runs the experiment that the command line describes, and returns the exit status.

    Args:
        experiment_class: the experiment class of the recipe.
        setup: builds the task: reads and checks all rows before training starts, and builds the model.
        argv: the command line without the program's name: a configuration, then `key=value` overrides.

    Returns:
        0, also if the run was stopped and saved a checkpoint.

    Raises:
        UserError: If the configuration, the data, the run folder or the launch is wrong, or if there is not enough disk
            space or memory.
    """
    join_slurm()
    experiment = load_experiment(experiment_class, argv[0], argv[1:])
    run_folder = RunFolder(experiment)
    accelerator = build_accelerator(experiment)
    with no_library_bars(), contact():
        check_trackers(experiment, accelerator)
        check_adapters(experiment)
        task = with_adapters(setup(experiment), experiment)
        set_attention(task.model, experiment, accelerator.device)
        result = fit(task, experiment, run_folder, accelerator)
        if result.stopped_by is None:
            _conclude(task, result.state, experiment, run_folder, accelerator)
    accelerator.end_training()
    return 0


def _conclude(
    task: Task, state: TrainState, experiment: Experiment, run_folder: RunFolder, accelerator: Accelerator
) -> None:
    """Scores the best model on the test rows, writes `results.json` and prints the summary of the run."""
    model = type(task.model).from_pretrained(run_folder.path / "best").to(accelerator.device).eval()
    test = {} if task.test is None else evaluate(model, task.test, experiment.evaluation.batch_tokens, accelerator)
    if not accelerator.is_main_process:
        return
    if task.show is not None:
        task.show(model, run_folder.path)
    records = MetricsLog(run_folder.metrics_file, accelerator).read()
    scores = {"validation": best_scores(state, records)} | ({"test": test} if test else {})
    figures = run_figures(state, records, accelerator)
    shown = certificates(model, task, state, experiment)
    results = {"model": "best", **scores, **task.settings, "run": figures, "certificates": shown}
    write_text(run_folder.path / RESULTS, json.dumps(results, indent=2) + "\n")
    numbers = {f"test_{name}": value for name, value in test.items() if not isinstance(value, str)}
    accelerator.log(numbers, step=state.global_step)
    print(summary_table(scores, figures, run_folder.path))
