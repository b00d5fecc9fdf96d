"""`torch.compile` without a graph break, and `torch.export` with a free batch size and length."""

import pytest
import torch
from tiny import (
    HEADS,
    LM_HEADS,
    MODELS,
    first_output,
    is_seq2seq,
    name_of,
    random_ids,
    tiny_inputs,
    tiny_labels,
    tiny_model,
)
from torch.export import Dim

every_head = pytest.mark.parametrize("model_class", HEADS, ids=name_of)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def shallow(model_class, **knobs):
    """A model of one layer a stack: the graph of a second one is the same."""
    layers = ("encoder_layers", "decoder_layers") if is_seq2seq(model_class) else ("num_hidden_layers",)
    return tiny_model(model_class, **dict.fromkeys(layers, 1), **knobs)


def gradient(model) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


def check_step(model_class, backend: str, **knobs) -> None:
    """Loss, logits and gradients of a compiled training step equal those without compilation."""
    inputs = tiny_inputs(model_class)
    inputs |= tiny_labels(model_class, inputs)
    plain = shallow(model_class, **knobs).train()
    expected = plain(**inputs)
    expected.loss.backward()
    model = shallow(model_class, **knobs).train()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    output = compiled(**inputs, num_items_in_batch=None)
    output.loss.backward()
    torch.testing.assert_close(output.loss, expected.loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output[1], expected[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient(model), gradient(plain), rtol=1e-5, atol=1e-5)


@every_head
def test_training_step_has_no_graph_break(model_class):
    # aot_eager compiles the backward pass too.
    check_step(model_class, "aot_eager" if model_class in LM_HEADS else "eager", label_smoothing=0.1)


@pytest.mark.parametrize(
    ("model_class", "knobs"),
    [
        (LM_HEADS[0], {"position_embedding_type": "learned", "norm_position": "pre"}),
        (LM_HEADS[1], {"position_embedding_type": "none", "tie_word_embeddings": False, "embedding_norm": False}),
        (LM_HEADS[2], {"position_embedding_type": "sinusoidal", "norm_position": "post", "lm_head_bias": True}),
    ],
    ids=["seq2seq", "encoder", "decoder"],
)
def test_knobs_have_no_graph_break(model_class, knobs):
    check_step(model_class, "eager", **knobs)


@pytest.mark.parametrize("model_class", LM_HEADS[1:], ids=name_of)
def test_inference_is_compiled_once_for_all_lengths(model_class):
    model = shallow(model_class)
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=True)
    graphs = set()
    for batch_size, length in ((2, 7), (3, 12)):
        inputs = tiny_inputs(model_class, batch_size, length)
        torch.testing.assert_close(first_output(compiled, inputs), first_output(model, inputs), rtol=0, atol=1e-5)
        graphs.add(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert len(graphs) == 1


@pytest.mark.slow
def test_inductor():
    check_step(LM_HEADS[2], "inductor")


def dynamic_shapes(inputs: dict[str, torch.Tensor]) -> dict:
    """Batch size and lengths are free; the number of choices is not."""
    batch, source, target = Dim("batch", max=64), Dim("source", max=64), Dim("target", max=64)
    return {
        name: {0: batch, tensor.ndim - 1: target if name.startswith("decoder") else source}
        for name, tensor in inputs.items()
    }


@pytest.mark.parametrize(
    ("model_class", "with_mask"),
    [(model_class, True) for model_class in MODELS] + [(model_class, False) for model_class in LM_HEADS],
    ids=[name_of(model_class) for model_class in MODELS] + [f"{name_of(head)}-no mask" for head in LM_HEADS],
)
def test_export_with_free_batch_size_and_length(model_class, with_mask):
    model = shallow(model_class, use_cache=False)
    inputs = tiny_inputs(model_class, batch_size=3)
    if not with_mask:
        del inputs["attention_mask"]
    exported = torch.export.export(model, (), inputs, dynamic_shapes=dynamic_shapes(inputs)).module()
    for batch_size, length in ((3, 7), (1, 4), (5, 20)):
        others = tiny_inputs(model_class, batch_size, length)
        others = {name: others[name] for name in inputs}
        torch.testing.assert_close(first_output(exported, others), first_output(model, others), rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_class", [LM_HEADS[0], LM_HEADS[2]], ids=name_of)
def test_compiled_generation_with_a_static_cache(model_class):
    model = shallow(model_class, eos_token_id=None)
    settings = {"max_new_tokens": 5, "do_sample": False}
    ids = random_ids(2, 5)
    expected = model.generate(ids, **settings)
    compiled = torch.compile(model.forward, fullgraph=True, backend="eager")
    model.forward = compiled
    assert torch.equal(model.generate(ids, cache_implementation="static", disable_compile=True, **settings), expected)
    assert is_seq2seq(model_class) or expected.shape[1] == 10
