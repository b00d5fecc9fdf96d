"""`vanilla translate`, `classify` and `generate`: from lines or words to lines, with a model of the fitting kind."""

import argparse
import importlib
import itertools
import sys
from collections.abc import Callable, Iterator

from vanilla_recipes.cli.faults import UsageError

Fields = tuple[str, ...]
"""What stands in a line, with tabs between."""

Answer = Callable[[Iterator[str], bool], Iterator[Fields]]
"""From texts to the lines that answer them; the second argument is whether a progress bar is shown."""


NAMES = {"translate": ("sentence", "translate"), "classify": ("text", "classify"), "generate": ("prompt", "go on from")}
"""What each command takes, and does with it."""

MODULES = {"translate": "translator", "classify": "classifier", "generate": "generator"}


def run(arguments: argparse.Namespace) -> int:
    """Answer the texts of the command line, of a file or of standard input.

    Raises:
        UsageError: the options contradict each other, or there is nothing to answer.
        UserError: the model or a line is at fault.
    """
    check_sources(arguments)
    if arguments.command == "generate":
        check_search(arguments)
    from vanilla_recipes.cli.lines import check_target, output, read_lines, write_line

    if arguments.target is not None:
        check_target(arguments.target, arguments.overwrite)
    from_words = arguments.texts not in ([], ["-"])
    texts = iter(arguments.texts) if from_words else read_lines(arguments.source)
    texts = peeked(texts)  # a source that cannot be read is told before the model is loaded
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
    """What answers, with its model loaded."""
    return importlib.import_module(f"vanilla_recipes.cli.{MODULES[arguments.command]}").load(arguments)


def check_sources(arguments: argparse.Namespace) -> None:
    """Exactly one source of texts."""
    name, deed = NAMES[arguments.command]
    given = bool(arguments.texts) + (arguments.source is not None)
    if given > 1:
        raise UsageError(f"{name}s on the command line and --from exclude each other; give one of them")
    if "-" in arguments.texts and len(arguments.texts) > 1:
        raise UsageError(f"`-` (standard input) stands alone; leave the other {name}s out")
    if given == 0 and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError(f"nothing to {deed}: give a {name}, --from FILE, or lines on standard input")
    if arguments.overwrite and arguments.target is None:
        raise UsageError("--overwrite is for --to FILE, which is not given")


def check_search(arguments: argparse.Namespace) -> None:
    """Several texts for one prompt need a search that comes to several."""
    count, beams = arguments.num_return_sequences, arguments.num_beams or 1
    sampled = any(value is not None for value in (arguments.temperature, arguments.top_p, arguments.top_k))
    if not sampled and count > beams:
        raise UsageError(
            f"--num-return-sequences {count}: the search comes to no more texts than --num-beams, which is {beams}; "
            "raise it, or sample, as with --temperature 0.8"
        )


def watches(target: str | None) -> bool:
    """Whether somebody sees standard error, and the results do not appear in the same place."""
    return sys.stderr is not None and sys.stderr.isatty() and (target is not None or not sys.stdout.isatty())


def peeked(lines: Iterator[str]) -> Iterator[str]:
    """The same lines, with the first one read at once."""
    return itertools.chain(list(itertools.islice(lines, 1)), lines)
