"""What each subcommand does. Imported when one runs; what is slow to import waits until it is needed."""

import argparse
import importlib
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from vanilla_cli.faults import UsageError
from vanilla_cli.packaged import description, packaged_configs, recipe_of
from vanilla_cli.workers import end_with_launcher, must_start, run_workers

WINDOW = 1024  # lines read before their translations are written: long files neither fill the memory nor stay silent


def configs(arguments: argparse.Namespace) -> int:
    """List the packaged configurations, each with what its file says about it."""
    found = packaged_configs()
    width = max((len(name) for name in found), default=0)
    for name, file in found.items():
        print(f"{name:{width}}  {description(file)}".rstrip())
    return 0


def train(arguments: argparse.Namespace) -> int:
    """Hand the configuration to its recipe, which knows the rest; first start more processes if they are asked for."""
    name = recipe_of(arguments.config)
    if must_start(arguments.num_processes):
        options = ["--debug"] if arguments.debug else []
        return run_workers(["train", *options, arguments.config, *arguments.overrides], arguments.num_processes)
    end_with_launcher()
    recipe = importlib.import_module(f"vanilla_transformers.recipes.{name}")
    return recipe.main([arguments.config, *arguments.overrides])


def translate(arguments: argparse.Namespace) -> int:
    """Translate the sentences of the command line, of a file or of standard input."""
    check_sources(arguments)
    from vanilla_cli.lines import check_target, output, read_lines

    if arguments.target is not None:
        check_target(arguments.target, arguments.overwrite)
    from_words = arguments.sentences not in ([], ["-"])
    lines = iter(arguments.sentences) if from_words else read_lines(arguments.source)
    lines = peeked(lines)  # a source that cannot be read is told before the model is loaded

    from vanilla_cli.translator import load_translator
    from vanilla_transformers.recipes.scoring.decoding import translate as translate_sentences

    model, tokenizer = load_translator(arguments.model, arguments.device)
    options = {"num_beams": arguments.num_beams, "batch_tokens": arguments.batch_tokens}

    def answer(sentences: list[str]) -> list[str]:
        return translate_sentences(model, tokenizer, sentences, **options)

    with output(arguments.target) as file:
        translate_lines(answer, lines, file)
    return 0


def check_sources(arguments: argparse.Namespace) -> None:
    """Exactly one source of sentences."""
    given = bool(arguments.sentences) + (arguments.source is not None)
    if given > 1:
        raise UsageError("sentences on the command line and --from exclude each other; give one of them")
    if "-" in arguments.sentences and len(arguments.sentences) > 1:
        raise UsageError("`-` (standard input) stands alone; leave the other sentences out")
    if given == 0 and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("nothing to translate: give a sentence, --from FILE, or lines on standard input")
    if arguments.overwrite and arguments.target is None:
        raise UsageError("--overwrite is for --to FILE, which is not given")


def peeked(lines: Iterator[str]) -> Iterator[str]:
    """The same lines, with the first one read at once."""
    return itertools.chain(list(itertools.islice(lines, 1)), lines)


def translate_lines(answer: Callable[[list[str]], list[str]], lines: Iterable[str], file: TextIO) -> None:
    """Write one line for each line, so that line N answers line N."""
    from vanilla_cli.lines import write_line

    remaining = iter(lines)
    while window := list(itertools.islice(remaining, WINDOW)):
        for text in answer(window):
            write_line(file, text)
        file.flush()


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "configs": configs,
    "train": train,
    "translate": translate,
}
