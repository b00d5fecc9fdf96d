"""Reads the records of a local file, with the file and line of each record for error messages.

JSON and CSV are read with the standard library. `datasets` reports a broken row without its file or line, fills columns
that a row lacks with null, and turns the CSV text "NA" into null.
"""

import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from vanilla_recipes.errors import UserError

DELIMITERS = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a bar"}
"""Delimiters of tables, with their names for messages. A .csv file uses the comma, and a .tsv file uses the tab. The
semicolon and the bar are recognized only to name them in an error message."""

KINDS = {bool: "truth value", int: "number", float: "number", str: "text", list: "list", dict: "object"}


class Record(NamedTuple):
    """One row as read from the data. Its values are checked later.

    `location` is `train.jsonl:17` for formats with one row a line (line number, from 1), and `train.parquet row 16` for
    Parquet and JSON arrays (row index, from 0).
    """

    location: str
    fields: dict[str, Any]


def read_records(path: Path) -> Iterator[Record]:
    """Yields the records of a .parquet file, or of a .jsonl, .json, .csv or .tsv file, which may be compressed (.gz).

    Raises:
        UserError: If the file cannot be read, its format does not match its name, it is not UTF-8, or it has a broken
            row. The message names the file and, in formats with lines, the line number.
    """
    return READERS[data_suffix(path)](path)


def read_text(path: Path) -> str:
    """Returns the text of a file; line ends are not converted.

    Raises:
        UserError: If the file cannot be read or is not UTF-8.
    """
    return "".join(line for _, line in _lines(path))


def data_suffix(path: Path) -> str:
    """Returns the key of `READERS` for this file name, or "" if no reader suits it."""
    name = path.name.lower()
    if name.endswith(".gz"):
        name = name.removesuffix(".gz")
        if name.endswith(".parquet"):
            return ""
    return next((suffix for suffix in READERS if name.endswith(suffix)), "")


def fault_text(error: object) -> str:
    """Returns the text of an exception on one line, shortened to 300 characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."


def _read_json(path: Path) -> Iterator[Record]:
    """Yields the records of a JSON Lines file, or of a file with one array of objects."""
    lines = _lines(path)
    start = next(((number, line) for number, line in lines if not line.isspace()), None)
    if start is None:
        return
    if start[1].lstrip().startswith("["):
        text = start[1] + "".join(line for _, line in lines)
        located = ((f"{path} row {index}", row) for index, row in enumerate(_parse(path, text, first_line=start[0])))
    else:
        located = (
            (f"{path}:{number}", _parse(path, line.rstrip("\r\n"), first_line=number))
            for number, line in itertools.chain([start], lines)
            if not line.isspace()
        )
    for location, row in located:
        yield Record(location, _as_object(location, row))


def _parse(path: Path, text: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        location = f"{path}:{first_line + error.lineno - 1}"
        raise UserError(
            f"{location}: broken JSON at character {error.colno}: {error.msg}. Each line must hold one complete object,"
            " or the file one array of objects"
        ) from error
    # A number with thousands of digits raises a ValueError. Thousands of nested brackets raise a RecursionError.
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}:{first_line}: JSON that cannot be read: {fault_text(error)}") from error


def _as_object(location: str, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{location}: {shown(row)} where an object with named fields belongs")
    return row


def shown(value: object) -> str:
    """Returns a value as JSON with its type, for messages: `the number 42`, `null`. JSON over 60 characters is cut."""
    if value is None:
        return "null"
    kind = KINDS.get(type(value), type(value).__name__)
    text = json.dumps(value, ensure_ascii=not is_unicode(str(value)), default=str)
    return f"the {kind} {text if len(text) <= 60 else text[:57] + '...'}"


def is_unicode(text: str) -> bool:
    r"""Returns whether a text can be encoded: False for a lone surrogate such as \ud800, which JSON can contain."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_csv(path: Path, delimiter: str = ",") -> Iterator[Record]:
    """Yields comma- or tab-separated rows below a header, quoted as in RFC 4180; every value stays text."""
    csv.field_size_limit(2**31 - 1)  # characters; long texts exceed the default of 131,072
    reader = csv.reader((line for _, line in _lines(path)), delimiter=delimiter, strict=True)
    header: list[str] = []
    for location, row in _located_rows(path, reader):
        if not row:
            continue
        if not header:
            header = _checked_header(location, row, delimiter)
            continue
        if len(row) != len(header):
            raise UserError(
                f"{location}: {len(row)} values where the header has {len(header)} ({', '.join(header)}). A value that"
                " contains the delimiter or a line break must be in double quotes"
            )
        yield Record(location, dict(zip(header, row, strict=True)))


def _read_tsv(path: Path) -> Iterator[Record]:
    return _read_csv(path, delimiter="\t")


def _located_rows(path: Path, reader: Any) -> Iterator[tuple[str, list[str]]]:
    """Yields each row with the number of its first line. A row may span lines: a quoted value may contain line ends."""
    while True:
        location = f"{path}:{reader.line_num + 1}"
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{location}: broken CSV: {_csv_fault(error)}. A double quote inside a quoted value is written twice"
            ) from error
        yield location, row


def _csv_fault(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "a quote that opens in this row is never closed"
    return fault_text(error)


def _checked_header(location: str, names: list[str], delimiter: str) -> list[str]:
    other = next((mark for mark in DELIMITERS if mark != delimiter and len(names) == 1 and mark in names[0]), None)
    if other is not None:
        raise UserError(
            f"{location}: the header is a single name, {names[0]!r}: the file seems to have {DELIMITERS[other]} between"
            f" its values, but {DELIMITERS[delimiter]} is read; write it as .csv with commas or as .tsv with tabs"
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"{location}: the header repeats {', '.join(map(repr, repeated))}; column names must differ")
    return names


def _read_parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            index = 0
            for batch in file.iter_batches():
                for row in _batch_rows(path, batch, index):
                    yield Record(f"{path} row {index}", row)
                    index += 1
    except (pyarrow.ArrowException, OSError) as error:
        fault = fault_text(error).rstrip(".")
        raise UserError(f"{path}: cannot be read as Parquet: {fault}; copy or write it again") from error


def _batch_rows(path: Path, batch: Any, first: int) -> Iterator[dict[str, Any]]:
    """Yields the rows of a batch, whose first row has the index `first` in the file."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            raise UserError(
                f"{path} row {first}: not UTF-8: byte 0x{error.object[error.start]:02x} at byte {error.start + 1} of a"
                " text; write the file again with text in UTF-8"
            ) from error
        for index in range(batch.num_rows):  # read row by row to find the broken row
            yield from _batch_rows(path, batch.slice(index, 1), first + index)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields lines with their numbers (from 1) and line ends; a byte-order mark is dropped.

    Only a line feed ends a line. `str.splitlines` would also split at U+2028, which JSON allows inside a text.
    """
    try:
        with _open(path) as stream:
            for number, line in enumerate(stream, 1):
                yield number, _decode(path, number, line)
    except gzip.BadGzipFile as error:
        raise UserError(f"{path}: not a gzip file, although its name ends in .gz; rename or compress it") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}: the gzip file is cut short or damaged: {fault_text(error)}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or fault_text(error)}") from error


def _open(path: Path) -> BinaryIO | io.BufferedIOBase:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


def _decode(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}:{number}: not UTF-8: byte 0x{error.object[error.start]:02x} at byte {error.start + 1} of the line;"
            " save the file as UTF-8"
        ) from error


READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": _read_json,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}
