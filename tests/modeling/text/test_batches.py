"""Batches for evaluation and inference."""

from itertools import count

import pytest

from vanilla_transformers.text.batches import WINDOW, in_windows, length_sorted_batches


def test_batches_are_long_first_and_keep_a_row_that_is_too_long():
    batches = length_sorted_batches([3, 50, 4, 4, 3], batch_tokens=9)
    assert [rows.tolist() for rows in batches] == [[1], [2, 3], [0, 4]]
    assert length_sorted_batches([], batch_tokens=9) == []


@pytest.mark.parametrize(("num_fitting", "multiple"), [(7, 1), (9, 2), (15, 2), (19, 4), (31, 4), (37, 8), (1000, 8)])
def test_rows_come_in_multiples_that_cost_few_of_them(num_fitting, multiple):
    batches = length_sorted_batches([10] * 2003, batch_tokens=10 * num_fitting)
    sizes = {len(rows) for rows in batches[:-1]}
    assert sizes == {num_fitting - num_fitting % multiple}
    assert sum(map(len, batches)) == 2003


def test_an_endless_source_is_read_a_window_at_a_time():
    read: list[int] = []
    numbers = (read.append(number) or number for number in count())
    results = in_windows(numbers, lambda window, bar: [-number for number in window], "numbers", progress=False)
    assert [next(results) for _ in range(3)] == [0, -1, -2]
    assert len(read) == WINDOW
    assert list(in_windows(range(2 * WINDOW + 1), lambda window, bar: window, "numbers", None))[-1] == 2 * WINDOW
