"""`python -m benchmarks.loop_overhead`: the time that a step of our engine takes beyond a step of a bare torch loop.

Both train the same small model, an embedding and a linear layer, on the same batch; its computation takes a fraction of
a millisecond. The bare loop computes the gradients, clips them and takes a fused AdamW step. It records nothing.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from vanilla_recipes.engine.loop import fit
from vanilla_recipes.engine.task import Batch, Examples, Task
from vanilla_recipes.processes.launch import build_accelerator
from vanilla_recipes.run_folder.checkpoints import RunFolder
from vanilla_recipes.settings.durations import Duration
from vanilla_recipes.settings.experiment import (
    BatchConfig,
    CheckpointConfig,
    EvaluationConfig,
    Experiment,
    OptimizerConfig,
    ScheduleConfig,
)

VOCAB_SIZE, WIDTH, ROWS, LENGTH = 100, 32, 16, 16
WARM_UP = 100  # steps before the measurement


class TinyConfig(PreTrainedConfig):
    """The configuration of `TinyModel`."""

    model_type = "tiny"
    hidden_size = WIDTH
    num_hidden_layers = 0


class TinyModel(PreTrainedModel):
    """An embedding and a linear layer."""

    config_class = TinyConfig

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(VOCAB_SIZE, WIDTH)
        self.linear = nn.Linear(WIDTH, VOCAB_SIZE)

    def forward(
        self, input_ids: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor
    ) -> CausalLMOutput:
        """The loss of predicting the labels, summed up and divided by `num_items_in_batch`."""
        logits = self.linear(self.embedding(input_ids)).flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, labels.flatten(), reduction="sum") / num_items_in_batch
        return CausalLMOutput(loss=loss)


def batch() -> Batch:
    """Returns a batch of random ids, shape (ROWS, LENGTH); the labels are the inputs."""
    ids = torch.randint(VOCAB_SIZE, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "labels": ids}


def bare_loop(steps: int) -> float:
    """Returns the seconds of a step of the bare loop."""
    model, inputs, count = TinyModel(TinyConfig()), batch(), torch.tensor(float(ROWS * LENGTH))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    start = 0.0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            start = time.perf_counter()
        model(**inputs, num_items_in_batch=count).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return (time.perf_counter() - start) / steps


def engine_loop(steps: int, folder: Path) -> float:
    """Returns the seconds of a step of the engine: with its reports every 20 steps, without evaluation and saving."""
    times: list[float] = []
    inputs = batch()

    def make_batch(rows: object, epoch: int) -> Batch:
        times.append(time.perf_counter())
        return inputs

    experiment = Experiment(
        output_dir=str(folder),
        max_duration=Duration(WARM_UP + steps + 1, "steps"),
        optimizer=OptimizerConfig(),
        schedule=ScheduleConfig("constant", None),
        batch=BatchConfig(tokens=ROWS * LENGTH),
        checkpoint=CheckpointConfig(every=None),
        evaluation=EvaluationConfig(every=None),
    )
    lengths = np.full(20 * ROWS, LENGTH)
    task = Task(
        model=TinyModel(TinyConfig()),
        lengths=lengths,
        make_batch=make_batch,
        fingerprint="",
        validation=Examples(lengths, lambda model, rows: [None] * len(rows), lambda records: {"score": 0.0}),
        metric="score",
        greater_is_better=True,
        save_model=lambda model, path: None,
    )
    fit(task, experiment, RunFolder(experiment), build_accelerator(experiment))
    return (times[-1] - times[WARM_UP]) / steps


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loop_overhead",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=1000, help="steps of each loop in a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    loops: dict[str, Callable[[Path], float]] = {
        "bare": lambda folder: bare_loop(arguments.steps),
        "engine": lambda folder: engine_loop(arguments.steps, folder),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            for name, loop in loops.items():
                seconds[name].append(loop(Path(folder) / str(number)))
    for name, values in seconds.items():
        print(f"{name:7} {1000 * statistics.median(values):.3f} ms a step (best {1000 * min(values):.3f})")
    overhead = [engine - bare for engine, bare in zip(seconds["engine"], seconds["bare"], strict=True)]
    low, median = 1000 * min(overhead), 1000 * statistics.median(overhead)
    print(f"beyond the bare loop: {median:.3f} ms a step (least {low:.3f})")


if __name__ == "__main__":
    main()
