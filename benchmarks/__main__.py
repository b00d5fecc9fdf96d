"""`python -m benchmarks [TASK ...]`: compares our models with models of other libraries, called peers.

The models take turns, round by round. The command prints how many times as fast our model is, the speed of large matrix
products on this machine, and the share of that speed that each model reaches. It lists the models that cannot run here,
with the reason. It writes the results, the machine and the versions to `benchmarks/results/`.

    step            training steps on one full batch (without padding)
    real            training on rows of realistic lengths
    classification  classification of sentences
    continuation    greedy continuation of prompts
    decoding        translation; needs --model and --sentences
    memory          peak memory of a training step
    growth          speed and memory as row length, batch size and vocabulary grow
    recipe          complete training runs, and our time to the peer's score; needs --data
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
    """Returns the parser of the command line."""
    best = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    found = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kernels = ["eager"] if best.type == "cpu" else ["sdpa"]
    families = ["seq2seq", "masked_lm", "causal_lm"]
    add = found.add_argument
    add("task", nargs="*", help="tasks to run (default: all)")
    add("--family", nargs="+", default=families, choices=families, help="model families in step and real")
    add("--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    add("--attention", nargs="+", default=kernels, metavar="KERNEL", help="our attention in training (%(default)s)")
    add(
        "--decoding-attention",
        nargs="+",
        default=["sdpa"],
        metavar="KERNEL",
        help="our attention in continuation (%(default)s)",
    )
    add(
        "--peer-attention",
        nargs="+",
        default=["eager", "sdpa"],
        metavar="KERNEL",
        help="attention of the peers (%(default)s)",
    )
    add("--size", type=int, nargs=2, metavar=("ROWS", "TOKENS"), help="size of the batch of step")
    add("--groups", type=int, default=1, help="groups of our batch in step, in parallel CPU threads (%(default)s)")
    add("--rounds", type=int, default=5, help="(%(default)s)")
    add("--steps", type=int, default=10, help="training steps of each model in a round (%(default)s)")
    add(
        "--longest",
        type=int,
        default=4096 if best.type == "cpu" else 16_384,
        help="longest row of growth, in tokens (%(default)s)",
    )
    add("--apart", action="store_true", help="step: run each model in a separate process, as its users do")
    add("--device", default=str(best), help="(%(default)s)")
    add("--nanogpt", type=Path, metavar="FOLDER", help="a clone of karpathy/nanoGPT")
    add(
        "--texts", type=Path, metavar="FILE", help="sentences to classify: .jsonl, or one a line; default: random words"
    )
    add("--model", type=Path, metavar="FOLDER", help="a trained encoder-decoder for decoding")
    add("--sentences", type=Path, metavar="FILE", help="texts that it translates: .jsonl, or one a line")
    add("--source", default="en", help="field of the source language in .jsonl (%(default)s)")
    add("--data", type=Path, metavar="FOLDER", help="data set of the recipe")
    add("--recipe", default="multi30k", choices=list(RECIPES), help="recipe to train (%(default)s)")
    add("--seconds", type=float, help="training time of recipe (default: 600 for multi30k, 240 for sst2)")
    add(
        "--shares", type=float, nargs="*", default=[0.5], help="shorter runs of ours: shares of --seconds (%(default)s)"
    )
    add("--races", type=int, default=1, help="repetitions of recipe; our seed differs (%(default)s)")
    add("--peer-batch-size", type=int, default=32, help="batch size of the peer in recipe (%(default)s)")
    add("--beams", type=int, nargs="+", default=[4, 1], help="(%(default)s)")
    add("--max-length", type=int, default=64, help="maximum tokens of a translation (%(default)s)")
    return found


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments as settings to save; of folders and files only the name, not the path."""
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
    """Returns the beginning of the results' file name. Different tasks of a day must not overwrite each other."""
    if task == "recipe":
        return f"recipe_{arguments.recipe}"
    if task != "step":
        return task
    size = ["{}x{}".format(*arguments.size)] if arguments.size else []
    groups = [f"{arguments.groups}_groups"] if arguments.groups > 1 else []
    return "_".join(["step", *size, *groups, *["apart"] * arguments.apart])


if __name__ == "__main__":
    main()
