"""Reads the rows of a task from a built-in corpus, local files or the Hub, and checks them before training.

`datasets` takes seconds to import, so it is imported only when rows of the Hub are read.
"""

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from vanilla_recipes.data.readers import Record, fault_text, is_unicode, read_records, shown
from vanilla_recipes.data.splits import note_same_files, note_same_source, split_files
from vanilla_recipes.errors import UserError

logger = logging.getLogger(__name__)

Split = Literal["train", "validation", "test"]

TOY = "toy"
TOY_ROWS = {"train": 20_000, "validation": 500, "test": 500}


@dataclass(frozen=True)
class DataConfig:
    """The source of the rows.

    Args:
        name: "toy" for the built-in corpus, or the id of a dataset on the Hub.
        config_name: the configuration of the Hub dataset, if it has several.
        revision: a branch, tag or commit of the Hub dataset; null for its newest commit.
        path: a local folder with one file per split, or the file of the training split; overrides `name`.
        train_split: name of the training split on the Hub, or of its file in `path` (see `splits.split_files`).
        validation_split: name of the validation split, or of its file.
        test_split: name of the test split, or of its file; null if the data has no test split.
        num_train_rows: number of training rows of the toy corpus (default: 20,000), or the maximum number to read of
            other data (default: all).
        num_validation_rows: the same for validation rows (toy corpus: 500).
        num_test_rows: the same for test rows (toy corpus: 500).
        skip_bad_rows: leave out rows in which a text is empty or null, and log their number, instead of stopping.
    """

    name: str = TOY
    config_name: str | None = None
    revision: str | None = None
    path: str | None = None
    train_split: str = "train"
    validation_split: str = "validation"
    test_split: str | None = "test"
    num_train_rows: int | None = None
    num_validation_rows: int | None = None
    num_test_rows: int | None = None
    skip_bad_rows: bool = False

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields the fields whose value breaks a rule, with the rule."""
        for name in ("num_train_rows", "num_validation_rows", "num_test_rows"):
            num_rows = getattr(self, name)
            if num_rows is not None and num_rows < 1:
                yield name, "must be 1 or greater, or null for all rows"

    def split_name(self, split: str) -> str | None:
        """Returns the user's name of this split; None if the data has no such split."""
        return getattr(self, f"{split}_split")

    def num_rows(self, split: str) -> int | None:
        """Returns the maximum number of rows to read of this split; None for all."""
        return getattr(self, f"num_{split}_rows")


@dataclass(frozen=True)
class StreamedDataConfig(DataConfig):
    """The source of the rows, with the option to stream training rows that do not fit into memory.

    Args:
        streaming: read the training rows in segments while the model trains. An epoch is one segment. A tokenizer is
            trained on the first segment only. A resumed run checks only that the first segment is unchanged.
        segment_rows: number of rows of a segment. Rows are shuffled within their segment.
    """

    streaming: bool = False
    segment_rows: int = 10_000

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.segment_rows < 1:
            yield "segment_rows", "must be 1 or greater"

    @property
    def stops_at_bad_row(self) -> bool:
        """Whether the first row without text stops reading, instead of all such rows being reported at the end."""
        return self.streaming and not self.skip_bad_rows

    @property
    def rows_at_once(self) -> int | None:
        """Maximum number of training rows in memory at a time; None for all."""
        return self.segment_rows if self.streaming else None


def records(config: DataConfig, task: str, split: Split, seed: int = 0) -> Iterator[Record]:
    """Yields the rows of one split with the location of each row, before their values are checked.

    Args:
        config: the source of the rows.
        task: name of the built-in corpus: "translation", "sentiment" or "stories".
        split: the split to read.
        seed: seed of the built-in corpus.

    Raises:
        UserError: If the split is missing, unreadable or empty.
    """
    name = config.split_name(split)
    if name is None:
        raise UserError(f"data.{split}_split is null: there is no {split} split to read")
    found: Iterator[Record]
    if config.path is not None:
        files = split_files(config.path, split, name)
        note_same_files(split, files, config.path, config.train_split)
        source, found = ", ".join(map(str, files)), chain.from_iterable(map(read_records, files))
    elif config.name == TOY:
        source, found = TOY, _toy_records(task, split, config.num_rows(split) or TOY_ROWS[split], seed)
    else:
        streaming = isinstance(config, StreamedDataConfig) and config.streaming and split == "train"
        source, found = config.name, _hub_records(config, name, streaming)
        note_same_source(split, f"{source} {name}", f"{source} {config.train_split}")
    first = next(found, None)
    if first is None:
        raise UserError(f"{source}: the {split} split is empty: it has no row to read")
    yield from chain([first], found)


def _toy_records(task: str, split: str, num_rows: int, seed: int) -> Iterator[Record]:
    from vanilla_recipes.data.toy import toy_rows

    for index, row in enumerate(toy_rows(task, split, num_rows, seed)):
        yield Record(f"toy {split} row {index}", row)


def _hub_records(config: DataConfig, split: str, streaming: bool) -> Iterator[Record]:
    import datasets

    from vanilla_recipes.hub import hub_or_cache, refusal

    name = config.name
    try:
        with nullcontext() if Path(name).exists() else hub_or_cache() as fault:
            rows = datasets.load_dataset(
                name, config.config_name, split=split, revision=config.revision, streaming=streaming
            )
    except Exception as error:  # `load_dataset` raises exceptions of a dozen classes
        refused = refusal(error)
        if refused:
            raise UserError(f"data.name={name}: {refused}; data.path=FOLDER reads local files") from error
        cause = fault_text(error) if fault is None else f"it cannot be reached ({fault}), and its cache lacks this data"
        raise UserError(
            f"data.name={name}: the split {split!r} could not be loaded from the Hub: {cause}"
            " (data.train_split=, data.validation_split= and data.test_split= name its splits; data.path=FOLDER reads"
            " local files)"
        ) from error
    index = 0
    try:
        for index, row in enumerate(rows):
            yield Record(f"{name} {split} row {index}", row)
    except (OSError, datasets.exceptions.DatasetsError) as error:  # streamed rows are downloaded while they are read
        raise UserError(
            f"data.name={name}: the split {split!r} could not be read after row {index}: {fault_text(error)}; "
            f"resume=if_available continues the run"
        ) from error


def value_of(location: str, fields: dict[str, Any], name: str, key: str) -> Any:
    """Returns the value of a field.

    Args:
        location: location of the row, for messages.
        fields: the row.
        name: name of the field.
        key: the setting that names the field, for messages.

    Raises:
        UserError: If the row has no such field.
    """
    if name not in fields:
        there = ", ".join(map(str, fields)) or "nothing"
        raise UserError(f"{location}: no {name!r} in this row, which has {there}; name one of these with {key}=")
    return fields[name]


def text_of(location: str, fields: dict[str, Any], name: str, key: str) -> str:
    """Returns the text in a field, "" for null. The arguments are those of `value_of`.

    Raises:
        UserError: If the row has no such field, or the value is not text or not valid Unicode.
    """
    value = value_of(location, fields, name, key)
    if value is None:  # a dataset may contain null for a missing text
        return ""
    if not isinstance(value, str):
        raise UserError(f"{location}: {shown(value)} in {name!r}, where text belongs; mend the row")
    if not is_unicode(value):
        raise UserError(f"{location}: half a surrogate pair in {name!r}, {shown(value)}, is no character; mend the row")
    return value


def report_empty(empty: list[str], num_kept: int, skip: bool, fault: str, rule: str) -> None:
    """Reports rows without text: as an error, or as a warning if they are left out.

    Args:
        empty: one message for each row without text, beginning with the location of the row.
        num_kept: number of rows with text.
        skip: whether rows without text are left out (`data.skip_bad_rows`).
        fault: predicate that describes such rows, for example "lack text on a side".
        rule: the rule that they break, for example "a pair needs text on both sides".

    Raises:
        UserError: If `empty` is not empty, and `skip` is false or no row has text.
    """
    if not empty:
        return
    count = f"{len(empty)} of {len(empty) + num_kept} rows"
    if not num_kept:
        left = "so data.skip_bad_rows=true leaves no row" if skip else f"and {rule}; mend them"
        raise UserError(f"{empty[0]}; all {count} {fault}, {left}")
    if not skip:
        raise UserError(
            f"{empty[0]}, and {rule}; {count} {fault}. Mend them, or leave them out with data.skip_bad_rows=true"
        )
    logger.warning("left out %s that %s, first %s", count, fault, empty[0])
