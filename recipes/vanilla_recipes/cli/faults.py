"""Turns exceptions into one line for the user. Imports the standard library only, unless an exception occurs."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from vanilla_recipes.errors import ContactError, UserError, one_line

INTERRUPTED = 130  # exit status after Ctrl-C, as in shells: 128 + SIGINT
OUTPUT_CLOSED = 141  # exit status after a closed pipe, as in shells: 128 + SIGPIPE
CONTACT_LOST = 69  # exit status if another process of the run ended or hung: EX_UNAVAILABLE of sysexits.h

WORKER = "VANILLA_WORKER"
"""The environment variable of a process that `vanilla train --num_processes` started."""


class UsageError(Exception):
    """An error in the command line. The exit status is 2, as with argparse."""


def guarded(action: Callable[[], int], debug: bool = False) -> int:
    """Runs `action` and returns its exit status; an expected exception becomes one line on standard error.

    Any other exception is raised again, with its traceback. If `debug` is true, every exception is raised again.
    """
    try:
        status = action()
        flush_output()
    except (Exception, KeyboardInterrupt) as error:
        abandon_output()
        status_and_line = None if debug else explanation(error)
        if status_and_line is None:
            raise
        status, line = status_and_line
        if tells(status):
            print(f"vanilla: {line}", file=sys.stderr)
    return status


def tells(status: int) -> bool:
    """Returns whether this process prints the error; if several processes train together, only one prints it."""
    if status == CONTACT_LOST and WORKER in os.environ:
        return False  # `vanilla train --num_processes` prints which process ended, and with which exit status
    processes = sys.modules.get("vanilla_recipes.processes.processes")
    if processes is not None:
        return processes.speaks()
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0"


def explanation(error: BaseException) -> tuple[int, str] | None:
    """Returns the exit status and the line for an expected exception; None for a bug in the program."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    if isinstance(error, BrokenPipeError):
        return OUTPUT_CLOSED, "the output was closed before everything was written"
    if isinstance(error, UsageError):
        return 2, str(error)
    if isinstance(error, OSError):
        return 1, os_error_line(error)
    contact_error, user_error, *library_errors = expected_classes()
    if isinstance(error, contact_error):
        return CONTACT_LOST, str(error)
    if isinstance(error, user_error):
        return 1, str(error)
    if isinstance(error, tuple(library_errors)):
        return 1, one_line(str(underlying(error)))
    return None


def os_error_line(error: OSError) -> str:
    """Returns the file names and the system's message, or only the text of an OSError that has no such fields."""
    if error.strerror is None:
        return one_line(str(error))
    names = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    return f"{names or 'writing or reading failed'}: {error.strerror}"


def underlying(error: BaseException) -> BaseException:
    """Returns the error that a validator of a model configuration raised, without the wrapper that names it."""
    from huggingface_hub.errors import StrictDataclassClassValidationError

    return error.__cause__ or error if isinstance(error, StrictDataclassClassValidationError) else error


def expected_classes() -> tuple[type[BaseException], ...]:
    """Returns the exceptions that mean a user's mistake or a damaged file. Importing their modules is slow."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    return ContactError, UserError, StrictDataclassError, SafetensorError


def flush_output() -> None:
    """Flushes standard output, so that a full disk or a closed pipe raises an exception here and not at exit."""
    if sys.stdout is not None:
        sys.stdout.flush()


def abandon_output() -> None:
    """Discards buffered output that cannot be written. Otherwise Python would print a second error at exit."""
    try:
        flush_output()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
