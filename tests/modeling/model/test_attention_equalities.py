"""Equalities that must hold whatever the weights: kernels, caches, padding and packing change nothing."""

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
from torch.nn.attention.flex_attention import BlockMask
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, EncoderDecoderCache, StaticCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

import vanilla_transformers as vt
from vanilla_transformers.fast.softmax import softmax
from vanilla_transformers.model.caches import CACHE, under_its_name

TOLERANCE = dict(rtol=1e-5, atol=1e-5)
ENCODER, DECODER = ENCODERS[1], DECODERS[1]
SEQ2SEQ_LM = SEQ2SEQ[1]
POSITIONS = ("sinusoidal", "learned", "none")


def _variants(model_class):
    for norm_position in ("post", "pre"):
        for positions in POSITIONS:
            yield pytest.param(
                model_class,
                dict(norm_position=norm_position, position_embedding_type=positions),
                id=f"{model_class.__name__}-{norm_position}-{positions}",
            )


all_variants = pytest.mark.parametrize(
    ("model_class", "knobs"), [variant for model_class in LM_HEADS for variant in _variants(model_class)]
)
generating_variants = pytest.mark.parametrize(
    ("model_class", "knobs"), [variant for model_class in (SEQ2SEQ_LM, DECODER) for variant in _variants(model_class)]
)


@all_variants
@pytest.mark.parametrize("kernel", ["sdpa", "flex_attention"])
def test_kernels_equal_eager(model_class, knobs, kernel):
    # Flex attention on a CPU wants heads of at least 16.
    model = tiny_model(model_class, num_attention_heads=2, **knobs)
    inputs = tiny_inputs(model_class)
    keep = inputs["attention_mask"].bool() if not is_seq2seq(model_class) else ...
    model.set_attn_implementation("eager")
    expected = first_output(model, inputs)
    model.set_attn_implementation(kernel)
    torch.testing.assert_close(first_output(model, inputs)[keep], expected[keep], **TOLERANCE)


def test_a_registered_kernel_is_called_with_the_right_causality():
    seen = []

    def watched(module, *args, **kwargs):
        seen.append((module.is_causal, kwargs.get("custom")))
        return sdpa_attention_forward(module, *args, **kwargs)

    AttentionInterface.register("watched", watched)
    AttentionMaskInterface.register("watched", sdpa_mask)
    model = tiny_model(SEQ2SEQ_LM, encoder_layers=1, decoder_layers=1)
    inputs = tiny_inputs(SEQ2SEQ_LM)
    expected = first_output(model, inputs)
    model.set_attn_implementation("watched")
    with torch.no_grad():
        actual = model(**inputs, custom=7).logits
    torch.testing.assert_close(actual, expected, **TOLERANCE)
    assert seen == [(False, 7), (True, 7), (False, 7)]  # encoder, decoder, cross


def _step_by_step(model, inputs, cache):
    """Logits of the target fed one token at a time."""
    name = "decoder_input_ids" if is_seq2seq(type(model)) else "input_ids"
    others = {key: value for key, value in inputs.items() if key != name}
    logits = []
    with torch.no_grad():
        for token in inputs[name].split(1, dim=1):
            outputs = model(**others, **{name: token}, use_cache=True, **under_its_name(cache))
            cache = outputs[CACHE]
            logits.append(outputs.logits)
    return torch.cat(logits, dim=1)


def _cache(model, kind):
    config = model.config
    decoder_config = config.get_text_config(decoder=True)

    def one(length):
        if kind == "dynamic":
            return DynamicCache(config=decoder_config)
        return StaticCache(config=decoder_config, max_cache_len=length)

    return EncoderDecoderCache(one(9), one(7)) if config.is_encoder_decoder else one(9)


@generating_variants
@pytest.mark.parametrize("kind", [None, "dynamic", "static"])
def test_cached_equals_uncached(model_class, knobs, kind):
    model = tiny_model(model_class, **knobs)
    inputs = tiny_inputs(model_class)
    if model_class is DECODER:
        del inputs["attention_mask"]
    with torch.no_grad():
        expected = model(**inputs, use_cache=False).logits
    cache = _cache(model, kind) if kind else None
    torch.testing.assert_close(_step_by_step(model, inputs, cache), expected, **TOLERANCE)


def test_cross_attention_projects_the_source_once():
    model = tiny_model(SEQ2SEQ_LM)
    calls = []
    model.model.decoder.layers[0].cross_attn.k_proj.register_forward_hook(lambda *args: calls.append(1))
    model.generate(random_ids(2, 5), max_new_tokens=6, min_new_tokens=6)
    assert len(calls) == 1


@generating_variants
@pytest.mark.parametrize("num_beams", [1, 3])
def test_generation_is_the_same_with_every_cache(model_class, knobs, num_beams):
    model = tiny_model(model_class, **knobs)
    inputs = tiny_inputs(model_class)
    inputs.pop("decoder_input_ids", None)
    if model_class is DECODER:
        inputs = {name: tensor.flip(-1) for name, tensor in inputs.items()}
    settings = dict(num_beams=num_beams, max_new_tokens=9, min_new_tokens=9, do_sample=False, no_repeat_ngram_size=2)
    expected = model.generate(**inputs, **settings, use_cache=False)
    assert torch.equal(model.generate(**inputs, **settings), expected)
    assert torch.equal(model.generate(**inputs, **settings, cache_implementation="static"), expected)


@all_variants
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_company_change_nothing(model_class, knobs, side):
    """Each row alone equals the row in a padded batch, on whichever side the padding is."""
    model = tiny_model(model_class, **knobs)
    lengths = (3, 6, 4)
    rows = [random_ids(1, length, seed=length) for length in lengths]
    batch, mask = torch.full((3, 6), PAD), torch.zeros(3, 6, dtype=torch.long)
    places = [slice(0, length) if side == "right" else slice(6 - length, 6) for length in lengths]
    for number, (row, place) in enumerate(zip(rows, places, strict=True)):
        batch[number, place], mask[number, place] = row[0], 1
    extra = {"decoder_input_ids": random_ids(3, 5, seed=9)} if is_seq2seq(model_class) else {}
    padded = first_output(model, {"input_ids": batch, "attention_mask": mask} | extra)
    for number, (row, place) in enumerate(zip(rows, places, strict=True)):
        alone = first_output(model, {"input_ids": row} | {name: ids[[number]] for name, ids in extra.items()})
        in_batch = padded[[number]] if extra else padded[[number], place]
        torch.testing.assert_close(in_batch, alone, **TOLERANCE)


@all_variants
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("use_cache", [False, True])
def test_packed_equals_single(model_class, knobs, kernel, use_cache):
    """Sequences packed into one row see themselves alone; in cross attention each target sees its own source."""
    model = tiny_model(model_class, **knobs)
    _check_packed_equals_single(model, kernel, use_cache)


@pytest.mark.slow  # it is compiled
@pytest.mark.parametrize("model_class", LM_HEADS)
def test_packed_equals_single_under_flex_attention(model_class):
    _check_packed_equals_single(tiny_model(model_class, num_attention_heads=2), "flex_attention", use_cache=False)


def _check_packed_equals_single(model, kernel, use_cache):
    model_class = type(model)
    model.set_attn_implementation(kernel)
    sources = [random_ids(1, length, seed=length) for length in (3, 6, 2)]
    targets = [random_ids(1, length, seed=10 + length) for length in (5, 2, 4)]
    packed = {"input_ids": torch.cat(sources, 1), "position_ids": _restarting_positions(sources)}
    if is_seq2seq(model_class):
        packed["decoder_input_ids"] = torch.cat(targets, 1)
        packed["decoder_position_ids"] = _restarting_positions(targets)
    if model_class is not ENCODER:
        packed["use_cache"] = use_cache
    logits = first_output(model, packed)
    singles = []
    for source, target in zip(sources, targets, strict=True):
        extra = {"decoder_input_ids": target} if is_seq2seq(model_class) else {}
        singles.append(first_output(model, {"input_ids": source} | extra))
    torch.testing.assert_close(logits, torch.cat(singles, 1), **TOLERANCE)


def _restarting_positions(sequences):
    return torch.cat([torch.arange(sequence.shape[1]) for sequence in sequences]).unsqueeze(0)


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("model_class", LM_HEADS)
def test_packed_loss_and_gradients_equal_padded_ones(model_class, kernel):
    model = tiny_model(model_class)
    model.set_attn_implementation(kernel)
    rows = [random_ids(1, length, seed=length) for length in (3, 6)]
    seq2seq = is_seq2seq(model_class)
    padded, mask = torch.full((2, 6), PAD), torch.zeros(2, 6, dtype=torch.long)
    for number, row in enumerate(rows):
        padded[number, : row.shape[1]], mask[number, : row.shape[1]] = row[0], 1
    labels = padded.masked_fill(mask == 0, -100)
    padded_loss = model(input_ids=padded, attention_mask=mask, labels=labels).loss
    padded_loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()

    ids, positions = torch.cat(rows, 1), _restarting_positions(rows)
    packed = {"input_ids": ids, "position_ids": positions, "labels": ids.clone()}
    if seq2seq:
        start = torch.full((1, 1), model.config.decoder_start_token_id)
        packed["decoder_input_ids"] = torch.cat([torch.cat((start, row[:, :-1]), 1) for row in rows], 1)
        packed["decoder_position_ids"] = positions
    elif model_class is DECODER:
        packed["labels"][:, 3] = -100  # the second sequence's first token is no target of the first one's last
    loss = model(**packed).loss
    loss.backward()
    torch.testing.assert_close(loss, padded_loss, **TOLERANCE)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], **TOLERANCE, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("model_class", LM_HEADS)
def test_gradient_checkpointing_changes_nothing(model_class, use_reentrant):
    gradients = []
    for enable in (False, True):
        model = tiny_model(model_class).train()
        if enable:
            model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
            model.enable_input_require_grads()  # without it a reentrant checkpoint sees nothing to differentiate
        inputs = tiny_inputs(model_class)
        model(**inputs)[0].square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain, **TOLERANCE)


@pytest.mark.parametrize("model_class", [SEQ2SEQ_LM, DECODER])
@pytest.mark.parametrize("keep", [1, 3, 0, torch.tensor([0, 2]), torch.tensor([[0, 2], [1, 3]]), slice(-3, None)])
def test_logits_to_keep(model_class, keep):
    model = tiny_model(model_class)
    inputs = tiny_inputs(model_class)
    full = first_output(model, inputs)
    kept = first_output(model, inputs | {"logits_to_keep": keep})
    if torch.is_tensor(keep) and keep.ndim == 2:
        expected = torch.stack([row[places] for row, places in zip(full, keep, strict=True)])
    else:
        expected = full[:, -keep:] if isinstance(keep, int) else full[:, keep]
    torch.testing.assert_close(kept, expected, **TOLERANCE)


@pytest.mark.parametrize("model_class", LM_HEADS)
def test_inputs_embeds_equal_input_ids(model_class):
    model = tiny_model(model_class, scale_embeddings=True)
    inputs = tiny_inputs(model_class)
    expected = first_output(model, inputs)
    embeds = {"inputs_embeds": model.get_input_embeddings()(inputs.pop("input_ids"))}
    if is_seq2seq(model_class):
        embeds["decoder_inputs_embeds"] = model.get_input_embeddings()(inputs.pop("decoder_input_ids"))
    torch.testing.assert_close(first_output(model, inputs | embeds), expected, **TOLERANCE)


def test_outputs_that_were_asked_for():
    model = tiny_model(SEQ2SEQ_LM, encoder_layers=2, decoder_layers=3)
    model.set_attn_implementation("eager")
    outputs = model(**tiny_inputs(SEQ2SEQ_LM), output_attentions=True, output_hidden_states=True)
    assert [len(outputs[name]) for name in ("encoder_attentions", "decoder_attentions", "cross_attentions")] == [
        2,
        3,
        3,
    ]
    assert [len(outputs[name]) for name in ("encoder_hidden_states", "decoder_hidden_states")] == [3, 4]
    assert outputs.cross_attentions[0].shape == (2, 4, 5, 7)
    for attention in (*outputs.decoder_attentions, *outputs.cross_attentions):
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
    assert not outputs.decoder_attentions[0].triu(1).any()


def test_flex_attention_gets_block_masks():
    model = tiny_model(ENCODER, num_attention_heads=2)
    model.set_attn_implementation("flex_attention")
    masks = []
    model.model.layers[0].self_attn.register_forward_pre_hook(lambda module, args: masks.append(args[1]))
    first_output(model, tiny_inputs(ENCODER))
    assert isinstance(masks[0], BlockMask)


def test_encoder_use_cache_is_no_concern_of_the_encoder():
    assert isinstance(tiny_model(vt.VanillaEncoderModel)(random_ids(1, 4))[0], torch.Tensor)


def test_packed_cross_attention_is_refused_where_it_would_be_wrong():
    decoder = tiny_model(SEQ2SEQ[0]).decoder
    decoder.config._attn_implementation_internal = "flash_attention_2"
    positions = torch.tensor([[0, 1, 0, 1]])
    with pytest.raises(ValueError, match="takes no mask, which packed rows need in cross attention"):
        decoder(
            random_ids(1, 4),
            position_ids=positions,
            encoder_hidden_states=torch.zeros(1, 4, 32),
            encoder_position_ids=positions,
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_keys", [1, 3, 7, 8, 15, 16, 17])
def test_the_softmax_of_few_keys_and_its_gradient_are_torchs(num_keys, dtype):
    scores = torch.randn(2, 3, 4, num_keys).to(dtype)
    scores[0, ..., :-1] = torch.finfo(dtype).min  # padding, and with one key nothing
    scores[1, 0, 0] = torch.finfo(dtype).min  # a row that sees nothing: the same for all
    grad = torch.randn(scores.shape)
    found = []
    for function in (softmax, lambda values: values.softmax(-1, dtype=torch.float32)):
        values = scores.clone().requires_grad_()
        weights = function(values)
        weights.backward(grad)
        found.append((weights.detach(), values.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6 if dtype == torch.float32 else 1e-2)
    assert found[0][0].shape == scores.shape
    torch.testing.assert_close(found[0][0][1, 0, 0], torch.full((num_keys,), 1 / num_keys))


def test_short_rows_are_traced_as_they_are():
    scores = torch.randn(1, 2, 3, 5)
    exported = torch.export.export(_Softmax(), (scores,), dynamic_shapes=({3: torch.export.Dim("keys", min=2)},))
    longer = torch.randn(1, 2, 3, 40)
    torch.testing.assert_close(exported.module()(longer), longer.softmax(-1))


class _Softmax(torch.nn.Module):
    def forward(self, scores):
        return softmax(scores)
