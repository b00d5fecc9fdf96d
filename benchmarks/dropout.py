"""`python -m benchmarks.dropout`: compares our dropout with torch's on a CPU, forward and backward pass."""

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.rounds import alternate, repeated
from vanilla_transformers.model.operations import Dropout


def subject(dropout: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> Callable[[], None]:
    """Returns a function that runs a forward and a backward pass on a tensor of this shape."""
    states = torch.randn(shape, dtype=dtype, requires_grad=True)
    gradient = torch.ones(shape, dtype=dtype)

    def step() -> None:
        dropout(states).backward(gradient)
        states.grad = None

    return step


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dropout", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--shape", type=int, nargs="+", default=[128, 16, 256], metavar="SIZE")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=50, help="forward and backward passes of each in a round")
    arguments = parser.parse_args()
    for dtype in (torch.float32, torch.bfloat16):
        kinds = {"ours": Dropout(0.1), "torch": nn.Dropout(0.1)}
        subjects = {name: subject(kind, tuple(arguments.shape), dtype) for name, kind in kinds.items()}
        works = {name: repeated(work, arguments.steps) for name, work in subjects.items()}
        seconds = alternate(works, arguments.rounds)
        ratios = sorted(torchs / own for torchs, own in zip(seconds["torch"], seconds["ours"], strict=True))
        own, torchs = (1000 * statistics.median(seconds[name]) / arguments.steps for name in ("ours", "torch"))
        print(
            f"{str(dtype).removeprefix('torch.'):8} ours {own:.2f} ms, torch {torchs:.2f} ms: "
            f"{statistics.median(ratios):.1f} times ours ({ratios[0]:.1f}-{ratios[-1]:.1f})"
        )


if __name__ == "__main__":
    main()
