"""Packing: rows of different lengths one after another in lines, so that hardly a place is padding.

A packed batch has no attention mask. The positions begin at 0 with each row, and by them the models keep the rows of a
line apart.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def pack(lengths: NDArray, capacity: int | None) -> list[list[int]]:
    """The rows of each line: the longest first, each on the line with the most room, so that all become equally long.

    There are as many lines as the tokens need at least; a row that fits on none of them begins another.

    Args:
        lengths: tokens of each row, shape (rows, sides).
        capacity: the most tokens of a line on a side, at least those of the longest row; None puts all on one line.
    """
    if capacity is None:
        return [list(range(len(lengths)))]
    num_lines = -(-int(lengths.sum(axis=0).max()) // capacity)
    lines: list[list[int]] = [[] for _ in range(num_lines)]
    room = np.full((num_lines, lengths.shape[1]), capacity)
    for row in np.argsort(-lengths.sum(axis=1), kind="stable").tolist():
        left = (room - lengths[row]).min(axis=1)
        line = int(left.argmax())
        if left[line] < 0:
            line = len(lines)
            lines.append([])
            room = np.vstack((room, np.full_like(room[:1], capacity)))
        lines[line].append(row)
        room[line] -= lengths[row]
    return [rows for rows in lines if rows]


class Packed:
    """Where the tokens of rows stand once they are packed.

    Args:
        lengths: tokens of each row, shape (rows,) or (rows, sides).
        capacity: the most tokens of a line on a side; None puts all on one line.

    Attributes:
        lines: the rows of each line, in order.
        widths: places of a line on each side.
    """

    def __init__(self, lengths: NDArray, capacity: int | None) -> None:
        self._lengths = lengths.reshape(len(lengths), -1)
        self.lines = pack(self._lengths, capacity)
        totals = np.array([self._lengths[rows].sum(axis=0) for rows in self.lines])
        self.widths = totals.max(axis=0)
        is_padded = totals < self.widths
        if (is_padded.any(axis=1) != is_padded.all(axis=1)).any():
            # Padding is one more sequence of a line: that of the target needs one in the source to attend to.
            self.widths += 1

    @property
    def num_places(self) -> int:
        """Places for tokens on all sides, padding included."""
        return int(len(self.lines) * self.widths.sum())

    def lay_out(self, rows: Sequence[Sequence[int] | NDArray] | NDArray, fill: int, side: int = 0) -> torch.Tensor:
        """The rows in their places, shape (lines, width), int64; a row may go on behind its own tokens.

        Args:
            rows: the tokens of each row.
            fill: stands where there are none.
            side: which lengths they have.
        """
        lengths, width = self._lengths[:, side], int(self.widths[side])
        places = np.full((len(self.lines), width), fill, dtype=np.int64)
        for line, members in zip(places, self.lines, strict=True):
            tokens = np.concatenate([rows[row][: lengths[row]] for row in members])
            line[: len(tokens)] = tokens
        return torch.from_numpy(places)

    def position_ids(self, side: int = 0) -> torch.Tensor:
        """The place of each token in its row, shape (lines, width).

        Padding at the end of a line is one more row where there are two sides, else a row a token.
        """
        counted = [np.arange(length) for length in self._lengths[:, side]]
        positions = np.empty((len(self.lines), int(self.widths[side])), dtype=np.int64)
        for line, members in zip(positions, self.lines, strict=True):
            tokens = np.concatenate([counted[row] for row in members])
            line[: len(tokens)] = tokens
            line[len(tokens) :] = np.arange(len(line) - len(tokens)) if len(self.widths) > 1 else 0
        return torch.from_numpy(positions)

    def lengths_for_kernels(self) -> dict[str, Any]:
        """Where the rows of all lines end, for kernels that take this instead of a mask, by transformers' names for it.

        Queries are the last side, keys the first. `cu_seq_lens_q` and `cu_seq_lens_k` are lengths added up from 0 on,
        int32; `max_length_q` and `max_length_k` are numbers. Padding at the end of a line is one more row.
        """
        queries, keys = self._row_lengths(len(self.widths) - 1), self._row_lengths(0)
        return {
            "cu_seq_lens_q": torch.from_numpy(np.append(0, queries).cumsum().astype(np.int32)),
            "cu_seq_lens_k": torch.from_numpy(np.append(0, keys).cumsum().astype(np.int32)),
            "max_length_q": int(queries.max()),
            "max_length_k": int(keys.max()),
        }

    def _row_lengths(self, side: int) -> NDArray[np.int64]:
        """Tokens of the rows of all lines in turn, and of the padding of each line that has some."""
        lengths: list[int] = []
        for members in self.lines:
            own = self._lengths[members, side].tolist()
            padding = int(self.widths[side]) - sum(own)
            lengths += [*own, padding] if padding else own
        return np.array(lengths)

    def starts(self, side: int = 0) -> NDArray[np.int64]:
        """Where each row begins, counted over all lines, shape (rows,)."""
        starts = np.empty(len(self._lengths), dtype=np.int64)
        for number, members in enumerate(self.lines):
            ends = self._lengths[members, side].cumsum()
            starts[members] = number * self.widths[side] + ends - self._lengths[members, side]
        return starts
