"""Sentences in, sentences out: one a line, in UTF-8, and output files that are complete or absent."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from vanilla_recipes.cli.faults import UsageError
from vanilla_recipes.errors import UserError, one_line


def read_lines(source: str | None) -> Iterator[str]:
    """The lines of a file, or of standard input if there is no `source`, without their ends.

    Only `\\n` and `\\r\\n` end a line, as for `wc` and `paste`: other separators of Unicode may stand in a sentence.

    Raises:
        UserError: a line is not UTF-8; the message names it.
    """
    if source is not None:
        with Path(source).open("rb") as file:
            yield from decoded(file, source)
    elif sys.stdin is not None:
        yield from decoded(sys.stdin.buffer, "standard input")


def decoded(file: BinaryIO, name: str) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name}:{number}: byte {error.start + 1} of the line is not UTF-8 ({error.reason}); "
                "convert the file first, for instance with iconv"
            ) from error
        yield text.removesuffix("\n").removesuffix("\r")


def write_line(file: TextIO, *fields: str) -> None:
    """One line for one text, with tabs between its fields: a line break inside of one becomes a space."""
    file.write("\t".join(map(one_line, fields)) + "\n")


def check_target(target: str, overwrite: bool) -> None:
    """Refuse an output file before the work is done rather than after it.

    Raises:
        UsageError: the file exists already, is a folder or a device, or its folder does not exist.
    """
    path = Path(target)
    if path.exists() and not path.is_file():
        raise UsageError(f"--to {target}: it is no regular file; leave --to out and redirect the output with `>`")
    if path.exists() and not overwrite:
        raise UsageError(f"--to {target}: the file exists; name another one or add --overwrite")
    if not path.resolve().parent.is_dir():
        raise UsageError(f"--to {target}: there is no folder {path.resolve().parent}; make it first")


@contextmanager
def output(target: str | None) -> Iterator[TextIO]:
    """Where the results go: standard output, or a file that takes its name only when the block ends well."""
    if target is not None:
        with atomic_file(Path(target).resolve()) as file:
            yield file
        return
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    yield sys.stdout


@contextmanager
def atomic_file(path: Path) -> Iterator[TextIO]:
    """Write aside in the same folder, then rename; after a fault the old file, or none, is there."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("x", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, aside)
        aside.replace(path)
    except OSError as error:
        if error.filename not in (None, str(aside)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # the user knows nothing of the file aside
    finally:
        aside.unlink(missing_ok=True)
