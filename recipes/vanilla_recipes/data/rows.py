"""Rows of a task, from the built-in corpus, local files or the Hub, checked before anything is trained on them.

Nothing heavy is imported until rows are read.
"""

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vanilla_recipes.data.readers import Record, fault_text, is_unicode, read_records, shown
from vanilla_recipes.data.splits import note_same, note_same_files, split_files
from vanilla_recipes.errors import UserError

logger = logging.getLogger(__name__)

Split = Literal["train", "validation", "test"]

TOY = "toy"
TOY_ROWS = {"train": 20_000, "validation": 500, "test": 500}


@dataclass(frozen=True)
class DataConfig:
    """Where the rows come from.

    Args:
        name: "toy", the built-in corpus, or the id of a dataset on the Hub.
        config_name: the configuration of the Hub dataset, where it has several.
        revision: a branch, tag or commit of the Hub dataset; null takes its newest state.
        path: a local folder with one file a split, or a train file; wins over `name`.
        train_split: name of the split on the Hub, or of its file in `path` (`splits.split_files` says how).
        validation_split: likewise.
        test_split: likewise; null when there is none.
        num_train_rows: rows of the toy corpus (default 20,000), or the most to take of other data (default: all).
        num_validation_rows: likewise (toy: 500).
        num_test_rows: likewise (toy: 500).
        skip_bad_rows: leave out rows with an empty text or null, and report how many, instead of stopping.
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
        """The fields whose value breaks a rule, with the rule."""
        for name in ("num_train_rows", "num_validation_rows", "num_test_rows"):
            num_rows = getattr(self, name)
            if num_rows is not None and num_rows < 1:
                yield name, "must be 1 or greater, or null for all rows"

    def split_name(self, split: str) -> str | None:
        """What the user calls this split; None when there is none."""
        return getattr(self, f"{split}_split")

    def num_rows(self, split: str) -> int | None:
        """How many rows of this split to take; None for all."""
        return getattr(self, f"num_{split}_rows")


@dataclass(frozen=True)
class StreamedDataConfig(DataConfig):
    """Rows of which those to train on need not fit into memory.

    Args:
        streaming: read the training rows in segments while the model trains. A tokenizer is trained on the first
            segment, and a resumed run compares that one alone with what it was begun with. An epoch is a segment.
        segment_rows: rows of a segment, which are shuffled among themselves.
    """

    streaming: bool = False
    segment_rows: int = 10_000

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.segment_rows < 1:
            yield "segment_rows", "must be 1 or greater"

    @property
    def stops_at_bad_row(self) -> bool:
        """Whether a row without text is reported when it is met, rather than with all others at the end."""
        return self.streaming and not self.skip_bad_rows

    @property
    def rows_at_once(self) -> int | None:
        """The most training rows in memory at a time; None for all."""
        return self.segment_rows if self.streaming else None


@dataclass(frozen=True)
class TranslationDataConfig(StreamedDataConfig):
    """Pairs of sentences.

    Args:
        source_lang: the field that holds the source.
        target_lang: the field that holds the target.
    """

    source_lang: str = "en"
    target_lang: str = "de"

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.source_lang == self.target_lang:
            yield "target_lang", f"must differ from source_lang, {self.source_lang!r}"


class Pair(NamedTuple):
    """A sentence and its translation, as the data has them."""

    source: str
    target: str


def translation_pairs(config: TranslationDataConfig, split: Split, seed: int = 0) -> list[Pair]:
    """The checked pairs of one split; see `read_translation_pairs`."""
    return list(read_translation_pairs(config, split, seed))


def read_translation_pairs(config: TranslationDataConfig, split: Split, seed: int = 0) -> Iterator[Pair]:
    """The checked pairs of one split, in the order of the data, one at a time.

    A row is `{"translation": {"en": ..., "de": ...}}` or `{"en": ..., "de": ...}`; other fields are ignored. With
    `skip_bad_rows` a row that lacks text on a side is left out, and the number is logged.

    Args:
        config: where the rows are, and the two languages.
        split: which part of them.
        seed: chooses the rows of the built-in corpus.

    Raises:
        UserError: anything wrong with the data, with the file and line; a lack of text only at the end, where the rows
            are not a stream.
    """
    limit, num_kept = config.num_rows(split), 0
    empty: list[str] = []
    for record in records(config, "translation", split, seed):
        pair = _pair(record, config)
        lacking = config.source_lang if not pair.source.strip() else config.target_lang
        if not pair.source.strip() or not pair.target.strip():
            empty.append(f"{record.location}: {lacking!r} is empty")
            if config.stops_at_bad_row:
                break
            continue
        yield pair
        num_kept += 1
        if num_kept == limit:
            break
    report_empty(empty, num_kept, config.skip_bad_rows, "lack text on a side", "a pair needs text on both sides")


def records(config: DataConfig, task: str, split: Split, seed: int = 0) -> Iterator[Record]:
    """The unchecked rows of one split of any task, each with its place.

    Args:
        config: where the rows are.
        task: the built-in corpus: "translation", "sentiment" or "stories".
        split: which part of them.
        seed: chooses the rows of the built-in corpus.

    Raises:
        UserError: the split is missing, unreadable or empty.
    """
    name = config.split_name(split)
    if name is None:
        raise UserError(f"data.{split}_split is null: there is no {split} split to read")
    found: Iterator[Record]
    if config.path is not None:
        files = split_files(config.path, split, name)
        note_same_files(split, files, config.path, config.train_split)
        place, found = ", ".join(map(str, files)), chain.from_iterable(map(read_records, files))
    elif config.name == TOY:
        place, found = TOY, _toy_records(task, split, config.num_rows(split) or TOY_ROWS[split], seed)
    else:
        streaming = isinstance(config, StreamedDataConfig) and config.streaming and split == "train"
        place, found = config.name, _hub_records(config, name, streaming)
        note_same(split, f"{place} {name}", f"{place} {config.train_split}")
    first = next(found, None)
    if first is None:
        raise UserError(f"{place}: the {split} split is empty: there is no row to read")
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
    except Exception as error:  # a dozen kinds, some of them of other libraries
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
    except (OSError, datasets.exceptions.DatasetsError) as error:  # of a stream, whose rows come over the network
        raise UserError(
            f"data.name={name}: the split {split!r} could not be read on after row {index}: {fault_text(error)}; "
            f"resume=if_available continues the run"
        ) from error


def _pair(record: Record, config: TranslationDataConfig) -> Pair:
    nested = record.fields.get("translation")
    texts = nested if isinstance(nested, dict) else record.fields
    return Pair(
        text_of(record.location, texts, config.source_lang, "data.source_lang"),
        text_of(record.location, texts, config.target_lang, "data.target_lang"),
    )


def value_of(location: str, fields: dict[str, Any], name: str, key: str) -> Any:
    """What a field holds.

    Args:
        location: where the row stands.
        fields: the row.
        name: the field.
        key: the setting that names it.

    Raises:
        UserError: the row has no such field.
    """
    if name not in fields:
        there = ", ".join(map(str, fields)) or "nothing"
        raise UserError(f"{location}: no {name!r} in this row, which has {there}; name one of these with {key}=")
    return fields[name]


def text_of(location: str, fields: dict[str, Any], name: str, key: str) -> str:
    """The text in a field, empty where the field holds null; the arguments are those of `value_of`.

    Raises:
        UserError: the row has no such field, or it holds something else.
    """
    value = value_of(location, fields, name, key)
    if value is None:  # what datasets have where a text is missing
        return ""
    if not isinstance(value, str):
        raise UserError(f"{location}: {shown(value)} in {name!r}, where text belongs; mend the row")
    if not is_unicode(value):
        raise UserError(f"{location}: half a surrogate pair in {name!r}, {shown(value)}, is no character; mend the row")
    return value


def report_empty(empty: list[str], num_kept: int, skip: bool, fault: str, rule: str) -> None:
    """Stop, or say what was left out.

    Args:
        empty: a message for each row without text, which begins with its place.
        num_kept: how many other rows there are.
        skip: whether such rows are left out.
        fault: what they do, such as "lack text on a side".
        rule: what a row needs.

    Raises:
        UserError: such rows are not left out, or there are no others.
    """
    if not empty:
        return
    count = f"{len(empty)} of {len(empty) + num_kept} rows"
    if not num_kept:
        left = "so data.skip_bad_rows=true leaves none" if skip else f"and {rule}; mend them"
        raise UserError(f"{empty[0]}; all {count} {fault}, {left}")
    if not skip:
        raise UserError(
            f"{empty[0]}, and {rule}; {count} are such. Mend them, or leave them out with data.skip_bad_rows=true"
        )
    logger.warning("left out %s that %s, first %s", count, fault, empty[0])
