"""Rows of text classification: one text or a pair of texts, and a label.

`datasets` takes seconds to import, so it is imported only when rows are read.
"""

import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vanilla_recipes.data.readers import Record, shown
from vanilla_recipes.data.records import TOY, DataConfig, Split, records, report_empty, text_of, value_of
from vanilla_recipes.errors import UserError

Label = int | str


@dataclass(frozen=True)
class LabelledDataConfig(DataConfig):
    """Texts with labels.

    Args:
        text_field: name of the field with the text.
        pair_field: name of the field with the second text of a text pair; null to classify single texts.
        label_field: name of the field with the label, an integer or text.
        label_names: names of the classes 0, 1 and so on. Null uses the class names that a dataset on the Hub declares,
            or else the sorted labels of the training rows.
    """

    text_field: str = "text"
    pair_field: str | None = None
    label_field: str = "label"
    label_names: list[str] | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.pair_field == self.text_field:
            yield "pair_field", f"must differ from text_field, {self.text_field!r}, or be null for one text"
        if self.label_field in (self.text_field, self.pair_field):
            yield "label_field", "must differ from the fields of the texts"
        if self.label_names is not None and len(set(self.label_names)) < max(2, len(self.label_names)):
            yield "label_names", "must be two or more different names, or null"


class LabelledRow(NamedTuple):
    """A text, the second text of a pair (or None) and the label; `location` is the file and line of the row."""

    location: str
    text: str
    pair: str | None
    label: Label


@dataclass(frozen=True)
class Classes:
    """The classes of a task, and which class a label means.

    Attributes:
        names: the name of each class; the index of a name is the class number that the model predicts.
        are_numbered: whether an integer label is an index into `names`. If false, the integer, as text, is a name.
    """

    names: tuple[str, ...]
    are_numbered: bool = False

    def numbers(self, rows: Sequence[LabelledRow]) -> list[int]:
        """Returns the class number of each row.

        Raises:
            UserError: If a label is not one of the classes; the message names the file and line.
        """
        number_of = {name: number for number, name in enumerate(self.names)}
        if self.are_numbered:
            numbered = {str(number): number for number in range(len(self.names))}
            number_of = {name: number for name, number in number_of.items() if name not in numbered} | numbered
        for row in rows:
            if str(row.label) not in number_of:
                raise UserError(self._unknown(row))
        return [number_of[str(row.label)] for row in rows]

    def _unknown(self, row: LabelledRow) -> str:
        known = ", ".join(map(repr, self.names[:20])) + (", ..." if len(self.names) > 20 else "")
        way_out = "mend the row" + (", or name all classes with data.label_names=" if self.are_numbered else "")
        if row.label == -1:
            way_out = "-1 marks rows without a label, as in GLUE's test splits: data.test_split=null leaves them out"
        return f"{row.location}: {shown(row.label)} is no label: the classes are {known}; {way_out}"


def labelled_rows(config: LabelledDataConfig, split: Split, seed: int = 0) -> list[LabelledRow]:
    """Reads and checks the rows of one split, in the order of the data.

    With `skip_bad_rows` rows without text are left out, and their number is logged.

    Args:
        config: the source of the rows and the names of their fields.
        split: the split to read.
        seed: seed of the built-in corpus.

    Raises:
        UserError: If the data cannot be read or a row breaks a rule; the message names the file and line.
    """
    limit = config.num_rows(split)
    rows: list[LabelledRow] = []
    empty: list[str] = []
    for record in records(config, "sentiment", split, seed):
        row = _row(record, config)
        if not row.text.strip():
            empty.append(f"{row.location}: {config.text_field!r} is empty")
        elif row.pair is not None and not row.pair.strip():
            empty.append(f"{row.location}: {config.pair_field!r} is empty")
        else:
            rows.append(row)
        if len(rows) == limit:
            break
    report_empty(empty, len(rows), config.skip_bad_rows, "lack text", "a row needs text")
    _check_one_kind(rows)
    return rows


def classes_of(config: LabelledDataConfig, rows: Sequence[LabelledRow]) -> Classes:
    """Returns the classes of a task: the class names of the user or the dataset, or else all training labels.

    Raises:
        UserError: If all training rows have the same label. If the classes have no names, and the number of different
            labels is more than half the number of rows.
    """
    names = config.label_names or _declared_names(config)
    labels = {row.label for row in rows}
    if len(labels) < 2:
        raise UserError(
            f"{rows[0].location}: all {len(rows)} training rows have the label {rows[0].label!r}, but a classifier"
            f" needs two labels; choose other rows, or another field with data.label_field="
        )
    if names:
        return Classes(tuple(names), are_numbered=True)
    if 2 * len(labels) > len(rows):
        raise UserError(
            f"data.label_field={config.label_field}: {len(labels)} different labels in {len(rows)} training rows,"
            f" {reprlib.repr(rows[0].label)} for one, are too many classes; name the field of the class with"
            " data.label_field=, or give more rows"
        )
    return Classes(tuple(map(str, sorted(labels, key=lambda label: (isinstance(label, str), label)))))


def _declared_names(config: LabelledDataConfig) -> list[str] | None:
    """Returns the class names that a dataset on the Hub declares, or None; the dataset is already in the cache."""
    if config.path is not None or config.name == TOY:
        return None
    import datasets

    rows = datasets.load_dataset(config.name, config.config_name, split=config.train_split, revision=config.revision)
    feature = (rows.features or {}).get(config.label_field)
    return feature.names if isinstance(feature, datasets.ClassLabel) else None


def _row(record: Record, config: LabelledDataConfig) -> LabelledRow:
    location, fields = record
    text = text_of(location, fields, config.text_field, "data.text_field")
    pair = None if config.pair_field is None else text_of(location, fields, config.pair_field, "data.pair_field")
    return LabelledRow(location, text, pair, _label(location, fields, config.label_field))


def _label(location: str, fields: dict, name: str) -> Label:
    """Returns the label in field `name`, an integer or a text that is not blank."""
    label = value_of(location, fields, name, "data.label_field")
    if isinstance(label, str) and label.strip():
        return text_of(location, fields, name, "data.label_field")
    if not isinstance(label, int) or isinstance(label, bool):
        raise UserError(
            f"{location}: {shown(label)} in {name!r}, where a label belongs, a whole number or a text; mend the row,"
            " or name another field with data.label_field="
        )
    return label


def _check_one_kind(rows: Sequence[LabelledRow]) -> None:
    """Checks that the labels of a split are all numbers or all texts. A mixture suggests an error in the data.

    Raises:
        UserError: If some labels are numbers and some are texts.
    """
    first = rows[0]
    for row in rows:
        if type(row.label) is not type(first.label):
            raise UserError(
                f"{row.location}: {shown(row.label)} is the label, but the label of {first.location} is"
                f" {shown(first.label)}; write all labels as numbers, or all as texts"
            )
