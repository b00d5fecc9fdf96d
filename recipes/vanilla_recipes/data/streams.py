"""Training rows that do not fit into memory: read in segments, each of which is trained on like an epoch.

A segment is a function of its number alone, so that a resumed run, which reads the stream up to the segment it was in,
goes on exactly. The rows of a segment are shuffled among themselves.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Generic, TypeVar

from vanilla_recipes.data.rows import StreamedDataConfig
from vanilla_recipes.settings.durations import Duration

Item = TypeVar("Item")
Corpus = TypeVar("Corpus")


class Stream(Generic[Item]):
    """Items in segments of equal size; after its end the stream goes on from its beginning, within a segment too.

    A stream that is shorter than a segment is one segment, over and over.

    Args:
        read: opens the stream at its beginning; it must give the same items each time.
        num_items: items of a segment.
    """

    def __init__(self, read: Callable[[], Iterator[Item]], num_items: int) -> None:
        self._read, self._num_items = read, num_items
        self._total: int | None = None  # unknown before the end was met
        self._reopen()

    def segment(self, number: int) -> list[Item]:
        """The items of a segment, counted from 0. Going back, or on by more than one, reads what lies between."""
        self._seek(number * self._num_items)
        items = self._take(self._num_items)
        if self._total is not None:
            items += self._take(min(self._num_items, self._total) - len(items))
        return items

    def _reopen(self) -> None:
        self._items, self._place = self._read(), 0

    def _seek(self, start: int) -> None:
        if self._total is not None:
            start %= self._total
        if start < self._place:
            self._reopen()
        num_between = start - self._place
        num_skipped = sum(1 for _ in islice(self._items, num_between))
        self._place += num_skipped
        if num_skipped < num_between:
            self._end_pass()
            self._seek(start)

    def _take(self, num_items: int) -> list[Item]:
        """The next items; fewer where the stream ends, which then stands at its beginning."""
        items = list(islice(self._items, num_items))
        self._place += len(items)
        if len(items) < num_items:
            self._end_pass()
        return items

    def _end_pass(self) -> None:
        self._total = self._place
        self._reopen()


def open_stream(data: StreamedDataConfig, read: Callable[[], Iterator[Item]]) -> Stream[Item] | None:
    """The training rows that `read` opens as a stream; None where they are to be read at once."""
    return Stream(read, data.segment_rows) if data.streaming else None


def by_segment(
    stream: Stream[Item] | None, first: Corpus, encode: Callable[[list[Item]], Corpus]
) -> Callable[[int], Corpus]:
    """The encoded rows of a segment, given its number; those asked for last are kept.

    Args:
        stream: None gives `first` for every number.
        first: the encoded rows of segment 0.
        encode: makes the others.
    """
    if stream is None:
        return lambda number: first
    return lru_cache(maxsize=1)(lambda number: encode(stream.segment(number)) if number else first)


def stream_problems(data: StreamedDataConfig, max_duration: Duration) -> Iterator[tuple[str, str]]:
    """What a run cannot have beside a stream."""
    if data.streaming and max_duration.unit == "epochs":
        yield "max_duration", "must be in steps, tokens or time with data.streaming=true, where an epoch is a segment"
