"""A tiny task and its runs: an encoder-decoder of six thousand parameters learns to copy half of a row."""

import dataclasses
import json
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from vanilla_recipes.data.collators import TranslationCollator
from vanilla_recipes.engine.loop import FitResult, fit
from vanilla_recipes.engine.task import Examples, Task
from vanilla_recipes.processes.launch import build_accelerator
from vanilla_recipes.reports.metrics import MetricsLog
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
from vanilla_transformers import VanillaSeq2SeqConfig, VanillaSeq2SeqForConditionalGeneration


def tiny_task(dropout: float = 0.1, scores: list[float] | None = None) -> Task:
    """Returns the task of copying the first half of random tokens.

    The evaluations return `scores` one after the other; by default 0, 1, 2, and so on.
    """
    torch.manual_seed(0)
    config = VanillaSeq2SeqConfig(
        vocab_size=20,
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=32,
        encoder_layers=1,
        decoder_layers=1,
        hidden_dropout_prob=dropout,
    )
    generator = np.random.default_rng(0)
    rows = []
    for length in generator.integers(2, 9, 60):
        ids = generator.integers(4, 20, length).tolist()
        rows.append({"input_ids": [*ids, 3], "labels": [*ids[: length // 2], 3]})
    lengths = np.array([(len(row["input_ids"]), len(row["labels"])) for row in rows])
    collate = TranslationCollator(pad_token_id=0)
    planned = iter(scores or range(1000))
    return Task(
        model=VanillaSeq2SeqForConditionalGeneration(config),
        lengths=lengths,
        make_batch=lambda numbers, epoch: collate([rows[number] for number in numbers]),
        fingerprint="tiny",
        validation=Examples(
            lengths, predict_nothing, lambda records: {"score": float(next(planned)), "how": "planned"}
        ),
        metric="score",
        greater_is_better=True,
        save_model=lambda model, folder: model.save_pretrained(folder),
    )


def predict_nothing(model, rows) -> list:
    return [None for _ in rows]


def tiny_experiment(folder: Path, **changes) -> Experiment:
    settings = {
        "output_dir": str(folder),
        "max_duration": Duration.parse("12 steps"),
        "log_every": Duration.parse("1 steps"),
        "optimizer": OptimizerConfig(learning_rate=1e-2),
        "schedule": ScheduleConfig("cosine", Duration.parse("2 steps")),
        "batch": BatchConfig(tokens=64),
        "checkpoint": CheckpointConfig(Duration.parse("5 steps"), keep=2),
        "evaluation": EvaluationConfig(every=None),
    }
    return Experiment(**settings | changes)


def train(experiment: Experiment, task: Task | None = None) -> FitResult:
    with mock.patch.object(MetricsLog, "draw"):  # drawing takes longer than the training
        return fit(task or tiny_task(), experiment, RunFolder(experiment), build_accelerator(experiment))


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> dict[int, float]:
    return {record["step"]: record["loss"] for record in records(folder) if "loss" in record}


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return VanillaSeq2SeqForConditionalGeneration.from_pretrained(folder).state_dict()


class KilledError(Exception):
    """Raised in place of killing the process."""


def kill_after(step: int):
    """Returns a task that raises `KilledError` in the step after `step`."""
    task = tiny_task()
    calls = iter(range(1000))

    def make_batch(rows, epoch):
        if next(calls) == step:
            raise KilledError
        return task.make_batch(rows, epoch)

    return dataclasses.replace(task, make_batch=make_batch)
