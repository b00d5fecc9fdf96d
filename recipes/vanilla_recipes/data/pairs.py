"""Reads sentence pairs for translation, and checks them before training."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from vanilla_recipes.data.readers import Record
from vanilla_recipes.data.records import Split, StreamedDataConfig, records, report_empty, text_of


@dataclass(frozen=True)
class TranslationDataConfig(StreamedDataConfig):
    """Sentence pairs.

    Args:
        source_lang: name of the field with the source sentence.
        target_lang: name of the field with the target sentence.
    """

    source_lang: str = "en"
    target_lang: str = "de"

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.source_lang == self.target_lang:
            yield "target_lang", f"must differ from source_lang, {self.source_lang!r}"


class Pair(NamedTuple):
    """A sentence pair: source and target text."""

    source: str
    target: str


def translation_pairs(config: TranslationDataConfig, split: Split, seed: int = 0) -> list[Pair]:
    """Returns a list of the sentence pairs that `read_translation_pairs` yields."""
    return list(read_translation_pairs(config, split, seed))


def read_translation_pairs(config: TranslationDataConfig, split: Split, seed: int = 0) -> Iterator[Pair]:
    """Yields the sentence pairs of one split in the order of the data, after checking each pair.

    A row is `{"translation": {"en": ..., "de": ...}}` or `{"en": ..., "de": ...}`; other fields are ignored. With
    `skip_bad_rows` a pair whose source or target is empty is left out, and the number of such pairs is logged.

    Args:
        config: the source of the rows, and the two languages.
        split: the split to read.
        seed: seed of the built-in corpus.

    Raises:
        UserError: If the data cannot be read or a row breaks a rule; the message names the file and line. Pairs with an
            empty side are reported together at the end. With `data.streaming` the first such pair is reported at once.
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


def _pair(record: Record, config: TranslationDataConfig) -> Pair:
    nested = record.fields.get("translation")
    texts = nested if isinstance(nested, dict) else record.fields
    return Pair(
        text_of(record.location, texts, config.source_lang, "data.source_lang"),
        text_of(record.location, texts, config.target_lang, "data.target_lang"),
    )
