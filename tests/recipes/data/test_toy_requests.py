"""What `toy_rows` and `role_swapped_pairs` refuse, and that their rows are the same everywhere."""

import hashlib

import pytest

from vanilla_recipes.data.toy import MAX_PAIRS, MAX_ROWS, SPLITS, TASKS, role_swapped_pairs, toy_rows
from vanilla_recipes.errors import UserError


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: toy_rows("translations", "train", 1),
            "unknown task 'translations'.*did you mean 'translation'.*stories",
        ),
        (lambda: toy_rows("stories", "valid", 1), "unknown split 'valid'.*choose one of train, validation, test"),
        (lambda: toy_rows("stories", "dev", 1), "unknown split 'dev' of the built-in corpora: choose one of"),
        (
            lambda: toy_rows("sentiment", "train", 10**7),
            f"10000000, but.*at most {MAX_ROWS['sentiment']} distinct train",
        ),
        (lambda: toy_rows("sentiment", "train", -1), "num_rows is -1"),
        (lambda: role_swapped_pairs(10**6), f"num_pairs is 1000000.*at most {MAX_PAIRS}"),
    ],
)
def test_a_request_that_cannot_be_met_says_why(call, message):
    with pytest.raises(UserError, match=message):
        call()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_the_number_of_rows_is_the_number_asked(task, split):
    assert toy_rows(task, split, 0) == []
    assert len(toy_rows(task, split, 7)) == 7


@pytest.mark.parametrize(
    ("task", "digest"),
    [("translation", "3221b36253676244"), ("sentiment", "654618d4b0d182c9"), ("stories", "33599906d3e267d3")],
)
def test_rows_are_the_same_on_every_machine(task, digest):
    rows = toy_rows(task, "train", 500) + toy_rows(task, "test", 100)
    assert hashlib.sha256(repr(rows).encode()).hexdigest()[:16] == digest
