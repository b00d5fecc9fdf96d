"""`python -m benchmarks memory` and `growth`: peak memory of a training step, and its growth with the sizes.

Each model is measured in a separate process. The memory is the peak in two training steps minus the memory before the
model was built. So it contains weights, gradients, optimizer state and activations. On a GPU it is the peak of torch's
allocator.
"""

import argparse
import multiprocessing
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.batches import full_batch
from benchmarks.models import SHAPES, Shape, Subject, subjects
from benchmarks.rounds import Comparison, Unavailable, compare, peak_memory
from benchmarks.training import products, training_step

VOCAB_SIZE, ROWS, LENGTH = 32_000, 64, 32  # a batch has 2,048 targets
TOKENS = 4096  # tokens of a batch for each length; a longer row is a batch by itself
LENGTHS = (128, 512, 2048, 4096, 8192, 16_384)  # lengths above --longest are skipped
BATCHES = (1, 4, 16, 64)  # numbers of rows, each of 128 tokens
VOCAB_SIZES = (1000, 8000, 32_000, 128_000)


@dataclass(frozen=True)
class Step:
    """Describes a training step; can be pickled, so that another process can run the step.

    Attributes:
        name: name of the model, without its attention kernel.
        kernel: its attention kernel.
    """

    family: str
    name: str
    kernel: str
    shape: Shape
    rows: int
    length: int
    precision: str
    device: str

    def subject(self) -> Subject:
        """Builds the model and moves it to the device."""
        kernels = {"ours": [self.kernel], "peers": [self.kernel]}
        build = next(
            build
            for name, build in subjects(self.family, self.shape, kernels).items()
            if name.removesuffix(f", {self.kernel}") == self.name
        )
        subject = build()
        subject.model.to(self.device)
        return subject

    def batch(self) -> dict[str, torch.Tensor]:
        batch = full_batch(self.family, self.shape.vocab_size, self.rows, self.length)
        return {name: tensor.to(self.device) for name, tensor in batch.items()}


def growth_of(step: Step, threads: int) -> float:
    """Returns the growth of this process to its peak memory in two steps, in megabytes (2**20 bytes)."""
    torch.set_num_threads(threads)
    on_gpu = torch.device(step.device).type == "cuda"
    before = peak_memory()
    work = training_step(step.subject(), step.precision)
    batch = step.batch()
    work(batch)
    work(batch)
    if on_gpu:
        return torch.cuda.max_memory_allocated() / 2**20
    return peak_memory() - before


def in_processes(steps: dict[str, Step]) -> dict[str, float | str]:
    """Runs each step in a new process. Returns its peak memory in megabytes, or the reason why it cannot run."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        found: dict[str, float | str] = {}
        for name, step in steps.items():
            try:
                found[name] = pool.apply(growth_of, (step, torch.get_num_threads()))
            except Unavailable as error:
                found[name] = str(error)
    return found


def peaks(arguments: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Compares the peak memory of a training step of encoder-decoders with a large vocabulary."""
    results = []
    kernel = arguments.attention[0]
    for precision in arguments.precision:
        base = Step(
            "seq2seq", "ours", kernel, replace(SHAPES["seq2seq"], vocab_size=VOCAB_SIZE), ROWS, LENGTH, precision,
            str(device),
        )  # fmt: skip
        names = ("ours", "Marian", "torch.nn.Transformer", "x-transformers")
        megabytes = in_processes({name: replace(base, name=name) for name in names})
        print(f"peak memory of a seq2seq training step, {precision}, {ROWS} x {LENGTH}, {VOCAB_SIZE:,} tokens")
        for name, value in megabytes.items():
            if isinstance(value, str):
                print(f"  {name:28} did not run: {value}")
            else:
                print(f"  {name:28} {value:10,.0f} MB, ours has {float(megabytes['ours']) / value:.2f} of it")
        results.append({"task": "peak memory", "precision": precision, "rows": ROWS, "length": LENGTH,
                        "vocab_size": VOCAB_SIZE, "megabytes": megabytes})  # fmt: skip
    return results


def growths(arguments: argparse.Namespace, device: torch.device) -> list[Any]:
    """Compares speed and memory of decoders in bf16 while length, batch size or vocabulary grows."""
    shape = SHAPES["causal_lm"]
    kernel = "sdpa"  # eager attention would store scores: for 16,384 tokens 4 GB a layer
    base = Step("causal_lm", "ours", kernel, shape, 1, 128, "bf16", str(device))
    sizes = {
        "length": [
            replace(base, shape=replace(shape, length=length), rows=max(1, TOKENS // length), length=length)
            for length in LENGTHS
            if length <= arguments.longest
        ],
        "batch": [replace(base, rows=rows) for rows in BATCHES],
        "vocabulary": [replace(base, shape=replace(shape, vocab_size=size), rows=4) for size in VOCAB_SIZES],
    }
    results: list[Any] = []
    for what, steps in sizes.items():
        for step in steps:
            both = {name: replace(step, name=name) for name in ("ours", "GPT-2")}
            megabytes = in_processes(both)
            results.append(_timed(what, both, megabytes, arguments, device))
            print(results[-1], flush=True)
    return results


def _timed(
    what: str,
    steps: dict[str, Step],
    megabytes: dict[str, float | str],
    arguments: argparse.Namespace,
    device: torch.device,
) -> Comparison:
    built = {name: step.subject() for name, step in steps.items()}
    step = next(iter(steps.values()))
    batch = step.batch()
    flops = {name: products(subject, batch) for name, subject in built.items()}
    works = {name: training_step(subject, step.precision) for name, subject in built.items()}
    return compare(
        f"growth with {what}, causal_lm, {step.precision}, {step.rows} x {step.length}, "
        f"{step.shape.vocab_size:,} tokens in the vocabulary",
        "tokens",
        {name: lambda work=work: work(batch) for name, work in works.items()},  # type: ignore[misc]
        dict.fromkeys(works, step.rows * step.length),
        step.precision,
        1,
        device,
        flops,
        notes={name: f"{value:,.0f} MB" for name, value in megabytes.items() if not isinstance(value, str)},
    )
