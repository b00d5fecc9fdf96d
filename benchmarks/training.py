"""`python -m benchmarks step` and `real`: training on one full batch, and on rows of realistic lengths.

A training step is a forward pass under autocast, a backward pass and a step of fused AdamW. Our models compute the loss
without the logits, as in the recipes.

`step` trains all models on the same batch without padding. With `--groups`, our model computes equal parts of the batch
in parallel threads, as our recipes compute the groups of `batch.groups` on a CPU.

`real` trains all models on rows of the same corpus. The peers use batches that `Trainer` groups by length. Our models
use the batches of our engine, whose maximum number of padded tokens is the mean of the peers' batches. Of both kinds of
batches, a sample that is evenly spread over the corpus is used.
"""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.batches import batches_of, full_batch, grouped_batches, planned_batches, real_lengths
from benchmarks.models import IGNORED, SHAPES, Batch, Subject, as_in_recipes, subjects
from benchmarks.rounds import Apart, Comparison, Unavailable, Work, compare, repeated
from vanilla_recipes.engine.side_by_side import SideBySide, draws_our_dropout
from vanilla_recipes.processes.cpu_memory import keep_memory_and_kernels
from vanilla_transformers import VanillaDecoderForCausalLM

FULL = {"seq2seq": (32, 16), "masked_lm": (32, 32), "causal_lm": (12, 128)}
"""Number of rows of a full batch and number of tokens in a row, by family."""

BATCH_SIZE = 32
# `Trainer` sorts 50 batches by length at once, or a quarter of all batches if that is less. So this is the least number
# of rows with which the peers have as little padding as in a large data set.
ROWS = 4 * 50 * BATCH_SIZE


def training_step(subject: Subject, precision: str) -> Callable[[Batch], None]:
    """Returns a function that trains the model on a batch."""

    def add_gradients(batch: Batch) -> None:
        with _autocast(subject, precision):
            loss = subject.loss(batch)
        loss.backward()

    return _learning(subject, add_gradients)


def training_step_in_groups(subject: Subject, precision: str, groups: int) -> Callable[[Batch], None]:
    """Returns a function that trains our model on a batch, whose groups of rows are computed in parallel threads.

    Raises:
        Unavailable: If our recipes would compute the groups of this model one after the other.
    """
    model: Any = subject.model
    if not draws_our_dropout(model):
        raise Unavailable(
            "--groups: this kernel's dropout is torch's, so recipes compute groups one by one; use --attention eager"
        )
    threads = SideBySide(model, groups, partial(_autocast, subject, precision))

    def add_gradients(batch: Batch) -> None:
        labels = batch["labels"][:, 1:] if isinstance(model, VanillaDecoderForCausalLM) else batch["labels"]
        parts = zip(*(tensor.tensor_split(groups) for tensor in batch.values()), strict=True)
        batches = [as_in_recipes(model, dict(zip(batch, part, strict=True))) for part in parts]
        threads.add_up(batches, labels.ne(IGNORED).sum(), range(len(batches)))

    return _learning(subject, add_gradients)


def _learning(subject: Subject, add_gradients: Callable[[Batch], None]) -> Callable[[Batch], None]:
    subject.model.train()
    optimizer = torch.optim.AdamW(subject.model.parameters(), lr=1e-4, fused=True)

    def step(batch: Batch) -> None:
        add_gradients(batch)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _autocast(subject: Subject, precision: str) -> torch.autocast:
    device_type = next(subject.model.parameters()).device.type
    return torch.autocast(device_type, torch.bfloat16, enabled=precision == "bf16")


def products(subject: Subject, batch: Batch) -> float:
    """Returns the operations of the matrix products in the forward and backward pass of a batch."""
    with FlopCounterMode(display=False) as counter:
        subject.loss(batch).backward()
    subject.model.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


def built(
    family: str, arguments: argparse.Namespace, device: torch.device, only: str | None = None
) -> tuple[dict[str, Subject], dict[str, str]]:
    """Builds the models that can run here, or the one named `only`. Returns them, and the reasons why others cannot."""
    found, missing = {}, {}
    kernels = {"ours": arguments.attention, "peers": arguments.peer_attention}
    for name, build in subjects(family, SHAPES[family], kernels, arguments.nanogpt).items():
        if only not in (None, name):
            continue
        try:
            subject = build()
        except Unavailable as error:
            missing[name] = str(error)
        else:
            subject.model.to(device)
            found[name] = subject
    return found, missing


def full_steps(arguments: argparse.Namespace, device: torch.device) -> list[Comparison]:
    """Compares training steps on one full batch for each family and precision.

    Raises:
        Unavailable: If our model cannot compute `--groups` groups in parallel.
    """
    results = []
    num_threads = torch.get_num_threads() if device.type == "cpu" else 1
    for family in arguments.family:
        batch_size, length = arguments.size or FULL[family]
        most = min(num_threads, batch_size)
        if not 1 <= arguments.groups <= most:
            raise Unavailable(
                f"--groups {arguments.groups}: must be from 1 to {most} for {batch_size} rows on {device.type}: each "
                "group needs at least one row and a CPU thread"
            )
        batch = {
            name: tensor.to(device)
            for name, tensor in full_batch(family, SHAPES[family].vocab_size, batch_size, length).items()
        }
        for precision in arguments.precision:
            found, missing = built(family, arguments, device)
            flops = {name: arguments.steps * products(subject, batch) for name, subject in found.items()}
            with ExitStack() as stack:
                works: dict[str, Work] = {}
                for name, subject in found.items():
                    if arguments.apart:
                        process = Apart(steps_apart, family, name, precision, batch, arguments)
                        works[name] = stack.enter_context(process)
                        continue
                    step = step_of(subject, name, precision, arguments)
                    works[name] = repeated(partial(step, batch), arguments.steps)
                where = f", ours in {arguments.groups} groups" if arguments.groups > 1 else ""
                where += ", a process each" if arguments.apart else ""
                results.append(
                    compare(
                        f"{family} training step, {precision}, {batch_size} x {length}{where}",
                        "steps",
                        works,
                        dict.fromkeys(works, arguments.steps),
                        precision,
                        arguments.rounds,
                        device,
                        flops,
                        missing,
                    )
                )
            print(results[-1], flush=True)
    return results


def steps_apart(
    family: str, name: str, precision: str, batch: dict[str, torch.Tensor], arguments: argparse.Namespace
) -> Work:
    """Returns the repeated step of one model. Called in the model's process; ours keeps freed memory, as in recipes."""
    if name.startswith("ours"):
        keep_memory_and_kernels()
    device = next(iter(batch.values())).device
    subject = built(family, arguments, device, only=name)[0][name]
    return repeated(partial(step_of(subject, name, precision, arguments), batch), arguments.steps)


def step_of(subject: Subject, name: str, precision: str, arguments: argparse.Namespace) -> Callable[[Batch], None]:
    """Returns the training step of a model; that of our model in groups if `--groups` is 2 or more."""
    if name.startswith("ours") and arguments.groups > 1:
        return training_step_in_groups(subject, precision, arguments.groups)
    return training_step(subject, precision)


def real_steps(arguments: argparse.Namespace, device: torch.device) -> list[Comparison]:
    """Compares training on rows of realistic lengths for each family and precision."""
    results = []
    for family in arguments.family:
        shape = SHAPES[family]
        lengths = real_lengths(family, ROWS, shape.length)
        grouped = grouped_batches(lengths, BATCH_SIZE)
        places = [int(len(rows) * lengths[rows].max(0).sum()) for rows in grouped]
        planned = {"peers": grouped, "ours": planned_batches(lengths, int(np.mean(places)))}
        rows_of = {side: [rows[i] for i in _spread(len(rows), arguments.steps)] for side, rows in planned.items()}
        batches = {side: batches_of(family, shape.vocab_size, lengths, rows, device) for side, rows in rows_of.items()}
        for precision in arguments.precision:
            found, missing = built(family, arguments, device)
            steps = {name: training_step(subject, precision) for name, subject in found.items()}
            sides = {name: "ours" if name.startswith("ours") else "peers" for name in found}
            results.append(
                compare(
                    f"{family} training on real lengths, {precision}, {lengths.mean():.1f} tokens on average",
                    "real tokens",
                    {name: _over(step, batches[sides[name]]) for name, step in steps.items()},
                    {name: sum(float(lengths[rows].sum()) for rows in rows_of[side]) for name, side in sides.items()},
                    precision,
                    arguments.rounds,
                    device,
                    missing=missing,
                    notes={name: f"{_padding(lengths, planned[side]):.1%} padding" for name, side in sides.items()},
                )
            )
            print(results[-1], flush=True)
    return results


def _over(step: Callable[[Batch], None], batches: list[dict[str, torch.Tensor]]) -> Callable[[], None]:
    def work() -> None:
        for batch in batches:
            step(batch)

    return work


def _spread(count: int, wanted: int) -> list[int]:
    """Returns up to `wanted` evenly spread indices of a sequence of `count` items."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, wanted))})


def _padding(lengths: NDArray[np.int64], batches: list[NDArray[np.int64]]) -> float:
    places = sum(int(len(rows) * lengths[rows].max(0).sum()) for rows in batches)
    return 1 - int(lengths.sum()) / places
