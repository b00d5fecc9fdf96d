"""From an exception to the one line that a user reads. Standard library only, until something has gone wrong."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from vanilla_recipes.errors import ContactError, UserError, one_line

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
OUTPUT_CLOSED = 141  # 128 + SIGPIPE
CONTACT_LOST = 69  # EX_UNAVAILABLE of sysexits.h: another process of the run ended or hung

WORKER = "VANILLA_WORKER"
"""The environment variable of a process that `vanilla train --num_processes` started."""


class UsageError(Exception):
    """The command line is at fault: the exit status is 2, as argparse has it."""


def guarded(action: Callable[[], int], debug: bool = False) -> int:
    """Run `action` and return its exit status; what goes wrong is told in one line on standard error.

    An exception that is no mistake of the user's keeps its traceback, and with `debug` every one does.
    """
    try:
        status = action()
        flush_output()
    except (Exception, KeyboardInterrupt) as error:
        abandon_output()
        told = None if debug else explanation(error)
        if told is None:
            raise
        status, line = told
        if tells(status):
            print(f"vanilla: {line}", file=sys.stderr)
    return status


def tells(status: int) -> bool:
    """Whether this process is the one to tell of the fault, where several train together."""
    if status == CONTACT_LOST and WORKER in os.environ:
        return False  # `vanilla train --num_processes` sees which of them ended, and how
    processes = sys.modules.get("vanilla_recipes.processes.processes")
    if processes is not None:
        return processes.speaks()
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0"


def explanation(error: BaseException) -> tuple[int, str] | None:
    """The exit status and the line for an expected exception; None for one that shows a fault in the program."""
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
    """What the system said and of which file. Libraries also raise OSError with nothing but a text."""
    if error.strerror is None:
        return one_line(str(error))
    names = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    return f"{names or 'writing or reading failed'}: {error.strerror}"


def underlying(error: BaseException) -> BaseException:
    """What a validator of a model configuration said, without the name of the validator around it."""
    from huggingface_hub.errors import StrictDataclassClassValidationError

    return error.__cause__ or error if isinstance(error, StrictDataclassClassValidationError) else error


def expected_classes() -> tuple[type[BaseException], ...]:
    """Exceptions that mean a user's mistake or a damaged file. Their modules are slow to import, hence only now."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    return ContactError, UserError, StrictDataclassError, SafetensorError


def flush_output() -> None:
    """Write out what is held back, while a full disk or a closed pipe can still be told; at exit it is too late."""
    if sys.stdout is not None:
        sys.stdout.flush()


def abandon_output() -> None:
    """Drop what standard output still holds if it cannot be written, or Python would complain once more at exit."""
    try:
        flush_output()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
