"""Packing: concatenates several rows into one sequence, called a line, so that a batch has hardly any padding.

A packed batch has no attention mask. Position ids restart at 0 at the first token of each row. The models see from the
position ids which tokens belong to the same row, and restrict attention to this row.

The rows of an encoder-decoder have two sides, source and target. A line holds the same rows on both sides, in the same
order. The rows of other models have one side.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def pack(lengths: NDArray, capacity: int | None) -> list[list[int]]:
    """Distributes rows over lines of nearly equal length.

    Starts with the minimum number of lines for all tokens. Adds the rows, longest first, to the line with the most free
    capacity. A row that fits into no line starts a new line.

    Args:
        lengths: number of tokens of each row, shape (rows, sides).
        capacity: maximum number of tokens of a line on each side, at least the length of the longest row. None packs
            all rows into one line.

    Returns:
        The row numbers of each line.
    """
    if capacity is None:
        return [list(range(len(lengths)))]
    num_lines = -(-int(lengths.sum(axis=0).max()) // capacity)
    lines: list[list[int]] = [[] for _ in range(num_lines)]
    free_tokens = np.full((num_lines, lengths.shape[1]), capacity)
    for row in np.argsort(-lengths.sum(axis=1), kind="stable").tolist():
        left = (free_tokens - lengths[row]).min(axis=1)
        line = int(left.argmax())
        if left[line] < 0:
            line = len(lines)
            lines.append([])
            free_tokens = np.vstack((free_tokens, np.full_like(free_tokens[:1], capacity)))
        lines[line].append(row)
        free_tokens[line] -= lengths[row]
    return [rows for rows in lines if rows]


class Packed:
    """The layout of packed rows.

    Args:
        lengths: number of tokens of each row, shape (rows,) or (rows, sides).
        capacity: maximum number of tokens of a line on each side; None packs all rows into one line.

    Attributes:
        lines: the row numbers of each line, in order.
        widths: length of a padded line on each side, shape (sides,).
    """

    def __init__(self, lengths: NDArray, capacity: int | None) -> None:
        self._lengths = lengths.reshape(len(lengths), -1)
        self.lines = pack(self._lengths, capacity)
        totals = np.array([self._lengths[rows].sum(axis=0) for rows in self.lines])
        self.widths = totals.max(axis=0)
        is_padded = totals < self.widths
        if (is_padded.any(axis=1) != is_padded.all(axis=1)).any():
            # The padding of a line is one more packed sequence. The target side of this sequence needs a source side to
            # attend to, so every line must have padding on both sides or on none.
            self.widths += 1

    @property
    def padded_tokens(self) -> int:
        """Number of tokens of all lines, padding included, summed over all sides."""
        return int(len(self.lines) * self.widths.sum())

    def lay_out(self, rows: Sequence[Sequence[int] | NDArray] | NDArray, fill: int, side: int = 0) -> torch.Tensor:
        """Concatenates the rows of each line and pads the lines, shape (lines, width), int64.

        Args:
            rows: the token ids of each row. Tokens beyond the length that the constructor got for the row are ignored.
            fill: the padding value: the id of the padding token or, for labels, `IGNORE_INDEX`.
            side: index of the side whose lengths the rows have.
        """
        lengths, width = self._lengths[:, side], int(self.widths[side])
        batch = np.full((len(self.lines), width), fill, dtype=np.int64)
        for line, members in zip(batch, self.lines, strict=True):
            tokens = np.concatenate([rows[row][: lengths[row]] for row in members])
            line[: len(tokens)] = tokens
        return torch.from_numpy(batch)

    def position_ids(self, side: int = 0) -> torch.Tensor:
        """The position of each token in its row, shape (lines, width), int64.

        With two sides, the padding at the end of a line counts as one more row. With one side, each padding token
        counts as a separate row.
        """
        counted = [np.arange(length) for length in self._lengths[:, side]]
        positions = np.empty((len(self.lines), int(self.widths[side])), dtype=np.int64)
        for line, members in zip(positions, self.lines, strict=True):
            tokens = np.concatenate([counted[row] for row in members])
            line[: len(tokens)] = tokens
            line[len(tokens) :] = np.arange(len(line) - len(tokens)) if len(self.widths) > 1 else 0
        return torch.from_numpy(positions)

    def lengths_for_kernels(self) -> dict[str, Any]:
        """The lengths of the packed rows under transformers' argument names, for kernels that take lengths, not a mask.

        The queries are the last side, the keys are the first side. `cu_seq_lens_q` and `cu_seq_lens_k` are cumulative
        lengths over all lines, starting with 0, int32. `max_length_q` and `max_length_k` are ints. The padding at the
        end of a line counts as a row.
        """
        queries, keys = self._row_lengths(len(self.widths) - 1), self._row_lengths(0)
        return {
            "cu_seq_lens_q": torch.from_numpy(np.append(0, queries).cumsum().astype(np.int32)),
            "cu_seq_lens_k": torch.from_numpy(np.append(0, keys).cumsum().astype(np.int32)),
            "max_length_q": int(queries.max()),
            "max_length_k": int(keys.max()),
        }

    def _row_lengths(self, side: int) -> NDArray[np.int64]:
        """The length of each row, line by line: the packed rows of a line, then its padding as one more row."""
        lengths: list[int] = []
        for members in self.lines:
            own = self._lengths[members, side].tolist()
            padding = int(self.widths[side]) - sum(own)
            lengths += [*own, padding] if padding else own
        return np.array(lengths)

    def starts(self, side: int = 0) -> NDArray[np.int64]:
        """The index of the first token of each row in the lines, laid end to end, shape (rows,).

        Args:
            side: 0 is the source or the only side, 1 the target.
        """
        starts = np.empty(len(self._lengths), dtype=np.int64)
        for number, members in enumerate(self.lines):
            ends = self._lengths[members, side].cumsum()
            starts[members] = number * self.widths[side] + ends - self._lengths[members, side]
        return starts
