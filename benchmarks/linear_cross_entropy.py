"""`python -m benchmarks.linear_cross_entropy`: output projection, cross entropy and their gradients.

Compares three implementations in alternating rounds: ours (without all logits in memory), torch's linear layer and
cross entropy (with all logits, called "whole"), and torch's `linear_cross_entropy`. The memory is the growth of a
separate process. With `--keep`, the process keeps freed memory, as in our recipes.
"""

import argparse
import multiprocessing
import statistics
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from benchmarks.rounds import alternate, peak_memory, repeated
from vanilla_recipes.processes.cpu_memory import keep_memory_and_kernels
from vanilla_transformers.fast.linear_cross_entropy import linear_cross_entropy_loss

Loss = Callable[[nn.Linear, torch.Tensor, torch.Tensor, float], torch.Tensor]


def ours(projection: nn.Linear, vectors: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Returns the loss of our models and recipes, computed without all logits in memory."""
    return linear_cross_entropy_loss(projection, vectors, labels, None, label_smoothing)


def whole(projection: nn.Linear, vectors: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Returns the loss computed from all logits, in fp32."""
    return functional.cross_entropy(projection(vectors).float(), labels, label_smoothing=label_smoothing)


def torchs(projection: nn.Linear, vectors: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Returns torch's loss, computed in chunks; with label smoothing, from all logits. Autocast does not affect it."""
    options = nn.LinearCrossEntropyOptions()  # type: ignore[attr-defined]
    return functional.linear_cross_entropy(  # type: ignore[attr-defined]
        vectors, projection.weight, labels, label_smoothing=label_smoothing, options=options
    )


LOSSES: dict[str, Loss] = {"ours": ours, "whole": whole, "torch": torchs}


def subject(loss: Loss, arguments: argparse.Namespace) -> Callable[[], None]:
    """Returns a function that runs a forward and a backward pass."""
    torch.manual_seed(0)
    projection = nn.Linear(arguments.width, arguments.tokens, bias=False)
    vectors = torch.randn(arguments.rows, arguments.width, requires_grad=True)
    labels = torch.randint(arguments.tokens, (arguments.rows,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16"):
            value = loss(projection, vectors, labels, arguments.label_smoothing)
        value.backward()
        vectors.grad = projection.weight.grad = None

    return step


def growth(name: str, arguments: argparse.Namespace) -> float:
    """Returns the maximum growth of the process in two passes, gradients included, in MB (2**20 bytes)."""
    torch.set_num_threads(arguments.threads)
    step = subject(LOSSES[name], arguments)
    before = peak_memory()
    step()
    step()
    return peak_memory() - before


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.linear_cross_entropy",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=512, help="targets")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=8000, help="vocabulary")
    parser.add_argument("--label-smoothing", type=float, default=0.1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=5, help="forward and backward passes of each in a round")
    parser.add_argument("--keep", action="store_true", help="keep freed memory in the process, as in our recipes")
    arguments = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = {name: pool.apply(growth, (name, arguments)) for name in LOSSES}
    if arguments.keep:
        keep_memory_and_kernels()
    torch.set_num_threads(arguments.threads)
    subjects = {name: repeated(subject(loss, arguments), arguments.steps) for name, loss in LOSSES.items()}
    seconds = alternate(subjects, arguments.rounds)
    for name, values in seconds.items():
        ratios = sorted(theirs / own for theirs, own in zip(values, seconds["ours"], strict=True))
        milliseconds = 1000 * statistics.median(values) / arguments.steps
        print(
            f"{name:6} {milliseconds:8.1f} ms, {statistics.median(ratios):.2f} of ours "
            f"({ratios[0]:.2f}-{ratios[-1]:.2f}); {memory[name]:6.0f} MB"
        )


if __name__ == "__main__":
    main()
