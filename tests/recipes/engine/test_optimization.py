"""Schedules against numbers worked out by hand, and what the optimizer decays."""

import pytest
import torch
from torch import nn
from transformers import get_scheduler

from vanilla_recipes.engine.optimization import build_optimizer, build_schedule
from vanilla_recipes.settings.durations import Duration
from vanilla_recipes.settings.experiment import OptimizerConfig, ScheduleConfig
from vanilla_recipes.settings.train_state import TrainState


def rate(schedule: ScheduleConfig, state: TrainState, peak: float | None = 1.0, duration: str = "100 steps") -> float:
    """The learning rate of the step after `state`, for a model 512 wide."""
    optimizer = OptimizerConfig(learning_rate=peak)
    return build_schedule(optimizer, schedule, Duration.parse(duration), hidden_size=512).learning_rate(state)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (1, 512**-0.5 * 4000**-1.5),  # 1.7469e-07
        (4000, 512**-0.5 * 4000**-0.5),  # 6.9877e-04, the peak
        (16000, 512**-0.5 * 16000**-0.5),  # 3.4939e-04, half of it
    ],
)
def test_inverse_square_root_is_the_papers(step, expected):
    schedule = ScheduleConfig("inverse_sqrt", Duration.parse("4000 steps"))
    assert rate(schedule, TrainState(step - 1), peak=None) == pytest.approx(expected, rel=1e-12)


def test_papers_peak_in_figures():
    schedule = ScheduleConfig("inverse_sqrt", Duration.parse("4000 steps"))
    assert rate(schedule, TrainState(3999), peak=None) == pytest.approx(6.98771e-04, rel=1e-5)
    assert rate(
        ScheduleConfig("inverse_sqrt", Duration.parse("4000 steps"), scale=2.0), TrainState(3999), peak=None
    ) == (pytest.approx(1.397542e-03, rel=1e-5))


@pytest.mark.parametrize(("step", "expected"), [(1, 0.1), (5, 0.5), (10, 1.0), (11, 1.0), (56, 0.5), (100, 1 / 90)])
def test_linear(step, expected):
    schedule = ScheduleConfig("linear", Duration.parse("10 steps"))
    assert rate(schedule, TrainState(step - 1)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("step", "expected"), [(5, 0.5), (10, 1.0), (11, 1.0), (41, 0.75), (56, 0.5), (71, 0.25), (101, 0.0)]
)
def test_cosine(step, expected):
    schedule = ScheduleConfig("cosine", Duration.parse("10 steps"))
    assert rate(schedule, TrainState(step - 1)) == pytest.approx(expected, abs=1e-12)


def test_min_factor_is_where_the_decay_ends():
    schedule = ScheduleConfig("cosine", None, min_factor=0.1)
    assert rate(schedule, TrainState(0)) == pytest.approx(1.0)
    assert rate(schedule, TrainState(50)) == pytest.approx(0.55)
    assert rate(schedule, TrainState(100)) == pytest.approx(0.1)


def test_constant_with_warmup():
    schedule = ScheduleConfig("constant", Duration.parse("4 steps"))
    assert [rate(schedule, TrainState(step)) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_time_decides_where_the_run_is_bounded_by_time():
    schedule = ScheduleConfig("linear", Duration.parse("10 steps"))
    at_half_time = TrainState(global_step=200, elapsed_seconds=300.0)
    assert rate(schedule, at_half_time, duration="10 minutes") == pytest.approx(0.5)
    warming_up = TrainState(global_step=4, elapsed_seconds=60.0)
    assert rate(schedule, warming_up, duration="10 minutes") == pytest.approx(0.5 * 0.9)


@pytest.mark.parametrize(("step", "expected"), [(5, 0.5), (10, 1.0), (80, 1.0), (81, 1.0), (91, 0.5), (101, 0.0)])
def test_warmup_stable_decay(step, expected):
    for decay in (0.2, Duration.parse("20 steps")):
        schedule = ScheduleConfig("warmup_stable_decay", Duration.parse("10 steps"), decay=decay)
        assert rate(schedule, TrainState(step - 1)) == pytest.approx(expected, abs=1e-12)


def test_share_of_a_run_bounded_by_time_decays():
    schedule = ScheduleConfig("warmup_stable_decay", Duration.parse("10 steps"), min_factor=0.1, decay=0.5)
    assert rate(schedule, TrainState(50, elapsed_seconds=290.0), duration="10 minutes") == 1.0
    assert rate(schedule, TrainState(90, elapsed_seconds=450.0), duration="10 minutes") == pytest.approx(0.55)


# transformers gives step n, counted from 0, the warm-up's part n / warm-up, which is nothing for the first one. Ours
# counts from 1 in the warm-up, as the paper does, and so is one step ahead there. Both decay over the steps taken.


def transformers_rates(name: str, num_steps: int = 100, **settings) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=10, num_training_steps=num_steps, **settings)
    rates = []
    for _ in range(num_steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("linear", transformers_rates("linear")),
        ("cosine", transformers_rates("cosine")),
        ("constant", transformers_rates("constant_with_warmup")),
        ("inverse_sqrt", transformers_rates("inverse_sqrt", num_steps=101)[1:]),
        (
            "warmup_stable_decay",
            transformers_rates(
                "warmup_stable_decay",
                scheduler_specific_kwargs={"num_decay_steps": 20, "decay_type": "linear", "min_lr_ratio": 0.0},
            ),
        ),
    ],
)
def test_schedules_are_those_of_transformers(name, theirs):
    schedule = ScheduleConfig(name, Duration.parse("10 steps"), decay=0.2)
    ours = [rate(schedule, TrainState(step)) for step in range(100)]
    assert ours[10:] == pytest.approx(theirs[10:], abs=1e-12)
    warmup = theirs[:10] if name == "inverse_sqrt" else theirs[1:11]
    assert ours[:10] == pytest.approx(warmup, abs=1e-12)


def test_matrices_decay_and_nothing_else():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(4, 7, bias=False))
    model[3].weight = model[0].weight  # tied: still an embedding
    decayed, kept = build_optimizer(model, OptimizerConfig(weight_decay=0.3)).param_groups
    assert [p.shape for p in decayed["params"]] == [(3, 4)]
    assert decayed["weight_decay"] == 0.3
    assert {id(p) for p in kept["params"]} == {id(p) for p in model.parameters()} - {id(model[1].weight)}
    assert kept["weight_decay"] == 0.0
