"""`Linear`: equal to torch.nn.Linear in value and in derivatives, and torch's own function where it does not apply."""

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from vanilla_transformers.fast import linear as module
from vanilla_transformers.fast.linear import MIN_ROWS, linear
from vanilla_transformers.model.operations import Linear

has_product = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@pytest.fixture(autouse=True)
def faster(monkeypatch):
    """As if on a processor where oneDNN is the faster one."""
    if not has_product:
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(module, "onednn_is_faster", lambda: True)


@pytest.fixture
def products(monkeypatch):
    """Counts the products that oneDNN makes."""
    made, product = [], module.onednn_linear
    monkeypatch.setattr(module, "onednn_linear", lambda *args: made.append(args[0].shape) or product(*args))
    return made


def pair(has_bias: bool = True, num_inputs: int = 24, num_outputs: int = 40) -> tuple[nn.Linear, Linear]:
    torch.manual_seed(0)
    theirs, ours = nn.Linear(num_inputs, num_outputs, has_bias), Linear(num_inputs, num_outputs, has_bias)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("shape", [(MIN_ROWS,), (5, 13), (2, 3, 11)], ids=str)
@pytest.mark.parametrize("has_bias", [True, False])
def test_values_and_gradients(has_bias, shape, products):
    theirs, ours = pair(has_bias)
    inputs = [torch.randn(*shape, 24, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2)]
    outputs = [layer(each) for layer, each in zip((theirs, ours), inputs, strict=True)]
    torch.testing.assert_close(outputs[1], outputs[0])
    for output in outputs:
        (output**2).sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)
    assert len(products) == 3
    with torch.no_grad():
        torch.testing.assert_close(ours(inputs[0]), outputs[0])


@pytest.mark.parametrize("frozen", ["input", "weight", "bias"])
def test_only_what_is_wanted_gets_a_gradient(frozen):
    _, ours = pair()
    states = torch.randn(64, 24, requires_grad=frozen != "input")
    if frozen != "input":
        getattr(ours, frozen).requires_grad_(False)
    ours(states).sum().backward()  # a gradient that is one number in memory
    grads = {"input": states.grad, "weight": ours.weight.grad, "bias": ours.bias.grad}
    assert [name for name, grad in grads.items() if grad is None] == [frozen]
    if frozen != "weight":
        torch.testing.assert_close(ours.weight.grad, states.detach().sum(0).expand(40, 24))


def test_odd_biases(products):
    states = torch.randn(64, 24)
    for bias in (torch.arange(80.0)[::2], torch.ones(1).expand(40), torch.ones(1), torch.ones(40, dtype=torch.float64)):
        weight = torch.randn(40, 24)
        if bias.dtype == torch.float64:
            with pytest.raises(RuntimeError, match="dtype"):
                linear(states, weight, bias)
        else:
            torch.testing.assert_close(linear(states, weight, bias), states @ weight.t() + bias)
    assert products == []


def test_few_numbers_of_rows_have_kernels(products):
    theirs, ours = pair()
    with torch.no_grad():
        for num_rows in range(MIN_ROWS, 600):
            states = torch.randn(num_rows, 24)
            torch.testing.assert_close(ours(states), theirs(states))
    counts = {shape[0] for shape in products}
    assert len(products) == 600 - MIN_ROWS
    assert len(counts) < 40
    assert max(counts) <= 1.125 * 600


def test_forward_derivatives_take_the_usual_way(products):
    theirs, ours = pair()
    states = torch.randn(64, 24)
    with torch.no_grad(), forward_ad.dual_level():
        dual = forward_ad.make_dual(states, torch.ones_like(states))
        tangents = [forward_ad.unpack_dual(layer(dual)).tangent for layer in (ours, theirs)]
    torch.testing.assert_close(*tangents)
    assert products == []


def test_only_what_is_needed_is_kept_for_the_backward_pass():
    _, ours = pair()
    ours.weight.requires_grad_(False)
    states = torch.randn(64, 24, requires_grad=True)
    doubled = 2 * states
    output = ours(doubled)
    doubled.zero_()  # nothing needs it any more
    output.sum().backward()
    torch.testing.assert_close(states.grad, 2 * ours.weight.sum(0).expand(64, 24))


def test_second_derivatives():
    def penalty(layer: nn.Linear, states: torch.Tensor) -> torch.Tensor:
        (grad,) = torch.autograd.grad((layer(states) ** 3).sum(), states, create_graph=True)
        (weight_grad,) = torch.autograd.grad((grad**2).sum(), layer.weight)
        return weight_grad

    states = torch.randn(40, 24, requires_grad=True)
    first, second = (penalty(layer, states) for layer in pair())
    torch.testing.assert_close(second, first, rtol=1e-5, atol=1e-4 * float(first.abs().max()))


def test_transposed_inputs():
    theirs, ours = pair()
    states = torch.randn(24, 64).t()
    torch.testing.assert_close(ours(states), theirs(states))
    states = torch.randn(8, 24, 9).transpose(1, 2)
    torch.testing.assert_close(ours(states), theirs(states))


def test_too_few_rows_take_the_usual_way(products):
    theirs, ours = pair()
    for shape in ((24,), (1, 24), (MIN_ROWS - 1, 24), (0, 24)):
        states = torch.randn(shape)
        assert torch.equal(ours(states), theirs(states))
    assert products == []


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning")  # which people still use
def test_what_takes_the_usual_way(products):
    theirs, ours = pair()
    states = torch.randn(64, 24)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(states).dtype == torch.bfloat16
    assert ours.double()(states.double()).dtype == torch.float64
    ours.float()
    with FlopCounterMode(display=False) as counter:
        ours(states)
    assert counter.get_total_flops() == 2 * 64 * 24 * 40
    torch.testing.assert_close(torch.func.vmap(ours)(states[None]), theirs(states)[None])
    exported = torch.export.export(ours, (states,)).graph_module.code
    assert "mkldnn" not in exported
    assert products == []
    assert "mkldnn" not in str(torch.jit.trace(ours, states).graph)


def test_wrong_shapes_are_told_by_torch():
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        linear(torch.randn(64, 23), torch.randn(40, 24))
