"""`vanilla translate`, `classify` and `generate`: process texts from arguments, a file or standard input."""

import argparse
import importlib
import itertools
import sys
from collections.abc import Callable, Iterator

from vanilla_recipes.cli.faults import UsageError

Fields = tuple[str, ...]
"""The fields of an output line. Tabs separate the fields."""

Answer = Callable[[Iterator[str], bool], Iterator[Fields]]
"""A function of texts and of whether to show a progress bar. It yields the fields of the output line of each text."""


NAMES = {
    "translate": ("sentence", "translate"),
    "classify": ("text", "classify"),
    "generate": ("prompt", "continue from"),
}
"""For each command, the noun for an input and the verb for the task; both are used in messages."""

MODULES = {"translate": "translator", "classify": "classifier", "generate": "generator"}


def run(arguments: argparse.Namespace) -> int:
    """Processes texts of the command line, of a file or of standard input, and writes one answer per text.

    Raises:
        UsageError: If options contradict each other, or no text is given.
        UserError: If the model cannot be used, or a line is not valid.
    """
    check_sources(arguments)
    if arguments.command == "generate":
        check_search(arguments)
    from vanilla_recipes.cli.lines import check_target, output, read_lines, write_line

    if arguments.target is not None:
        check_target(arguments.target, arguments.overwrite)
    from_words = arguments.texts not in ([], ["-"])
    texts = iter(arguments.texts) if from_words else read_lines(arguments.source)
    texts = peeked(texts)  # reports an unreadable input before the model is loaded
    answer = answerer(arguments)
    is_raw = arguments.command == "generate" and from_words
    with output(arguments.target) as file:
        for number, fields in enumerate(answer(texts, not from_words and watches(arguments.target))):
            if is_raw:
                file.write("\n" * bool(number) + fields[0] + "\n")
            else:
                write_line(file, *fields)
            file.flush()
    return 0


def answerer(arguments: argparse.Namespace) -> Answer:
    """Loads the model of the command, and returns the function that answers texts."""
    return importlib.import_module(f"vanilla_recipes.cli.{MODULES[arguments.command]}").load(arguments)


def check_sources(arguments: argparse.Namespace) -> None:
    """Checks that exactly one source of texts is given.

    Raises:
        UsageError: If no source or several sources are given, or if --overwrite is given without --to.
    """
    name, deed = NAMES[arguments.command]
    given = bool(arguments.texts) + (arguments.source is not None)
    if given > 1:
        raise UsageError(f"{name}s on the command line and --from exclude each other; give one of them")
    if "-" in arguments.texts and len(arguments.texts) > 1:
        raise UsageError(f"`-` (standard input) must be the only argument; leave the other {name}s out")
    if given == 0 and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError(f"nothing to {deed}: give a {name}, --from FILE, or lines on standard input")
    if arguments.overwrite and arguments.target is None:
        raise UsageError("--overwrite is for --to FILE, which is not given")


def check_search(arguments: argparse.Namespace) -> None:
    """Checks that the search can return --num-return-sequences texts for a prompt.

    Raises:
        UsageError: If more texts than beams are requested without sampling.
    """
    count, beams = arguments.num_return_sequences, arguments.num_beams or 1
    sampled = any(value is not None for value in (arguments.temperature, arguments.top_p, arguments.top_k))
    if not sampled and count > beams:
        raise UsageError(
            f"--num-return-sequences {count}: the search returns at most --num-beams={beams} texts; raise --num-beams, "
            "or sample, for example with --temperature 0.8"
        )


def watches(target: str | None) -> bool:
    """Returns whether to show a progress bar: standard error is a terminal, and the results go somewhere else."""
    return sys.stderr is not None and sys.stderr.isatty() and (target is not None or not sys.stdout.isatty())


def peeked(lines: Iterator[str]) -> Iterator[str]:
    """Returns an iterator over the same lines, after reading the first line."""
    return itertools.chain(list(itertools.islice(lines, 1)), lines)
