"""Reads and writes lines of UTF-8 text. An output file is created only when it is complete."""

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
    """Yields the lines of a file, or of standard input if `source` is None, without line ends.

    Only `\\n` and `\\r\\n` end a line, as for `wc` and `paste`: a sentence may contain other Unicode separators.

    Raises:
        UserError: If a line is not UTF-8; the message has the line number.
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
    """Writes one line with tabs between the fields. Line breaks inside a field become spaces."""
    file.write("\t".join(map(one_line, fields)) + "\n")


def check_target(target: str, overwrite: bool) -> None:
    """Checks the output file before the work is done.

    Raises:
        UsageError: If the file exists and `overwrite` is false. If it is a folder or a device. If its folder does not
            exist.
    """
    path = Path(target)
    if path.exists() and not path.is_file():
        raise UsageError(f"--to {target}: is no regular file; leave --to out and redirect the output with `>`")
    if path.exists() and not overwrite:
        raise UsageError(f"--to {target}: the file exists; name another one or add --overwrite")
    if not path.resolve().parent.is_dir():
        raise UsageError(f"--to {target}: the folder {path.resolve().parent} does not exist; create it first")


@contextmanager
def output(target: str | None) -> Iterator[TextIO]:
    """Opens the output: standard output, or a file that is created only when the block ends without an error."""
    if target is not None:
        with atomic_file(Path(target).resolve()) as file:
            yield file
        return
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    yield sys.stdout


@contextmanager
def atomic_file(path: Path) -> Iterator[TextIO]:
    """Writes a temporary file in the same folder, then renames it. After an error an old file is unchanged."""
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
        # The message names the target, not the temporary file.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        aside.unlink(missing_ok=True)
