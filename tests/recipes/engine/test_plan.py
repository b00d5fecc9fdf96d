"""The batch plan: each row once, within the budget, with little padding, and always the same."""

import numpy as np
import pytest

from vanilla_recipes.engine.plan import Plan, batch_cost, share
from vanilla_recipes.errors import UserError


def sentence_lengths(num_rows: int) -> np.ndarray:
    """Lengths like those of captions: 5 to 50 tokens, the two sides alike but not equal."""
    generator = np.random.default_rng(0)
    source = np.clip(generator.gamma(9.0, 1.8, num_rows), 5, 48).astype(int)
    target = np.clip(source + generator.normal(0, 2.5, num_rows), 4, 50).astype(int)
    return np.stack([source, target], axis=1)


LENGTHS = sentence_lengths(29_000)


@pytest.mark.parametrize("epoch", [0, 1, 7])
@pytest.mark.parametrize("lengths", [LENGTHS[:3000], LENGTHS[:3000, 0]], ids=["pairs", "texts"])
def test_each_row_once_within_the_budget(lengths, epoch):
    plan = Plan(lengths, 1024, seed=3)
    batches = plan.groups(epoch)
    assert sorted(np.concatenate(batches)) == list(range(3000))
    assert max(batch_cost(plan.lengths(epoch)[rows]) for rows in batches) <= 1024


def test_is_a_pure_function_of_seed_and_epoch():
    def batches(seed, epoch):
        return [rows.tolist() for rows in Plan(LENGTHS[:2000], 512, seed).groups(epoch)]

    assert batches(1, 4) == batches(1, 4)
    assert batches(1, 4) != batches(1, 5)
    assert batches(1, 4) != batches(2, 4)


def test_other_rows_meet_in_another_epoch():
    plan = Plan(LENGTHS[:5000], 1024, seed=0)
    first = {tuple(sorted(rows)) for rows in plan.groups(0)}
    second = {tuple(sorted(rows)) for rows in plan.groups(1)}
    assert len(first & second) < 0.05 * len(first)


def test_batches_of_one_length_do_not_follow_each_other():
    widths = [LENGTHS[rows, 0].mean() for rows in Plan(LENGTHS, 1024, seed=0).groups(0)]
    assert abs(np.corrcoef(widths[:-1], widths[1:])[0, 1]) < 0.1


@pytest.mark.parametrize(("batch_tokens", "most"), [(512, 0.012), (1024, 0.016), (2048, 0.025), (4096, 0.04)])
def test_little_padding(batch_tokens, most):
    plan = Plan(LENGTHS, batch_tokens, seed=0)
    assert plan.padding_share(0) < most
    assert plan.num_tokens(plan.groups(0)[0], 0) == LENGTHS[plan.groups(0)[0]].sum()


@pytest.mark.parametrize("packed", [False, True])
def test_a_batch_of_groups(packed):
    whole, plan = Plan(LENGTHS[:3000], 1024, seed=3), Plan(LENGTHS[:3000], 1024, seed=3, packed=packed, num_groups=4)
    batches = [plan.batch(2, step) for step in range(plan.num_steps(2))]
    assert sorted(np.concatenate([rows for groups in batches for rows in groups])) == list(range(3000))
    assert {len(groups) for groups in batches[:-1]} == {4}
    assert 1 <= len(batches[-1]) <= 4
    assert max(plan.cost(rows, 2) for groups in batches for rows in groups) <= 256
    if not packed:  # rows of a group are alike, those of a batch are not
        assert plan.padding_share(2) < whole.padding_share(2)
        spread = [np.std([LENGTHS[rows, 0].mean() for rows in groups]) for groups in batches[:-1]]
        assert np.mean(spread) > 0.5 * LENGTHS[:, 0].std()


def test_names_the_row_that_does_not_fit_into_a_group():
    message = (
        r"batch\.tokens=50 in batch\.groups=2 groups of 25 is too small: row 1 alone has 30 tokens; "
        r"raise batch\.tokens, lower batch\.groups or shorten the rows"
    )
    with pytest.raises(UserError, match=message):
        Plan([[3, 4], [10, 20]], 50, seed=0, num_groups=2)


@pytest.mark.parametrize("pack_length", [None, 128])
def test_packed_batches_fill_the_budget_with_real_tokens(pack_length):
    plan = Plan(LENGTHS[:3000], 2048, seed=3, packed=True, pack_length=pack_length)
    batches = plan.groups(0)
    assert sorted(np.concatenate(batches)) == list(range(3000))
    costs = [plan.cost(rows, 0) for rows in batches]
    assert costs == [LENGTHS[rows].sum() for rows in batches]
    assert max(costs) <= 2048
    assert min(costs[:-1]) > 2048 - LENGTHS.sum(axis=1).max()
    assert [rows.tolist() for rows in batches] != [rows.tolist() for rows in plan.groups(1)]
    assert plan.padding_share(0) == 0.0 if pack_length is None else 0 < plan.padding_share(0) < 0.08


def test_a_stream_has_other_lengths_in_each_epoch():
    plan = Plan(lambda epoch: LENGTHS[100 * epoch : 100 * (epoch + 1)], 512, seed=0)
    for epoch in (0, 3, 1):
        assert sorted(np.concatenate(plan.groups(epoch))) == list(range(100))
        assert plan.lengths(epoch).tolist() == LENGTHS[100 * epoch : 100 * (epoch + 1)].tolist()
    assert plan.num_tokens(np.arange(100), 3) == LENGTHS[300:400].sum()


def test_a_row_of_a_later_segment_that_does_not_fit_is_named():
    plan = Plan(lambda epoch: np.array([3, 4 + 20 * epoch]), 20, seed=0)
    with pytest.raises(UserError, match=r"batch\.tokens=20 is too small: row 1 alone has 24 tokens"):
        plan.groups(1)


def test_parts_of_a_batch_make_it_up():
    rows = np.arange(10, 17)
    parts = [share(rows, part, 3) for part in range(3)]
    assert sorted(np.concatenate(parts)) == rows.tolist()
    assert [len(part) for part in parts] == [3, 2, 2]
    assert len(share(rows, 8, 9)) == 0


def test_names_the_row_that_does_not_fit():
    with pytest.raises(UserError, match=r"batch\.tokens=20 is too small: row 1 alone has 30 tokens"):
        Plan([[3, 4], [10, 20]], 20, seed=0)


def test_refuses_no_rows():
    with pytest.raises(UserError, match="no rows to train on"):
        Plan(np.empty((0, 2)), 20, seed=0)
