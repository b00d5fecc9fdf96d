"""Durations: what they read, what they refuse, and when they pass."""

import itertools

import pytest

from vanilla_recipes.errors import UserError
from vanilla_recipes.settings.durations import Duration
from vanilla_recipes.settings.train_state import TrainState


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("60steps", 60, "steps"),
        ("60 steps", 60, "steps"),
        ("1 step", 1, "steps"),
        ("10k steps", 10_000, "steps"),
        ("1.5k steps", 1500, "steps"),
        ("5 epochs", 5, "epochs"),
        ("0.5 epochs", 0.5, "epochs"),
        ("2B tokens", 2e9, "tokens"),
        ("3M tokens", 3e6, "tokens"),
        ("30 seconds", 30, "seconds"),
        ("10 minutes", 600, "seconds"),
        ("10minutes", 600, "seconds"),
        ("1.5 hours", 5400, "seconds"),
    ],
)
def test_reads_amount_and_unit(text, amount, unit):
    assert Duration.parse(text) == Duration(amount, unit)


@pytest.mark.parametrize(
    "text", ["", "steps", "10", 10, None, "ten steps", "-5 steps", "0 steps", "5 days", "1e3 steps"]
)
def test_refuses_what_is_no_duration(text):
    with pytest.raises(UserError, match="is not a duration: write a positive number and a unit, such as `60 steps`"):
        Duration.parse(text)


def test_refuses_a_part_of_a_step():
    with pytest.raises(UserError, match=r"'1\.5 steps' is not a duration: steps are whole numbers"):
        Duration.parse("1.5 steps")


@pytest.mark.parametrize("text", ["60 steps", "1000000 tokens", "2.5 epochs", "10 minutes", "1 hours", "45 seconds"])
def test_text_reads_back(text):
    assert str(Duration.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2000B tokens", "2000000000000 tokens"),
        ("1234567.5B tokens", "1234567500000000 tokens"),
        ("0.000001 epochs", "0.000001 epochs"),
        ("0.1 seconds", "0.1 seconds"),
        ("1.5 hours", "90 minutes"),
    ],
)
def test_text_has_no_exponent(text, written):
    duration = Duration.parse(text)
    assert str(duration) == written
    assert Duration.parse(written) == duration


def test_positions_in_each_unit():
    state = TrainState(global_step=30, epoch=2, step_in_epoch=5, steps_in_epoch=20, tokens=500, elapsed_seconds=90.0)
    assert Duration.parse("60 steps").progress(state) == 0.5
    assert Duration.parse("4.5 epochs").progress(state) == 0.5
    assert Duration.parse("1000 tokens").progress(state) == 0.5
    assert Duration.parse("3 minutes").progress(state) == 0.5
    assert Duration.parse("15 steps").ratio(state) == 2.0
    assert Duration.parse("15 steps").progress(state) == 1.0
    assert Duration.parse("30 steps").reached(state)
    assert not Duration.parse("31 steps").reached(state)


def test_falls_due_once_for_each_multiple():
    every = Duration.parse("4 steps")
    due = [step + 1 for step in range(12) if every.fell_due(TrainState(step), TrainState(step + 1))]
    assert due == [4, 8, 12]


def test_falls_due_when_time_jumps_over_it():
    every = Duration.parse("10 seconds")
    times = [0.0, 4.0, 9.9, 10.1, 35.0, 36.0]
    states = [TrainState(elapsed_seconds=seconds) for seconds in times]
    assert [every.fell_due(a, b) for a, b in itertools.pairwise(states)] == [False, False, True, True, False]
