"""Dropout beside torch's: the same distribution and gradient, whatever the size, the type and the seed."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from vanilla_transformers.fast.dropout import apply_dropout, drawing_from
from vanilla_transformers.model.operations import Dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.3, 0.9])
def test_zeros_and_scale(p, dtype):
    torch.manual_seed(0)
    kept = apply_dropout(torch.ones(1000, 999, dtype=dtype), p, training=True)
    values = kept.unique()
    assert values[0] == 0
    assert len(values) == 2
    assert float(values[1]) == pytest.approx(1 / (1 - p), rel=1e-2 if dtype == torch.bfloat16 else 1e-4)
    deviation = (p * (1 - p) / kept.numel()) ** 0.5
    assert float((kept == 0).double().mean()) == pytest.approx(p, abs=5 * deviation)


def test_elements_are_independent():
    torch.manual_seed(0)
    dropped = (apply_dropout(torch.ones(500_000), 0.3, training=True) == 0).double()
    for distance in range(1, 9):  # four elements share a draw
        together = float((dropped[distance:] * dropped[:-distance]).mean())
        assert together == pytest.approx(0.09, abs=2.5e-3)


def test_the_expectation_is_exact_where_p_is_rounded():
    p = 1 / 3
    torch.manual_seed(0)
    values = apply_dropout(torch.ones(10_000, dtype=torch.float64), p, training=True).unique()
    rounded = round(p * 2**16) / 2**16
    assert float(values[1]) * (1 - rounded) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4), (2, 3, 7)])
def test_gradient_is_the_mask(shape):
    torch.manual_seed(0)
    states = torch.randn(shape, requires_grad=True)
    kept = apply_dropout(states, 0.5, training=True)
    kept.sum().backward()
    torch.testing.assert_close(kept, states * states.grad, rtol=0, atol=0)


def test_the_seed_decides():
    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return Dropout(0.2)(torch.ones(64, 33))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize("p", [0.0, 1.0, 1e-9])
def test_limits_are_those_of_torch(p):
    states = torch.randn(100)
    torch.testing.assert_close(
        apply_dropout(states, p, training=True), nn.functional.dropout(states, p), rtol=1e-6, atol=0
    )


def test_nothing_is_dropped_in_evaluation():
    states = torch.randn(100)
    assert Dropout(0.5).eval()(states) is states


def test_compiled_code_draws_as_torch_does():
    torch.manual_seed(3)
    compiled = torch.compile(lambda states: apply_dropout(states, 0.5, training=True), backend="aot_eager")
    found = compiled(torch.ones(100))
    torch.manual_seed(3)
    assert torch.equal(found, nn.functional.dropout(torch.ones(100), 0.5))


def test_draws_from_a_generator_of_the_threads_own():
    torch.manual_seed(7)
    expected = apply_dropout(torch.ones(1000), 0.3, training=True)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with ThreadPoolExecutor(1) as other, drawing_from(torch.Generator().manual_seed(7)):
        assert torch.equal(apply_dropout(torch.ones(1000), 0.3, training=True), expected)
        assert torch.equal(torch.get_rng_state(), before)
        other.submit(apply_dropout, torch.ones(1000), 0.3, True).result()
        assert not torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    assert torch.equal(apply_dropout(torch.ones(1000), 0.3, training=True), expected)
