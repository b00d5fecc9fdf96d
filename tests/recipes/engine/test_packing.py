"""Packed lines: each row once, whole, in its place, and kept apart from the others by its positions."""

import numpy as np
import pytest
import torch

from vanilla_recipes.engine.packing import Packed, pack
from vanilla_transformers.model.packed_attention import sequence_ids

GENERATOR = np.random.default_rng(0)
LENGTHS = GENERATOR.integers(1, 30, (200, 2))


@pytest.mark.parametrize("lengths", [LENGTHS, LENGTHS[:, :1]], ids=["pairs", "texts"])
@pytest.mark.parametrize("capacity", [30, 64, 1000])
def test_each_row_once_on_lines_that_hold_it(lengths, capacity):
    lines = pack(lengths, capacity)
    assert sorted(row for rows in lines for row in rows) == list(range(200))
    assert all((lengths[rows].sum(axis=0) <= capacity).all() for rows in lines)
    assert lines == pack(lengths, capacity)


def test_lines_are_as_few_and_as_even_as_rows_allow():
    lines = pack(LENGTHS[:, :1], 300)
    totals = [LENGTHS[rows, 0].sum() for rows in lines]
    assert len(lines) == -(-LENGTHS[:, 0].sum() // 300)
    assert max(totals) - min(totals) <= 2


def test_a_row_that_fits_on_no_line_begins_another():
    assert pack(np.array([[6], [6], [6]]), 9) == [[0], [1], [2]]


def test_all_rows_on_one_line_without_padding():
    packed = Packed(LENGTHS, None)
    assert packed.lines == [list(range(200))]
    assert packed.padded_tokens == LENGTHS.sum()


def test_layout():
    packed = Packed(np.array([3, 2, 4]), 5)
    assert packed.lines == [[2], [0, 1]]
    rows = [[1, 2, 3], [4, 5], np.array([6, 7, 8, 9, 0])]
    assert packed.lay_out(rows, fill=-1).tolist() == [[6, 7, 8, 9, -1], [1, 2, 3, 4, 5]]
    assert packed.position_ids().tolist() == [[0, 1, 2, 3, 0], [0, 1, 2, 0, 1]]
    assert packed.starts().tolist() == [5, 8, 0]


def test_padding_of_a_target_has_padding_of_a_source_to_see():
    """The first line is full on the second side alone; without one more place its source padding had no partner."""
    packed = Packed(np.array([[3, 5], [4, 2]]), 5)
    sides = [sequence_ids(packed.position_ids(side)) for side in (0, 1)]
    assert [int(numbers.max()) for numbers in sides] == [1, 1]
    assert (sides[0].amax(1) == sides[1].amax(1)).all()


def test_lengths_for_kernels():
    """Of three texts on two lines, the first of which ends in a place of padding."""
    lengths = Packed(np.array([3, 2, 4]), 5).lengths_for_kernels()
    assert lengths["cu_seq_lens_q"].tolist() == lengths["cu_seq_lens_k"].tolist() == [0, 4, 5, 8, 10]
    assert lengths["max_length_q"] == lengths["max_length_k"] == 4


@pytest.mark.parametrize("capacity", [32, 64, None])
def test_lengths_for_kernels_end_where_positions_begin_anew(capacity):
    packed = Packed(LENGTHS, capacity)
    lengths = packed.lengths_for_kernels()
    for name, side in (("k", 0), ("q", 1)):
        begins = packed.position_ids(side).flatten() == 0
        expected = [*begins.nonzero().flatten().tolist(), begins.numel()]
        assert lengths[f"cu_seq_lens_{name}"].dtype == torch.int32
        assert lengths[f"cu_seq_lens_{name}"].tolist() == expected
        assert lengths[f"max_length_{name}"] == max(np.diff(expected))


def test_padding_of_texts_needs_no_positions():
    packed = Packed(np.array([5, 2]), 5)
    assert packed.position_ids().tolist() == [[0, 1, 2, 3, 4], [0, 1, 0, 0, 0]]


def test_positions_never_exceed_the_length_of_a_line():
    for seed in range(20):
        lengths = np.random.default_rng(seed).integers(1, 30, (40, 2))
        packed = Packed(lengths, 32)
        assert max(int(packed.position_ids(side).max()) for side in (0, 1)) < 32
        sequences = [sequence_ids(packed.position_ids(side)).amax(1).tolist() for side in (0, 1)]
        assert sequences[0] == sequences[1]
