"""Reads training rows that do not fit into memory, one segment at a time. A segment counts as an epoch.

The rows of a segment depend only on the segment number. A resumed run reads the stream up to its segment and then
continues with the same rows. Rows are shuffled within their segment only.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Generic, TypeVar

from vanilla_recipes.data.records import StreamedDataConfig
from vanilla_recipes.settings.durations import Duration

Item = TypeVar("Item")
Corpus = TypeVar("Corpus")


class Stream(Generic[Item]):
    """Items in segments of equal size. At the end of the stream, a segment continues with the first items.

    If the stream is shorter than a segment, every segment has all items of the stream.

    Args:
        read: opens the stream at its beginning; must yield the same items every time.
        num_items: number of items of a segment.
    """

    def __init__(self, read: Callable[[], Iterator[Item]], num_items: int) -> None:
        self._read, self._num_items = read, num_items
        self._total: int | None = None  # number of items; unknown until the end is reached
        self._reopen()

    def segment(self, number: int) -> list[Item]:
        """Returns the items of segment `number`, counted from 0.

        To reach a later segment, the items before it are read and dropped. To reach an earlier segment, the stream is
        read again from its beginning.
        """
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
        """Returns the next items. At the end of the stream it returns fewer and reopens the stream."""
        items = list(islice(self._items, num_items))
        self._place += len(items)
        if len(items) < num_items:
            self._end_pass()
        return items

    def _end_pass(self) -> None:
        self._total = self._place
        self._reopen()


def open_stream(data: StreamedDataConfig, read: Callable[[], Iterator[Item]]) -> Stream[Item] | None:
    """Returns a `Stream` of the training rows, or None if `data.streaming` is false.

    Args:
        data: the settings of the data.
        read: reads the training rows from the beginning; must yield the same rows every time.
    """
    return Stream(read, data.segment_rows) if data.streaming else None


def by_segment(
    stream: Stream[Item] | None, first: Corpus, encode: Callable[[list[Item]], Corpus]
) -> Callable[[int], Corpus]:
    """Returns a function from a segment number to the encoded rows of this segment. It caches the last segment.

    Args:
        stream: the training rows; if None, every segment is `first`.
        first: the encoded rows of segment 0.
        encode: encodes the rows of every other segment.
    """
    if stream is None:
        return lambda number: first
    return lru_cache(maxsize=1)(lambda number: encode(stream.segment(number)) if number else first)


def stream_problems(data: StreamedDataConfig, max_duration: Duration) -> Iterator[tuple[str, str]]:
    """Yields the settings that are not allowed with `data.streaming`, with the rule that they break."""
    if data.streaming and max_duration.unit == "epochs":
        yield "max_duration", "must be in steps, tokens or time with data.streaming=true, where an epoch is a segment"
