"""`python -m benchmarks [TASK ...]`: ours beside its peers, in alternating rounds of one process.

Prints how many times as fast ours is, what large matrices reach on this machine, and the share of that which each one
puts to use; writes it all with machine and versions to `benchmarks/results/`. Whatever cannot run is listed with the
reason.

    step            a training step on the same full batch
    real            training on rows of real lengths
    classification  classes of sentences
    continuation    greedy continuation of prompts
    decoding        translation; needs --model and --sentences
    memory          the peak memory of a training step
    growth          speed and memory as length, batch and vocabulary grow
    recipe          whole recipes to the end, and the time to the peer's score; needs --data
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.classification import classifications
from benchmarks.continuation import continuations
from benchmarks.decoding import translations
from benchmarks.memory import growths, peaks
from benchmarks.recipes import RECIPES, races
from benchmarks.rounds import Unavailable, write
from benchmarks.training import full_steps, real_steps
from vanilla_recipes.processes.cpu_memory import keep_memory_and_kernels

TASKS: dict[str, Callable[[argparse.Namespace, torch.device], list[Any]]] = {
    "step": full_steps,
    "real": real_steps,
    "classification": classifications,
    "continuation": continuations,
    "decoding": translations,
    "memory": peaks,
    "growth": growths,
    "recipe": races,
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    best = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    found = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kernels = ["eager"] if best.type == "cpu" else ["sdpa"]
    families = ["seq2seq", "masked_lm", "causal_lm"]
    add = found.add_argument
    add("task", nargs="*", help="all of them if none is named")
    add("--family", nargs="+", default=families, choices=families, help="of models that train")
    add("--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    add("--attention", nargs="+", default=kernels, metavar="KERNEL", help="of ours in training (%(default)s)")
    add("--decoding-attention", nargs="+", default=["sdpa"], metavar="KERNEL", help="of ours in decoding (%(default)s)")
    add("--peer-attention", nargs="+", default=["eager", "sdpa"], metavar="KERNEL", help="of the peers (%(default)s)")
    add("--size", type=int, nargs=2, metavar=("ROWS", "TOKENS"), help="of a full batch")
    add("--groups", type=int, default=1, help="of ours in a step, computed side by side on a CPU (%(default)s)")
    add("--rounds", type=int, default=5, help="(%(default)s)")
    add("--steps", type=int, default=10, help="of each subject in a round (%(default)s)")
    add("--longest", type=int, default=4096 if best.type == "cpu" else 16_384, help="rows of growth (%(default)s)")
    add("--apart", action="store_true", help="a step's subjects in processes of their own, as their users start them")
    add("--device", default=str(best), help="(%(default)s)")
    add("--nanogpt", type=Path, metavar="FOLDER", help="a clone of karpathy/nanoGPT")
    add(
        "--texts", type=Path, metavar="FILE", help="sentences to classify, JSON lines or plain; random words if missing"
    )
    add("--model", type=Path, metavar="FOLDER", help="an encoder-decoder that translates")
    add("--sentences", type=Path, metavar="FILE", help="what it translates, JSON lines or plain")
    add("--source", default="en", help="the language of these (%(default)s)")
    add("--data", type=Path, metavar="FOLDER", help="rows of a recipe")
    add("--recipe", default="multi30k", choices=list(RECIPES), help="what is learned from them (%(default)s)")
    add("--seconds", type=float, help="of training (600 of multi30k, 240 of sst2)")
    add("--shares", type=float, nargs="*", default=[0.5], help="of that time that ours gets as well (%(default)s)")
    add("--races", type=int, default=1, help="of a recipe, each with another seed of ours (%(default)s)")
    add("--peer-batch-size", type=int, default=32, help="in recipes (%(default)s)")
    add("--beams", type=int, nargs="+", default=[4, 1], help="(%(default)s)")
    add("--max-length", type=int, default=64, help="tokens of a translation (%(default)s)")
    return found


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was asked, of folders and files the name alone."""
    named = {name: value.name for name, value in vars(arguments).items() if isinstance(value, Path)}
    return vars(arguments) | named


def main(words: Sequence[str] | None = None) -> None:
    arguments = parser().parse_args(words)
    unknown = [task for task in arguments.task if task not in TASKS]
    if unknown:
        parser().error(f"{', '.join(unknown)}: there is no such task; there are {', '.join(TASKS)}")
    keep_memory_and_kernels()
    for task in arguments.task or TASKS:
        try:
            results = TASKS[task](arguments, torch.device(arguments.device))
        except Unavailable as error:
            print(f"{task} did not run: {error}")
        else:
            plain = [asdict(each) if is_dataclass(each) else each for each in results]
            write(_file_name(task, arguments), settings(arguments), plain)


def _file_name(task: str, arguments: argparse.Namespace) -> str:
    """What the file of some results begins with, so that none takes the place of another kind of the same day."""
    if task == "recipe":
        return f"recipe_{arguments.recipe}"
    if task != "step":
        return task
    size = ["{}x{}".format(*arguments.size)] if arguments.size else []
    groups = [f"{arguments.groups}_groups"] if arguments.groups > 1 else []
    return "_".join(["step", *size, *groups, *["apart"] * arguments.apart])


if __name__ == "__main__":
    main()
