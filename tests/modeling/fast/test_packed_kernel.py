"""`torch_varlen`: packed rows give what they give padded and alone; everywhere else it is sdpa.

The kernel itself runs on some GPUs only. Elsewhere a loop over the sequences takes its place, which proves the rest.
"""

from unittest.mock import Mock

import pytest
import torch
from tiny import (
    DECODERS,
    ENCODERS,
    LM_HEADS,
    PAD,
    SEQ2SEQ,
    first_output,
    is_seq2seq,
    random_ids,
    tiny_inputs,
    tiny_model,
)
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForSeq2SeqLM, DataCollatorWithFlattening, DynamicCache

from vanilla_transformers.fast import packed_kernel as varlen
from vanilla_transformers.model.caches import CACHE

TOLERANCE = dict(rtol=1e-5, atol=1e-5)
ENCODER, DECODER, SEQ2SEQ_LM = ENCODERS[1], DECODERS[1], SEQ2SEQ[1]
CPU, GPU = torch.device("cpu"), torch.device("cuda")
SOURCES, TARGETS = (3, 6, 2, 5), (5, 2, 4, 1)


def attend_one_by_one(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size):
    """`varlen_attn` by torch's attention on each sequence; refuses what the kernel would not take."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert int(cu_seq_q[-1]) == query.shape[0]
    assert int(cu_seq_k[-1]) == key.shape[0]
    lengths_q, lengths_k = cu_seq_q.diff().tolist(), cu_seq_k.diff().tolist()
    assert (type(max_q), type(max_k)) == (int, int)
    assert (max_q, max_k) == (max(lengths_q), max(lengths_k))
    assert window_size in ((-1, 0), (-1, -1))
    attended = [
        scaled_dot_product_attention(
            *(states.transpose(0, 1) for states in part), scale=scale, is_causal=window_size[1] == 0
        )
        for part in zip(query.split(lengths_q), key.split(lengths_k), value.split(lengths_k), strict=True)
    ]
    return torch.cat(attended, dim=1).transpose(0, 1)


@pytest.fixture
def calls(monkeypatch):
    """Puts the loop in the kernel's place, on this device too; lists the window of each call."""
    found = []

    def kernel(*args, **kwargs):
        found.append(kwargs["window_size"])
        return attend_one_by_one(*args, **kwargs)

    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    monkeypatch.setattr(varlen, "_has_kernel", lambda device: True)
    monkeypatch.setattr(varlen, "_DTYPES", (torch.float32,))
    return found


def flat_positions(lengths):
    return torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0)


def end_of_each(lengths):
    return torch.tensor([0, *lengths]).cumsum(0).int()


def packed_inputs(model_class, sources=SOURCES, targets=TARGETS):
    """Sequences of these lengths in one row, and the same sequences as inputs of their own."""
    queries = targets if is_seq2seq(model_class) else sources
    singles = [{"input_ids": random_ids(1, length, seed=length)} for length in sources]
    packed = {"position_ids": flat_positions(sources), "use_cache": False}
    if is_seq2seq(model_class):
        for single, length in zip(singles, targets, strict=True):
            single["decoder_input_ids"] = random_ids(1, length, seed=20 + length)
        packed["decoder_position_ids"] = flat_positions(targets)
    for name in singles[0]:
        packed[name] = torch.cat([single[name] for single in singles], 1)
    lengths = varlen.PackedLengths(end_of_each(queries), end_of_each(sources), max(queries), max(sources))
    return packed | lengths._asdict(), singles


@pytest.mark.parametrize("use_cache", [False, True])
@pytest.mark.parametrize("model_class", LM_HEADS)
def test_packed_equals_single(model_class, use_cache, calls):
    model = tiny_model(model_class)
    packed, singles = packed_inputs(model_class)
    expected = torch.cat([first_output(model, single) for single in singles], 1)
    model.set_attn_implementation("torch_varlen")
    torch.testing.assert_close(first_output(model, packed | {"use_cache": use_cache}), expected, **TOLERANCE)
    full, causal = (-1, -1), (-1, 0)
    assert calls == {ENCODER: [full] * 2, DECODER: [causal] * 2}.get(model_class, [full] * 2 + [causal, full] * 2)


@pytest.mark.parametrize("use_reentrant", [None, False, True])
@pytest.mark.parametrize("model_class", LM_HEADS)
def test_packed_loss_and_gradients_equal_padded_ones(model_class, use_reentrant, calls):
    model = tiny_model(model_class).train()
    packed, singles = packed_inputs(model_class)
    loss, expected = loss_and_gradients(model, padded(singles), labels_of(padded(singles)))
    model.set_attn_implementation("torch_varlen")
    if use_reentrant is not None:
        model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
        model.enable_input_require_grads()
    found_loss, found = loss_and_gradients(model, packed, labels_of(packed, ends=packed["cu_seq_lens_q"][1:-1]))
    assert calls
    torch.testing.assert_close(found_loss, loss, **TOLERANCE)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, **TOLERANCE, msg=lambda text, n=name: f"{n}: {text}")


def loss_and_gradients(model, inputs, labels):
    model.zero_grad()
    loss = model(**inputs, labels=labels, num_items_in_batch=10).loss
    loss.backward()
    return loss.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def padded(singles):
    batch = {
        name: torch.nn.utils.rnn.pad_sequence([single[name][0] for single in singles], True, PAD) for name in singles[0]
    }
    return batch | {"attention_mask": (batch["input_ids"] != PAD).long()}


def labels_of(inputs, ends=()):
    """The inputs, which a decoder shifts: the first token of a sequence is no target of the one before."""
    ids = inputs.get("decoder_input_ids", inputs["input_ids"])
    labels = ids.masked_fill(ids == PAD, -100)
    labels[:, 0] = -100
    for end in ends:
        labels[:, end] = -100
    return labels


def test_flattened_batches_of_transformers(calls):
    """What its collator makes is what the kernel reads."""
    model = tiny_model(DECODER)
    rows = [random_ids(length, seed=length).tolist() for length in SOURCES]
    collate = DataCollatorWithFlattening(return_flash_attn_kwargs=True)
    batch = dict(collate([{"input_ids": row} for row in rows], return_tensors="pt"))
    expected = torch.cat([first_output(model, {"input_ids": torch.tensor([row])}) for row in rows], 1)
    model.set_attn_implementation("torch_varlen")
    with torch.no_grad():
        found = model(**batch).logits
    torch.testing.assert_close(found, expected, **TOLERANCE)
    assert len(calls) == 2


@pytest.mark.parametrize("model_class", LM_HEADS)
def test_without_the_kernel_masks_keep_rows_apart(model_class):
    """This is a CPU: the lengths are not used."""
    model = tiny_model(model_class)
    packed, singles = packed_inputs(model_class)
    expected = torch.cat([first_output(model, single) for single in singles], 1)
    model.set_attn_implementation("torch_varlen")
    torch.testing.assert_close(first_output(model, packed), expected, **TOLERANCE)


def test_dropout_on_attention_weights_is_that_of_sdpa(calls):
    model = tiny_model(DECODER, attention_probs_dropout_prob=0.5).train()
    packed, _ = packed_inputs(DECODER)
    outputs = []
    for kernel in ("sdpa", "torch_varlen"):
        model.set_attn_implementation(kernel)
        torch.manual_seed(0)
        outputs.append(first_output(model, packed))
    assert torch.equal(*outputs)
    assert not calls
    model.eval()
    first_output(model, packed)
    assert len(calls) == 2


@pytest.mark.parametrize("model_class", LM_HEADS)
def test_padded_rows_and_generation_are_those_of_sdpa(model_class, calls):
    model = tiny_model(model_class)
    inputs = tiny_inputs(model_class)
    prompts = {name: inputs[name].flip(-1) for name in ("input_ids", "attention_mask")}
    outputs, texts = [], []
    for kernel in ("sdpa", "torch_varlen"):
        model.set_attn_implementation(kernel)
        outputs.append(first_output(model, inputs))
        if model_class is not ENCODER:
            texts.append(model.generate(**prompts, max_new_tokens=5, min_new_tokens=5, do_sample=False))
    assert torch.equal(*outputs)
    assert not texts or torch.equal(*texts)
    assert not calls


@pytest.mark.parametrize("given", ["masks", "cache"])
@pytest.mark.parametrize("model_class", LM_HEADS)
def test_beside_a_mask_or_a_cache_lengths_are_not_used(model_class, given, calls):
    if (model_class, given) == (ENCODER, "cache"):
        pytest.skip("encoders have none")
    model = tiny_model(model_class)
    packed, _ = packed_inputs(model_class)
    outputs = []
    for kernel in ("sdpa", "torch_varlen"):
        model.set_attn_implementation(kernel)
        others = {CACHE: DynamicCache(config=model.config)}
        if given == "masks":
            others = {"attention_mask": torch.ones_like(packed["input_ids"])}
        if given == "masks" and is_seq2seq(model_class):
            others["decoder_attention_mask"] = torch.ones_like(packed["decoder_input_ids"])
        if given == "cache" and is_seq2seq(model_class):
            others["encoder_outputs"] = (torch.ones(1, sum(SOURCES), 32),)
        outputs.append(first_output(model, packed | others))
    assert torch.equal(*outputs)
    assert not calls


@pytest.mark.parametrize("model_class", LM_HEADS)
def test_lengths_need_positions(model_class):
    model = tiny_model(model_class)
    model.set_attn_implementation("torch_varlen")
    packed, _ = packed_inputs(model_class)
    for name in ("position_ids", "decoder_position_ids"):
        if name in packed:
            with pytest.raises(
                ValueError, match=r"cu_seq_lens_q and cu_seq_lens_k are given without position_ids, but"
            ):
                model(**packed | {name: None})


def test_a_saved_model_loads_with_it_on_a_cpu(tmp_path):
    model = tiny_model(SEQ2SEQ_LM)
    model.set_attn_implementation("torch_varlen")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "packed_attention.py").is_file()
    packed, _ = packed_inputs(SEQ2SEQ_LM)
    expected = first_output(model, packed)
    for kernel in (None, "torch_varlen"):
        loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, attn_implementation=kernel)
        torch.testing.assert_close(first_output(loaded, packed), expected, **TOLERANCE)


@pytest.mark.parametrize(
    ("knobs", "device", "dtype", "is_training", "problem"),
    [
        ({}, CPU, torch.bfloat16, True, "needs an NVIDIA GPU of compute capability 8.0 or higher"),
        ({}, GPU, torch.float32, True, "computes in bf16 or fp16, not in float32"),
        (
            dict(num_attention_heads=8),
            GPU,
            torch.bfloat16,
            True,
            "takes heads of a width up to 192 that 8 divides, not of 4",
        ),
        (
            dict(hidden_size=400, num_attention_heads=2),
            GPU,
            torch.bfloat16,
            True,
            "takes heads of a width up to 192 that",
        ),
        (
            dict(attention_probs_dropout_prob=0.1),
            GPU,
            torch.float16,
            True,
            "has no dropout on attention weights: set att",
        ),
        (dict(attention_probs_dropout_prob=0.1), GPU, torch.float16, False, None),
        ({}, GPU, torch.bfloat16, True, None),
    ],
)
def test_what_keeps_the_kernel_from_running(knobs, device, dtype, is_training, problem, monkeypatch):
    monkeypatch.setattr(varlen.torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    found = varlen.varlen_problem(tiny_model(DECODER, **knobs).config, device, dtype, is_training)
    assert found == problem or (problem and found.startswith(problem))


@pytest.mark.parametrize("cuda", ["13.0", None])
def test_no_driver_is_asked_where_there_is_none(cuda, monkeypatch):
    """A build for CUDA on a machine without a driver is the commonest installation on Linux."""
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: pytest.fail("a driver was asked"))
    config = tiny_model(DECODER).config
    assert varlen.varlen_problem(config, GPU, torch.bfloat16, False).startswith("needs an NVIDIA GPU")


@pytest.mark.skipif(not varlen._has_kernel(GPU), reason="needs a GPU that has the kernel")
@pytest.mark.parametrize("model_class", LM_HEADS)
def test_the_kernel_itself(model_class, monkeypatch):
    """In bf16, beside sdpa in fp32: as far apart as rounding to 8 bits, in the loss and in all gradients together."""
    model = tiny_model(model_class).to(GPU).train()
    packed, _ = packed_inputs(model_class)
    packed = {name: value.to(GPU) if torch.is_tensor(value) else value for name, value in packed.items()}
    labels = labels_of(packed, ends=packed["cu_seq_lens_q"][1:-1])
    model.set_attn_implementation("sdpa")
    loss, gradients = loss_and_gradients(model, packed, labels)
    kernel = Mock(wraps=varlen.varlen_attn)
    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    model.set_attn_implementation("torch_varlen")
    with torch.autocast("cuda", torch.bfloat16):
        found_loss, found = loss_and_gradients(model, packed, labels)
    assert kernel.called
    expected = torch.cat([gradient.flatten() for gradient in gradients.values()])
    difference = torch.cat([found[name].flatten() for name in gradients]) - expected
    torch.testing.assert_close(found_loss, loss, rtol=1e-2, atol=1e-2)
    assert difference.norm() < 4e-2 * expected.norm()  # on a CPU bf16 gives up to 1.6e-2
