"""The loss without logits against torch's linear layer and cross entropy, and what falls back on them."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import DECODERS, LM_HEADS, VOCAB_SIZE, name_of, tiny_inputs, tiny_labels, tiny_model
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from vanilla_transformers.fast import linear_cross_entropy
from vanilla_transformers.fast.linear_cross_entropy import linear_cross_entropy_loss

NUM_TOKENS, WIDTH = 101, 16
NUM_ITEMS = 50
CHUNK_ROWS = 7
every_lm_head = pytest.mark.parametrize("model_class", LM_HEADS, ids=name_of)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Several blocks a batch of several chunks each, the last ones shorter than the others."""
    monkeypatch.setattr(linear_cross_entropy, "CPU_CHUNK_SIZE", CHUNK_ROWS * NUM_TOKENS)
    monkeypatch.setattr(linear_cross_entropy, "CPU_BLOCK_BYTES", 2 * CHUNK_ROWS * NUM_TOKENS * 4)
    monkeypatch.setattr(linear_cross_entropy, "MIN_ROWS", 1)


def projection_and_targets(bias: bool = True) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    """A projection, hidden states (4, 9, D) that want a gradient, and labels with rows and places that are ignored."""
    torch.manual_seed(0)
    projection = nn.Linear(WIDTH, NUM_TOKENS, bias=bias)
    hidden_states = torch.randn(4, 9, WIDTH, requires_grad=True)
    labels = torch.randint(NUM_TOKENS, (4, 9))
    labels[0, 3:] = labels[2] = -100
    return projection, hidden_states, labels


def reference(projection, hidden_states, labels, label_smoothing=0.0) -> torch.Tensor:
    logits = nn.functional.linear(hidden_states, projection.weight, projection.bias).float()
    losses = nn.functional.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), reduction="sum", label_smoothing=label_smoothing
    )
    return losses / NUM_ITEMS


def gradients(loss: torch.Tensor, *tensors: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, tensors))


class LargestTensor(TorchDispatchMode):
    """Notes how many elements the largest tensor has that is made in its context."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if torch.is_tensor(tensor):
                self.size = max(self.size, tensor.numel())
        return result


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1], ids=["plain", "smoothed"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_equals_torch(bias, label_smoothing):
    projection, hidden_states, labels = projection_and_targets(bias)
    tensors = (hidden_states, *projection.parameters())
    expected = reference(projection, hidden_states, labels, label_smoothing)
    loss = linear_cross_entropy_loss(projection, hidden_states, labels, NUM_ITEMS, label_smoothing)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    for ours, theirs in zip(gradients(loss, *tensors), gradients(expected, *tensors), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_is_as_near_to_fp32_as_torch_under_autocast(dtype):
    projection, hidden_states, labels = projection_and_targets()
    tensors = (hidden_states, *projection.parameters())
    exact = gradients(reference(projection, hidden_states, labels, 0.1), *tensors)
    with torch.autocast("cpu", dtype):
        expected = reference(projection, hidden_states, labels, 0.1)
        loss = linear_cross_entropy_loss(projection, hidden_states, labels, NUM_ITEMS, 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)  # the smoothed mean is taken before the rounding
    scale = 2.0**15  # as fp16 is trained with; its product with a sum over targets would leave the range of fp16
    pairs = zip(gradients(loss * scale, *tensors), gradients(expected * scale, *tensors), exact, strict=True)
    for ours, theirs, right in pairs:
        assert ours.dtype == right.dtype
        assert (ours / scale - right).norm() <= 1.1 * (theirs / scale - right).norm()


def test_weights_in_half_precision_get_gradients_of_their_own_type():
    projection, hidden_states, labels = projection_and_targets()
    projection.bfloat16()
    hidden = hidden_states.detach().bfloat16().requires_grad_()
    loss = linear_cross_entropy_loss(projection, hidden, labels, NUM_ITEMS)
    torch.testing.assert_close(loss, reference(projection, hidden, labels), rtol=1e-5, atol=0)
    assert {grad.dtype for grad in gradients(loss, hidden, *projection.parameters())} == {torch.bfloat16}


def test_makes_no_tensor_as_large_as_the_logits():
    projection, hidden_states, labels = projection_and_targets()
    with LargestTensor() as largest:
        linear_cross_entropy_loss(projection, hidden_states, labels).backward()
    assert largest.size == NUM_TOKENS * WIDTH  # the gradient of the weights
    with LargestTensor() as largest:
        reference(projection, hidden_states, labels).backward()
    assert largest.size == labels.numel() * NUM_TOKENS


def test_what_is_frozen_gets_no_gradient():
    projection, hidden_states, labels = projection_and_targets()
    expected = gradients(reference(projection, hidden_states, labels), hidden_states)
    projection.requires_grad_(False)
    loss = linear_cross_entropy_loss(projection, hidden_states, labels, NUM_ITEMS)
    torch.testing.assert_close(gradients(loss, hidden_states), expected, rtol=1e-5, atol=1e-7)
    projection.requires_grad_(True)
    linear_cross_entropy_loss(projection, hidden_states.detach(), labels, NUM_ITEMS).backward()
    assert projection.weight.grad is not None


def test_without_gradients_the_loss_is_the_same():
    projection, hidden_states, labels = projection_and_targets()
    with torch.no_grad():
        loss = linear_cross_entropy_loss(projection, hidden_states, labels, NUM_ITEMS)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, reference(projection, hidden_states, labels).detach(), rtol=1e-6, atol=0)


def test_a_graph_that_is_kept_can_be_used_again():
    projection, hidden_states, labels = projection_and_targets()
    loss = linear_cross_entropy_loss(projection, hidden_states, labels)
    first, second, third = (torch.autograd.grad(loss, projection.weight, retain_graph=True)[0] for _ in range(3))
    assert torch.equal(first, second)
    second *= 2
    assert torch.equal(first, third)
    loss.backward(retain_graph=True)
    loss.backward()
    torch.testing.assert_close(projection.weight.grad, 2 * first)


def curvature(model, batch, direction, **options) -> torch.Tensor:
    """v' H v, where H is the Hessian of the loss in the parameters and v the direction."""
    parameters = list(model.parameters())
    grads = torch.autograd.grad(model(**batch, **options).loss, parameters, create_graph=True)
    slope = sum((grad * part).sum() for grad, part in zip(grads, direction, strict=True))
    products = torch.autograd.grad(slope, parameters)
    return sum((product * part).sum() for product, part in zip(products, direction, strict=True))


@pytest.mark.parametrize(
    "settings", [{}, {"label_smoothing": 0.1, "tie_word_embeddings": False}], ids=["plain", "smooth"]
)
@pytest.mark.parametrize("model_class", LM_HEADS, ids=name_of)
def test_second_derivatives_are_those_with_logits(model_class, settings):
    model = tiny_model(model_class, **settings).train()
    inputs = tiny_inputs(model_class)
    batch = inputs | tiny_labels(model_class, inputs)
    torch.manual_seed(0)
    direction = [torch.randn_like(parameter) for parameter in model.parameters()]
    with sdpa_kernel(SDPBackend.MATH):  # torch's fused kernel has no second derivatives
        found = curvature(model, batch, direction, return_logits=False)
        expected = curvature(model, batch, direction)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_second_derivatives_of_the_vectors_alone():
    """What is frozen has no gradient; the loss may be scaled, and targets may be missing."""
    projection, vectors, labels = nn.Linear(8, 40).requires_grad_(False), torch.randn(6, 8), torch.arange(6)
    labels[2] = -100

    def curvature_of(loss_of):
        inputs = vectors.clone().requires_grad_()
        (grad,) = torch.autograd.grad(3 * loss_of(inputs), inputs, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), inputs)[0]

    found = curvature_of(lambda inputs: linear_cross_entropy_loss(projection, inputs, labels))
    expected = curvature_of(lambda inputs: nn.functional.cross_entropy(projection(inputs), labels))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_no_target_gives_zero():
    projection, hidden_states, labels = projection_and_targets()
    loss = linear_cross_entropy_loss(projection, hidden_states, torch.full_like(labels, -100))
    assert loss.item() == 0
    assert not any(grad.any() for grad in gradients(loss, hidden_states, *projection.parameters()))


@pytest.mark.parametrize("label", [NUM_TOKENS, -1])
def test_a_label_that_is_no_token_is_refused(label):
    projection, hidden_states, labels = projection_and_targets()
    labels[1, 1] = label
    with pytest.raises(ValueError, match=f"there are {NUM_TOKENS} classes or tokens, and only -100 marks"):
        linear_cross_entropy_loss(projection, hidden_states, labels)


def test_labels_of_another_shape_are_refused():
    projection, hidden_states, labels = projection_and_targets()
    with pytest.raises(ValueError, match=r"labels have the shape \(4, 8\), but the predictions call for \(4, 9\)"):
        linear_cross_entropy_loss(projection, hidden_states, labels[:, 1:])


def test_what_a_hook_does_to_the_logits_counts():
    projection, hidden_states, labels = projection_and_targets()
    projection.register_forward_hook(lambda module, inputs, logits: 2 * logits)
    doubled = nn.Linear(WIDTH, NUM_TOKENS)
    doubled.load_state_dict({name: 2 * tensor for name, tensor in projection.state_dict().items()})
    loss = linear_cross_entropy_loss(projection, hidden_states, labels, NUM_ITEMS)
    torch.testing.assert_close(loss, reference(doubled, hidden_states, labels), rtol=1e-6, atol=0)


@every_lm_head
def test_heads_give_the_same_loss_and_gradients_without_logits(model_class):
    model = tiny_model(model_class, lm_head_bias=True, label_smoothing=0.1).train()
    inputs = tiny_inputs(model_class, batch_size=4)
    batch = inputs | tiny_labels(model_class, inputs)
    whole, short = model(**batch), model(**batch, return_logits=False)
    assert whole.logits is not None
    assert short.logits is None
    torch.testing.assert_close(short.loss, whole.loss, rtol=1e-6, atol=0)
    pairs = zip(gradients(short.loss, *model.parameters()), gradients(whole.loss, *model.parameters()), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@every_lm_head
def test_heads_give_logits_where_there_are_no_labels(model_class):
    model = tiny_model(model_class)
    assert model(**tiny_inputs(model_class), return_logits=False).logits.shape[-1] == VOCAB_SIZE


def test_an_adapted_projection_is_used_as_it_is():
    model = tiny_model(DECODERS[1], tie_word_embeddings=False)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False))
    inputs = tiny_inputs(DECODERS[1])
    batch = inputs | tiny_labels(DECODERS[1], inputs)
    with_logits, without = adapted(**batch).loss, adapted(**batch, return_logits=False).loss
    assert torch.equal(with_logits, without)
    with adapted.disable_adapter():
        assert not torch.isclose(adapted(**batch, return_logits=False).loss, without)


@every_lm_head
def test_compiles_in_one_graph(model_class):
    model = tiny_model(model_class).train()
    inputs = tiny_inputs(model_class)
    batch = inputs | tiny_labels(model_class, inputs)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**batch, return_logits=False).loss, model(**batch).loss, rtol=1e-6, atol=0)
