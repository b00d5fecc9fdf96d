"""Runs whose parameters are cut over two processes (FSDP2), beside replicas (DDP) and one process."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import KilledError, losses, tiny_experiment, tiny_task, train, weights
from torch.distributed.tensor import DTensor
from two_processes import in_processes

from vanilla_recipes.engine.evaluation import evaluate
from vanilla_recipes.engine.loop import Loop
from vanilla_recipes.engine.task import Examples, Task
from vanilla_recipes.errors import UserError
from vanilla_recipes.processes.launch import build_accelerator
from vanilla_recipes.processes.signals import StopRequest
from vanilla_recipes.processes.whole_tensors import WholeModel
from vanilla_recipes.run_folder.checkpoints import RunFolder
from vanilla_recipes.settings.durations import Duration
from vanilla_recipes.settings.experiment import AveragingConfig, BatchConfig, EvaluationConfig
from vanilla_recipes.translation import main


def scored_task(dropout: float) -> Task:
    """The tiny task, whose score is what the model itself writes: greedy search on every row."""
    task = tiny_task(dropout)

    def predict(model, rows):
        assert not any(isinstance(parameter, DTensor) for parameter in model.parameters())
        batch = {name: tensor.to(model.device) for name, tensor in task.make_batch(rows, 0).items()}
        batch.pop("labels")
        return model.generate(**batch, max_new_tokens=5, min_new_tokens=5, do_sample=False).tolist()

    def score(records):
        return {"score": float(sum(sum(record) for record in records))}

    return dataclasses.replace(task, validation=Examples(task.lengths, predict, score))


def run(folder: Path, dropout: float = 0.0, kill_at: int | None = None, **changes) -> float | None:
    """A run of twelve steps in this process, which may die in one of them."""
    task = scored_task(dropout)
    calls = iter(range(1000))

    def make_batch(rows, epoch):
        if next(calls) == kill_at:
            raise KilledError
        return task.make_batch(rows, epoch)

    experiment = tiny_experiment(folder, evaluation=EvaluationConfig(every=Duration.parse("6 steps")), **changes)
    try:
        return train(experiment, dataclasses.replace(task, make_batch=make_batch)).state.best_score
    except KilledError:
        return None


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, list[float | None]]:
    """The same run on one process, on two replicas and on two shards; what each process scored."""
    folder = tmp_path_factory.mktemp("runs")
    scores = [run(folder / "one"), *in_processes(2, run, folder / "ddp")]
    return folder, [*scores, *in_processes(2, run, folder / "fsdp", shards="fsdp")]


def assert_same_weights(one: Path, other: Path, tolerance: float = 0.0) -> None:
    for name, tensor in weights(one).items():
        if tolerance and name.endswith("k_proj.bias"):
            continue  # softmax ignores it: its gradient is rounding error, which Adam scales up
        torch.testing.assert_close(weights(other)[name], tensor, rtol=0, atol=tolerance)


def test_shards_train_like_replicas(runs):
    folder, _ = runs
    assert losses(folder / "fsdp") == pytest.approx(losses(folder / "ddp"), rel=1e-6)
    assert losses(folder / "ddp") == pytest.approx(losses(folder / "one"), rel=1e-5)
    # Twelve steps of Adam, which scales rounding up where a gradient is hardly more than that: 2e-6 with some batches.
    assert_same_weights(folder / "ddp" / "final", folder / "fsdp" / "final", 1e-5)
    assert_same_weights(folder / "ddp" / "best", folder / "fsdp" / "best", 1e-5)


def test_scores_do_not_depend_on_the_launch(runs):
    _, scores = runs
    assert len(scores) == 5
    assert set(scores) == {scores[0]}
    assert scores[0] > 0


def score_untrained() -> float:
    accelerator = build_accelerator(tiny_experiment(Path("unused")))
    task = scored_task(dropout=0.1)
    scores = evaluate(task.model.eval(), task.validation, 100, accelerator)
    assert scores["rows"] == len(task.lengths)
    return scores["score"]


def test_four_processes_score_like_one():
    alone = score_untrained()
    assert in_processes(4, score_untrained) == [alone] * 4


def run_until_killed(folder: Path, dropout: float = 0.0, **changes) -> None:
    run(folder, dropout, kill_at=8, **changes)


def run_on(folder: Path, dropout: float = 0.0, **changes) -> None:
    run(folder, dropout, resume="always", **changes)


def test_sharded_run_resumes_bit_for_bit(tmp_path, runs):
    in_processes(2, run_until_killed, tmp_path / "run", shards="fsdp")
    assert not (tmp_path / "run" / "final").exists()
    in_processes(2, run_on, tmp_path / "run", shards="fsdp")
    assert losses(tmp_path / "run") == losses(runs[0] / "fsdp")
    assert_same_weights(runs[0] / "fsdp" / "final", tmp_path / "run" / "final")


@pytest.mark.slow
def test_sharded_run_resumes_bit_for_bit_with_dropout_and_averages(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    settings = {"averaging": AveragingConfig(ema_decay=0.9)}
    in_processes(2, partial(run, straight, 0.1, **settings), shards="fsdp")
    in_processes(2, partial(run_until_killed, killed, 0.1, **settings), shards="fsdp")
    in_processes(2, partial(run_on, killed, 0.1, **settings), shards="fsdp")
    assert losses(killed) == losses(straight)
    assert_same_weights(straight / "final", killed / "final")
    assert_same_weights(straight / "final_raw", killed / "final_raw")


@pytest.mark.slow
@pytest.mark.parametrize(("begun", "ended"), [("fsdp", "one"), ("one", "fsdp"), ("fsdp", "ddp")])
def test_run_goes_on_under_another_launch(tmp_path, runs, begun, ended):
    for launch, part in ((begun, run_until_killed), (ended, run_on)):
        if launch == "one":
            part(tmp_path / "run")
        else:
            in_processes(2, part, tmp_path / "run", shards="fsdp" if launch == "fsdp" else None)
    assert losses(tmp_path / "run") == pytest.approx(losses(runs[0] / "one"), rel=1e-5)
    assert_same_weights(runs[0] / "one" / "final", tmp_path / "run" / "final", 1e-5)


@pytest.mark.slow
def test_bf16_shards_train_like_bf16_replicas(tmp_path):
    in_processes(2, partial(run, tmp_path / "ddp", precision="bf16"))
    in_processes(2, partial(run, tmp_path / "fsdp", precision="bf16"), shards="fsdp")
    assert losses(tmp_path / "fsdp") == pytest.approx(losses(tmp_path / "ddp"), rel=2e-3)


def sizes(folder: Path) -> tuple[bool, list[tuple[int, int]]]:
    """Whether the tied weights are one, and the values of each parameter that are here and that there are."""
    experiment = tiny_experiment(folder)
    task = tiny_task()
    loop = Loop(task, experiment, RunFolder(experiment), build_accelerator(experiment), StopRequest())
    tied = task.model.lm_head.weight is task.model.get_input_embeddings().weight
    return tied, [(parameter.to_local().numel(), parameter.numel()) for parameter in loop.loss.parameters()]


def test_each_process_holds_a_part_of_every_parameter_and_ties_hold(tmp_path):
    (tied, mine), (_, others) = in_processes(2, sizes, tmp_path / "run", shards="fsdp")
    assert tied
    for (part, whole), (other_part, _) in zip(mine, others, strict=True):
        assert 0 < part < whole == part + other_part


# DeepSpeed, where it is installed: `DS_BUILD_OPS=0 pip install --no-build-isolation deepspeed`


@pytest.mark.slow
@pytest.mark.parametrize("shards", ["zero2", "zero3"])
def test_zero_trains_like_replicas_and_resumes_bit_for_bit(tmp_path, runs, shards):
    scores = in_processes(2, run, tmp_path / "straight", shards=shards)
    in_processes(2, run_until_killed, tmp_path / "killed", shards=shards)
    in_processes(2, run_on, tmp_path / "killed", shards=shards)
    assert scores == runs[1][:2]
    assert losses(tmp_path / "straight") == pytest.approx(losses(runs[0] / "ddp"), rel=1e-6)
    assert losses(tmp_path / "killed") == losses(tmp_path / "straight")
    assert_same_weights(tmp_path / "straight" / "final", tmp_path / "killed" / "final")
    assert_same_weights(runs[0] / "ddp" / "best", tmp_path / "straight" / "best", 1e-5)


def refusals(folder: Path) -> list[str]:
    texts = []
    for settings in (
        {"batch": BatchConfig(micro_batches=2)},
        {"batch": BatchConfig(groups=2)},
        {"averaging": AveragingConfig(ema_decay=0.9)},
        {"precision": "bf16", "averaging": AveragingConfig(checkpoints=3)},
    ):
        with pytest.raises(UserError) as caught:
            build_accelerator(tiny_experiment(folder, **settings))
        texts.append(str(caught.value))
    experiment, task = tiny_experiment(folder), tiny_task()
    task.model.lm_head.weight.requires_grad_(False)
    with pytest.raises(UserError) as caught:
        WholeModel(task.model, build_accelerator(experiment))
    return [*texts, str(caught.value)]


@pytest.mark.slow
def test_zero_refuses_what_it_cannot_do(tmp_path):
    texts, _ = in_processes(2, refusals, tmp_path, shards="zero2")
    assert texts == [
        "batch.micro_batches under DeepSpeed, which steps after each micro-batch: set it to 1, or use FSDP2",
        "batch.groups under DeepSpeed, which steps after each group: set it to 1, or use FSDP2",
        "averaging under DeepSpeed, which holds the fp32 weights outside the model: use FSDP2",
        "averaging under DeepSpeed, which holds the fp32 weights outside the model: use FSDP2",
        "DeepSpeed does not give frozen weights back: train adapters with DDP or FSDP2",
    ]


@pytest.mark.slow
def test_checkpoint_of_zero_needs_the_same_launch(tmp_path):
    in_processes(2, run_until_killed, tmp_path / "run", shards="zero2")
    with pytest.raises(UserError, match=r"^resume: the run was begun under DeepSpeed with 2 processes: go on with the"):
        run_on(tmp_path / "run")


# A whole recipe, from the corpus to the scores of the reloaded model

RECIPE = [
    "translation/toy", "max_duration=3 steps", "log_every=1 steps", "precision=fp32", "evaluation.max_rows=20",
    "data.num_train_rows=300", "data.num_validation_rows=20", "data.num_test_rows=11", "tokenizer.vocab_size=400",
    "batch.tokens=700", "model.hidden_size=32", "model.hidden_dropout_prob=0",
]  # fmt: skip


def recipe_run(folder: Path) -> None:
    assert main([*RECIPE, f"output_dir={folder}"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("shards", ["fsdp", "zero2", "zero3"])
def test_recipe_under_shards_scores_like_one_process(tmp_path, shards):
    recipe_run(tmp_path / "one")
    in_processes(2, recipe_run, tmp_path / shards, shards=shards)
    one, sharded = (json.loads((tmp_path / name / "results.json").read_text())["test"] for name in ("one", shards))
    assert sharded.pop("loss") == pytest.approx(one.pop("loss"), rel=1e-5)
    assert sharded == one
    assert losses(tmp_path / shards) == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


# The gradient of a step on one process and on two


def step_gradients(folder: Path, batch: BatchConfig, dropout: float = 0.0) -> list[np.ndarray]:
    """The gradients of every step of the first epoch, each in one line."""
    experiment, task = tiny_experiment(folder, batch=batch), tiny_task(dropout)
    loop = Loop(task, experiment, RunFolder(experiment), build_accelerator(experiment), StopRequest())
    found = []
    for step in range(loop.plan.num_steps(0)):
        parts = loop.gradients.cut(loop.plan.batch(0, step), 0, batch.micro_batches)
        loop.gradients.add_up(parts, loop.gradients.num_targets(parts), step)
        found.append(torch.cat([parameter.grad.flatten() for parameter in task.model.parameters()]).numpy())
        loop.optimizer.zero_grad()
    return found


def many_gradients(folder: Path, micro_batches: int) -> list[np.ndarray]:
    """Those of large steps, and of small ones, most of which have fewer rows than there are parts."""
    sizes = {"large": BatchConfig(160, micro_batches=micro_batches), "small": BatchConfig(40, 1, micro_batches)}
    return [gradient for name, batch in sizes.items() for gradient in step_gradients(folder / name, batch)]


def grouped_gradients(folder: Path) -> list[np.ndarray]:
    """Those of steps of three groups; of four, with dropout, but for the last step, whose groups are cut for two."""
    four = step_gradients(folder / "four", BatchConfig(160, groups=4), dropout=0.3)
    return four[:-1] + step_gradients(folder / "three", BatchConfig(160, groups=3))


def test_gradient_does_not_depend_on_processes(tmp_path):
    alone = many_gradients(tmp_path / "one", 1)
    together = in_processes(2, many_gradients, tmp_path / "two", 2)
    assert len(alone) == len(together[0]) > 20
    for whole, *parts in zip(alone, *together, strict=True):
        for part in parts:
            assert np.linalg.norm(part - whole) / np.linalg.norm(whole) < 1e-6


def test_gradient_of_groups_does_not_depend_on_processes(tmp_path):
    alone = grouped_gradients(tmp_path / "one")
    together = in_processes(2, grouped_gradients, tmp_path / "two")
    assert len(alone) == len(together[0]) > 8
    for whole, *parts in zip(alone, *together, strict=True):
        for part in parts:
            assert np.linalg.norm(part - whole) / np.linalg.norm(whole) < 1e-6


def uneven_step(folder: Path) -> tuple[int, np.ndarray]:
    """How many passes a step of three groups takes of which two are single rows, and its gradient."""
    experiment, task = tiny_experiment(folder, batch=BatchConfig(160, groups=3)), tiny_task(0.0)
    loop = Loop(task, experiment, RunFolder(experiment), build_accelerator(experiment), StopRequest())
    parts = loop.gradients.cut([np.arange(1), np.arange(1, 2), np.arange(2, 7)], 0, 1)
    loop.gradients.add_up(parts, loop.gradients.num_targets(parts), 0)
    gradients = [parameter.grad for parameter in task.model.parameters()]
    whole = [each.full_tensor() if isinstance(each, DTensor) else each for each in gradients]
    return len(parts), torch.cat([each.flatten() for each in whole]).numpy()


@pytest.mark.parametrize("shards", [None, "fsdp"])
def test_processes_take_equally_many_passes(tmp_path, shards):
    _, alone = uneven_step(tmp_path / "one")
    for num_passes, gradient in in_processes(2, uneven_step, tmp_path / "two", shards=shards):
        assert num_passes == 3
        assert np.linalg.norm(gradient - alone) / np.linalg.norm(alone) < 1e-6
