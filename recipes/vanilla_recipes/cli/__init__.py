"""The `vanilla` command. Only the standard library is imported until a subcommand runs."""

import importlib
import sys
from collections.abc import Sequence

from vanilla_recipes.cli.faults import UsageError, guarded, tells
from vanilla_recipes.cli.parser import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line.

    Args:
        argv: the command-line arguments after the program name; None for the arguments of this process.

    Returns:
        The exit status. 0: success; 1: a file, a configuration or a model is wrong; 2: the command line is wrong;
        69: another process of the run ended or hung; 130: interrupted; 141: the pipe of standard output was closed.
    """
    try:
        arguments = parse(argv)
    except UsageError as error:
        if tells(2):
            print(f"vanilla: {error}", file=sys.stderr)
        return 2

    def run() -> int:
        return importlib.import_module("vanilla_recipes.cli.commands").COMMANDS[arguments.command](arguments)

    return guarded(run, arguments.debug)
