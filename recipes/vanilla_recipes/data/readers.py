"""Records of a local file, each with the place where it stands, so that a fault can be found.

JSON and CSV are read with the standard library: `datasets` reports a broken row without its file or line, turns a row
that lacks a column into nulls, and the CSV text "NA" into null.
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
"""What tables have between their values: a .csv file the first, a .tsv file the second."""

KINDS = {bool: "truth value", int: "number", float: "number", str: "text", list: "list", dict: "object"}


class Record(NamedTuple):
    """One row, not checked yet.

    `location` reads `train.jsonl:17` (line 17, counted from 1) for formats of lines and `train.parquet row 16`
    (counted from 0, as libraries index it) for the others.
    """

    location: str
    fields: dict[str, Any]


def read_records(path: Path) -> Iterator[Record]:
    """The records of a .jsonl, .json, .csv, .tsv (each also .gz) or .parquet file, one at a time.

    Raises:
        UserError: the file cannot be read, is not what its name says, is not UTF-8 or holds a broken row. The message
            names the file and, as far as there is one, the line.
    """
    return READERS[data_suffix(path)](path)


def read_text(path: Path) -> str:
    """The whole of a text file, its ends of lines as they are.

    Raises:
        UserError: the file cannot be read or is not UTF-8.
    """
    return "".join(line for _, line in _lines(path))


def data_suffix(path: Path) -> str:
    """The key of the reader for this file name, "" when there is none."""
    name = path.name.lower()
    if name.endswith(".gz"):
        name = name.removesuffix(".gz")
        if name.endswith(".parquet"):
            return ""
    return next((suffix for suffix in READERS if name.endswith(suffix)), "")


def fault_text(error: object) -> str:
    """The text of an exception on one line, shortened."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."


def _read_json(path: Path) -> Iterator[Record]:
    """JSON Lines, or one array of objects."""
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
        place = f"{path}:{first_line + error.lineno - 1}"
        raise UserError(
            f"{place}: broken JSON at character {error.colno}: {error.msg}. Each line must hold one whole object,"
            " or the file one array of objects"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise UserError(f"{path}:{first_line}: JSON that cannot be read: {fault_text(error)}") from error


def _as_object(location: str, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{location}: {shown(row)} where an object with named fields belongs")
    return row


def shown(value: object) -> str:
    """A value as JSON would write it, with its kind, shortened: `the number 42`, `null`."""
    if value is None:
        return "null"
    kind = KINDS.get(type(value), type(value).__name__)
    text = json.dumps(value, ensure_ascii=not is_unicode(str(value)), default=str)
    return f"the {kind} {text if len(text) <= 60 else text[:57] + '...'}"


def is_unicode(text: str) -> bool:
    r"""False for a text with a lone \ud800, which JSON can spell and no encoding can write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_csv(path: Path, delimiter: str = ",") -> Iterator[Record]:
    """Comma- or tab-separated rows under a header, quoted as in RFC 4180; every value stays text."""
    csv.field_size_limit(2**31 - 1)  # the default refuses a text of 128 KiB
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
                " contains the delimiter or a line break must stand in double quotes"
            )
        yield Record(location, dict(zip(header, row, strict=True)))


def _read_tsv(path: Path) -> Iterator[Record]:
    return _read_csv(path, delimiter="\t")


def _located_rows(path: Path, reader: Any) -> Iterator[tuple[str, list[str]]]:
    """Rows with the line on which each begins: a quoted value may run over several."""
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
    """The rows of a batch; its first is row `first` of the file."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            raise UserError(
                f"{path} row {first}: not UTF-8: byte 0x{error.object[error.start]:02x} at byte {error.start + 1} of a"
                " text; write the file again with text in UTF-8"
            ) from error
        for index in range(batch.num_rows):  # one by one, to find the row
            yield from _batch_rows(path, batch.slice(index, 1), first + index)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines with their ends; a byte-order mark is dropped.

    Lines end at a line feed alone: `str.splitlines` would also cut at U+2028, which JSON allows in a text.
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
