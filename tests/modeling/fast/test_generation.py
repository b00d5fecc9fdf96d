"""The searches behind `generate`: the tokens of transformers' own loops, what is left to these, and what is saved."""

import peft
import pytest
import torch
from tiny import LM_HEADS, PAD, name_of, random_ids, tiny_model
from transformers import DynamicCache, GenerationMixin, LogitsProcessorList, StoppingCriteriaList
from transformers.generation import EosTokenCriteria, LogitNormalization, MaxLengthCriteria, MaxTimeCriteria
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vanilla_transformers.fast import fused_layers, generation, search, step_decoder
from vanilla_transformers.fast.step_decoder import SlotLayer
from vanilla_transformers.fast.top_k import likeliest, top_k, top_log_probs
from vanilla_transformers.model.caches import CACHE
from vanilla_transformers.model.feed_forward import FeedForward

SEQ2SEQ, DECODER = LM_HEADS[0], LM_HEADS[2]
SEARCHES = [
    {},
    {"eos_token_id": [3, 7, 9], "min_new_tokens": 4},
    {"bad_words_ids": [[PAD]]},
    {"bad_words_ids": [[PAD], [12, 13]], "no_repeat_ngram_size": 2},
    {"forced_bos_token_id": 6, "suppress_tokens": [11], "min_length": 12},
    {"forced_eos_token_id": 3, "begin_suppress_tokens": [8], "sequence_bias": [[[9], 2.0]]},
    {"num_beams": 2},
    {"num_beams": 4, "early_stopping": True},
    {"num_beams": 4, "early_stopping": True, "bad_words_ids": [[PAD]], "length_penalty": 2.0},
    {"num_beams": 5, "num_return_sequences": 3, "length_penalty": 0.3},
    {"num_beams": 3, "num_return_sequences": 3, "early_stopping": "never"},
    {"num_beams": 4, "num_return_sequences": 2, "eos_token_id": [3, 7, 9], "length_penalty": -1.0},
    {"num_beams": 4, "no_repeat_ngram_size": 2, "exponential_decay_length_penalty": (6, 1.1)},
    {"num_beams": 3, "forced_bos_token_id": 6, "forced_eos_token_id": 3, "min_length": 6},
    {"num_beams": 2, "pad_token_id": 0},
]


def peaked_model(model_class, **knobs):
    """Its predictions are far apart, so that no sum of them is nearly another one, and no copies of its input."""
    knobs = {"initializer_range": 1.0, "norm_position": "pre", "tie_word_embeddings": False} | knobs
    return tiny_model(model_class, **knobs)


def batch(num_rows: int = 11, length: int = 9) -> dict[str, torch.Tensor]:
    ids = random_ids(num_rows, length)
    mask = torch.ones_like(ids)
    mask[3, :4] = mask[7, :1] = 0  # on the left, as decoders need it
    return {"input_ids": ids.masked_fill(mask == 0, PAD), "attention_mask": mask}


def stock_loop(settings):
    return GenerationMixin._beam_search if settings.get("num_beams", 1) > 1 else GenerationMixin._sample


def both(model, inputs, **settings):
    """What our search finds, and transformers'."""
    ours = model.generate(**inputs, **settings)
    return ours, model.generate(**inputs, **settings, custom_generate=stock_loop(settings))


@pytest.fixture
def searches(monkeypatch):
    """Counts how often our own searches were used."""
    used = []
    for name in ("token_search", "beam_search"):
        function = getattr(search, name)
        monkeypatch.setattr(generation, name, lambda *args, f=function: used.append(f.__name__) or f(*args))
    return used


@pytest.mark.filterwarnings("ignore:Unfeasible length")
@pytest.mark.parametrize("max_new_tokens", [1, 6, 40])
@pytest.mark.parametrize("settings", SEARCHES, ids=str)
@pytest.mark.parametrize("model_class", [SEQ2SEQ, DECODER], ids=name_of)
def test_tokens_are_those_of_transformers(model_class, settings, max_new_tokens, searches):
    model = peaked_model(model_class)
    ours, theirs = both(model, batch(), max_new_tokens=max_new_tokens, **settings)
    assert torch.equal(ours, theirs)
    assert len(searches) == 1
    assert max_new_tokens == 1 or len(ours[:, -max_new_tokens:].unique()) > 8  # no model that always says the same


@pytest.mark.parametrize(
    "settings",
    [
        {"top_k": 0},
        {"temperature": 0.7, "top_k": 7, "num_return_sequences": 3},
        {"top_p": 0.8, "temperature": 3.0, "repetition_penalty": 1.3},
        {"min_p": 0.05, "top_k": 0, "bad_words_ids": [[PAD]]},
        {"typical_p": 0.7, "top_k": 0, "eos_token_id": [3, 7, 9, 12, 20, 31]},
        {"epsilon_cutoff": 0.02, "eta_cutoff": 0.02, "eos_token_id": [3, 7, 9, 12, 20, 31]},
    ],
    ids=str,
)
@pytest.mark.parametrize("model_class", [SEQ2SEQ, DECODER], ids=name_of)
def test_samples_are_those_of_transformers(model_class, settings, searches):
    settings = {"do_sample": True, "max_new_tokens": 30} | settings
    if model_class is DECODER and "repetition_penalty" in settings:
        del settings["repetition_penalty"]  # which leaves a prompt out, row by row
    found = []
    model = tiny_model(model_class)
    for custom in ({}, {"custom_generate": GenerationMixin._sample}):
        torch.manual_seed(5)
        found.append(model.generate(**batch(), **settings, **custom))
    assert torch.equal(*found)
    assert searches
    assert len(found[0].unique()) > 10


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize(
    "knobs",
    [
        {"norm_position": "post"},
        {"position_embedding_type": "learned"},
        {"position_embedding_type": "none"},
        {"attn_implementation": "eager"},
        {"num_attention_heads": 1},
        {"hidden_act": "gelu", "lm_head_bias": True},
        {"hidden_act": "gelu_pytorch_tanh", "embedding_norm": True},
        {"hidden_act": "silu", "final_norm": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("model_class", [SEQ2SEQ, DECODER], ids=name_of)
def test_models_of_all_kinds(model_class, knobs, num_beams, searches):
    knobs = dict(knobs)
    kernel = knobs.pop("attn_implementation", None)
    model = peaked_model(model_class, **knobs)
    if kernel is not None:
        model.set_attn_implementation(kernel)
    assert torch.equal(*both(model, batch(), max_new_tokens=30, num_beams=num_beams))
    assert searches


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("hidden_act", ["relu", "gelu", "gelu_pytorch_tanh"])
@pytest.mark.parametrize("norm_position", ["pre", "post"])
@pytest.mark.parametrize("model_class", [SEQ2SEQ, DECODER], ids=name_of)
@pytest.mark.parametrize("way", ["many heads", "few heads", "not packed", "modules"])
def test_all_ways_through_the_layers(way, model_class, norm_position, hidden_act, num_beams, monkeypatch, searches):
    if way == "not packed":
        monkeypatch.setattr(fused_layers, "_packs", lambda weight: False)
    elif way == "modules":
        monkeypatch.setattr(step_decoder, "can_fuse", lambda stack, head: False)
    else:
        monkeypatch.setattr(fused_layers, "_MANY_HEADS", 1 if way == "many heads" else 10**9)
    model = peaked_model(model_class, norm_position=norm_position, hidden_act=hidden_act)
    assert torch.equal(*both(model, batch(), max_new_tokens=30, num_beams=num_beams))
    assert searches


@pytest.mark.parametrize("settings", [{}, {"eos_token_id": list(range(3, 9))}, {"num_beams": 4}], ids=str)
@pytest.mark.parametrize("way", ["many heads", "few heads"])
def test_free_slots_change_nothing(way, settings, monkeypatch, searches):
    monkeypatch.setattr(fused_layers, "_MANY_HEADS", 1 if way == "many heads" else 10**9)
    monkeypatch.setattr(
        step_decoder.StepDecoder, "_is_too_much_for_fp32", lambda self: not self.slot_layers[0].is_whole
    )
    rooms = set()
    show = SlotLayer._show
    monkeypatch.setattr(
        SlotLayer, "_show", lambda self, length: rooms.add((self.is_whole, self.capacity)) or show(self, length)
    )
    assert torch.equal(*both(peaked_model(DECODER), batch(), max_new_tokens=40, **settings))
    assert {(True, 16), (True, 32)} <= rooms
    assert searches


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="needs a CPU that multiplies in bf16")
@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("most", [0, 60_000, 10**9])
def test_many_keys_are_held_in_bf16(most, num_beams, monkeypatch):
    monkeypatch.setattr(step_decoder, "_MOST_IN_FP32", most)
    model = tiny_model(DECODER).to(torch.bfloat16)
    states, types = [], []
    monkeypatch.setattr(step_decoder.StepDecoder, "step", recorded(step_decoder.StepDecoder.step, states))
    show = SlotLayer._show
    monkeypatch.setattr(
        SlotLayer, "_show", lambda self, length: types.append(self.buffers[0].dtype) or show(self, length)
    )
    model.generate(**batch(), max_new_tokens=30, num_beams=num_beams)
    assert (torch.float32 in types) == bool(most)
    assert types[-1] == (torch.float32 if most == 10**9 else torch.bfloat16)
    monkeypatch.setattr(step_decoder, "can_fuse", lambda stack, head: False)
    model.generate(**batch(), max_new_tokens=30, num_beams=num_beams)
    torch.testing.assert_close(states[0], states[len(states) // 2], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model_class", [SEQ2SEQ, DECODER], ids=name_of)
def test_a_plain_step_is_one_through_the_modules(model_class, dtype, monkeypatch):
    model = peaked_model(model_class).to(dtype)
    found = []
    for is_plain in (True, False):
        if not is_plain:
            monkeypatch.setattr(step_decoder, "can_fuse", lambda stack, head: False)
        states = []
        monkeypatch.setattr(
            step_decoder.StepDecoder, "step", recorded(step_decoder.StepDecoder.step, states), raising=True
        )
        model.generate(**batch(), max_new_tokens=12)
        monkeypatch.undo()
        found.append(states[0])
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.05}[dtype]
    assert found[0].dtype == dtype
    torch.testing.assert_close(*found, rtol=tolerance, atol=tolerance)


def recorded(step, states):
    def wrapper(*args, **kwargs):
        states.append(step(*args, **kwargs))
        return states[-1]

    return wrapper


def without_bias(model):
    attention = model.model.layers[0].self_attn
    attention.q_proj.bias = None
    torch.nn.init.normal_(attention.v_proj.bias, generator=torch.Generator().manual_seed(0))


def with_hook(model):
    model.model.layers[0].feed_forward.register_forward_hook(lambda module, args, output: -output)


def with_scaled_forward(model):
    attention = model.model.layers[0].self_attn
    forward = attention.o_proj.forward
    attention.o_proj.forward = lambda states: 0.1 * forward(states)


def with_another_linear(model):
    class Shifted(torch.nn.Linear):
        def forward(self, input):
            return super().forward(input + 1.0)

    model.model.layers[0].feed_forward.up_proj.__class__ = Shifted


def with_parametrization(model):
    class Negated(torch.nn.Module):
        def forward(self, weight):
            return -weight

    torch.nn.utils.parametrize.register_parametrization(
        model.model.layers[0].feed_forward.down_proj, "weight", Negated()
    )


def with_strided_bias(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.bias is not None:
            bias = torch.randn(2 * len(module.bias), generator=torch.Generator().manual_seed(0))
            module.bias = torch.nn.Parameter(bias[::2])


def with_sparse_weight(model):
    module = model.model.layers[0].feed_forward.up_proj
    module.weight = torch.nn.Parameter((-module.weight.detach()).to_sparse_csr(), requires_grad=False)


def with_exchanged_layers(model):
    model.model.layers = torch.nn.ModuleList([*model.model.layers[1:], model.model.layers[0]])


def with_fewer_layers(model):
    model.model.layers = model.model.layers[1:]


def with_a_post_norm(model):
    model.model.layers[0].feed_forward_residual.is_pre_norm = False


def with_dropout(model):
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3


@pytest.mark.parametrize(
    "change",
    [
        without_bias,
        with_hook,
        with_scaled_forward,
        with_another_linear,
        with_parametrization,
        with_strided_bias,
        with_sparse_weight,
        with_exchanged_layers,
        with_fewer_layers,
        with_a_post_norm,
        with_dropout,
    ],
)
def test_layers_that_are_more_than_their_weights(change, searches):
    model = peaked_model(DECODER)
    change(model)
    torch.manual_seed(3)
    ours = model.generate(**batch(), max_new_tokens=20)
    torch.manual_seed(3)
    theirs = model.generate(**batch(), max_new_tokens=20, custom_generate=GenerationMixin._sample)
    assert torch.equal(ours, theirs)
    assert bool(searches) == (change not in (with_exchanged_layers, with_fewer_layers, with_dropout))
    assert not torch.equal(ours, peaked_model(DECODER).generate(**batch(), max_new_tokens=20))


def negative(kernel):
    return lambda *args, **kwargs: (-kernel(*args, **kwargs)[0], None)


def test_another_kernel_of_the_same_name(monkeypatch, searches):
    model = peaked_model(DECODER)
    before = model.generate(**batch(), max_new_tokens=20)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", negative(ALL_ATTENTION_FUNCTIONS["sdpa"]))
    ours, theirs = both(model, batch(), max_new_tokens=20)
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, before)
    assert searches


def test_another_method_of_a_class(monkeypatch, searches):
    model = peaked_model(DECODER)
    before = model.generate(**batch(), max_new_tokens=20)
    feed_forward = FeedForward.forward
    monkeypatch.setattr(FeedForward, "forward", lambda self, states: -feed_forward(self, states))
    ours, theirs = both(model, batch(), max_new_tokens=20)
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_another_default_type(dtype, searches):
    model = peaked_model(SEQ2SEQ)
    try:
        torch.set_default_dtype(dtype)
        assert torch.equal(*both(model, batch(), max_new_tokens=20, num_beams=3))
    finally:
        torch.set_default_dtype(torch.float32)
    assert searches


@pytest.mark.parametrize("settings", [{"suppress_tokens": None}, {"bad_words_ids": None}], ids=str)
@pytest.mark.parametrize("allowed", [[9], [9, 3], [9, 3, 11, 12]])
def test_fewer_allowed_tokens_than_beams(allowed, settings, searches):
    forbidden = [token for token in range(67) if token not in allowed]
    name = next(iter(settings))
    given = forbidden if name == "suppress_tokens" else [[token] for token in forbidden]
    options = {name: given, "num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 12}
    ours = peaked_model(SEQ2SEQ).generate(**batch(), **options)
    assert searches
    assert set(ours[:, 1:].unique().tolist()) <= {*allowed, PAD, 3}  # an end token is never a bad word


def test_ids_of_another_type(searches):
    inputs = {name: tensor.int() for name, tensor in batch().items()}
    ours, theirs = both(peaked_model(DECODER), inputs, max_new_tokens=12)
    assert torch.equal(ours, theirs)
    assert ours.dtype == theirs.dtype == torch.long
    assert searches


@pytest.mark.parametrize("num_rows", [1, 15, 17, 33, 71])
@pytest.mark.parametrize("is_packed", [True, False])
def test_products_of_any_number_of_rows(is_packed, num_rows):
    linears = [torch.nn.Linear(24, size) for size in (16, 8)]
    if is_packed and not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        pytest.skip("torch has no oneDNN here")
    rows, residual = torch.randn(num_rows, 24), torch.randn(num_rows, 24)
    with torch.no_grad():
        expected = torch.cat([each(rows) for each in linears], dim=-1)
        product = fused_layers.Product(*linears, is_packed=is_packed)
        torch.testing.assert_close(product(rows), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(product(rows, residual), residual + expected, rtol=1e-5, atol=1e-5)


def test_without_onednn(searches):
    model = peaked_model(SEQ2SEQ)
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(*both(model, batch(), max_new_tokens=20, num_beams=2))
    assert searches


def test_a_large_model_is_not_held_twice(monkeypatch):
    model = peaked_model(DECODER)
    assert fused_layers.can_fuse(model.model, model.lm_head)
    monkeypatch.setattr(fused_layers, "_MOST_COPIED", 1000)
    assert not fused_layers.can_fuse(model.model, model.lm_head)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_prompts_of_a_decoder_of_targets(num_beams, searches):
    model, prompt = peaked_model(SEQ2SEQ), random_ids(11, 4, seed=5)
    ours, theirs = both(model, batch(), decoder_input_ids=prompt, max_new_tokens=12, num_beams=num_beams)
    assert torch.equal(ours, theirs)
    assert searches


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("model_class", [SEQ2SEQ, DECODER], ids=name_of)
def test_a_sentence_is_answered_alike_in_any_company(model_class, num_beams):
    model, inputs = peaked_model(model_class), batch()
    settings = {"max_new_tokens": 30, "num_beams": num_beams}
    together = model.generate(**inputs, **settings)
    for row, expected in enumerate(together):
        alone = model.generate(**{name: tensor[row : row + 1] for name, tensor in inputs.items()}, **settings)[0]
        assert torch.equal(alone, expected[: len(alone)])
        assert (expected[len(alone) :] == PAD).all()


@pytest.mark.parametrize("num_beams", [1, 4])
def test_finished_sentences_leave(num_beams):
    model = peaked_model(SEQ2SEQ)
    ends = model.generate(**batch(40), max_new_tokens=12)[:, 4:].flatten().mode()[0]  # which many come to
    sizes = []
    model.model.decoder.layers[0].register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[:2]))
    ours = model.generate(**batch(40), max_new_tokens=40, num_beams=num_beams, eos_token_id=int(ends))
    rows = [size[0] for size in sizes]
    assert sizes[0] == (40, 1)  # whatever the number of beams: they are all the same at first
    assert sizes[1][1] == num_beams
    assert rows == sorted(rows, reverse=True)
    assert sum(rows) < 0.9 * 40 * len(rows)
    assert len(rows) == ours.shape[1] - 1


def test_what_no_beam_sees_is_forgotten():
    model = peaked_model(DECODER)
    lengths = []
    model.model.layers[0].register_forward_pre_hook(lambda _, args: lengths.append(args[1].shape[-1]))  # of the mask
    model.generate(**batch(), max_new_tokens=50, num_beams=4, min_new_tokens=50)
    assert max(lengths) < 0.6 * (9 + 4 * 50)


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": True, "num_beams": 2},
        {"return_dict_in_generate": True, "output_scores": True},
        {"return_dict_in_generate": True, "num_beams": 2},
        {"use_cache": False},
        {"cache_implementation": "static"},
        {CACHE: "a cache"},
        pytest.param({"logits_processor": LogitsProcessorList([LogitNormalization()])}, id="a processor"),
        pytest.param({"stopping_criteria": StoppingCriteriaList([MaxTimeCriteria(100.0)])}, id="a criterion"),
        {"encoder_no_repeat_ngram_size": 2},
        {"repetition_penalty": 1.5},  # which leaves the prompt out, row by row
        {"num_beams": 30, "max_new_tokens": 2},
    ],
    ids=str,
)
def test_what_is_left_to_transformers(settings, searches):
    model, settings = peaked_model(DECODER), {"max_new_tokens": 4} | settings
    if CACHE in settings:
        cache = DynamicCache(config=model.config)
        model(**batch(), **{CACHE: cache})
        cache.crop(-1)
        settings[CACHE] = cache
    model.generate(**batch(), **settings)
    assert searches == []


def test_hooked_models_are_left_to_transformers(searches):
    model = peaked_model(DECODER)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    model.generate(**batch(), max_new_tokens=4)
    assert len(calls) == 4
    assert searches == []


def negated(model_class):
    """A subclass whose logits are those of its base with the other sign."""

    class Negated(model_class):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = -output.logits
            return output

    return Negated


@pytest.mark.parametrize("model_class", [SEQ2SEQ, DECODER], ids=name_of)
def test_what_acts_beside_the_layers_is_left_to_transformers(model_class, searches):
    models = [peaked_model(negated(model_class)), peaked_model(model_class), peaked_model(model_class)]
    models[1].model.register_forward_hook(lambda *_: None)
    models[2].model.forward = models[2].model.forward
    if model_class is SEQ2SEQ:
        models.append(peaked_model(model_class))
        models[3].model.decoder.register_forward_hook(lambda *_: None)
    for model in models:
        for num_beams in (1, 3):
            assert torch.equal(*both(model, batch(), max_new_tokens=5, num_beams=num_beams))
    assert searches == []


@pytest.mark.parametrize("num_beams", [1, 3])
def test_prompts_of_peft_are_left_to_transformers(num_beams, searches):
    config = peft.PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=4, token_dim=32, num_attention_heads=4, num_layers=2
    )
    model = peft.get_peft_model(peaked_model(DECODER), config).eval()
    assert torch.equal(*both(model, batch(), max_new_tokens=6, num_beams=num_beams))
    assert searches == []


def test_each_row_with_an_adapter_of_its_own(searches):
    model = peft.get_peft_model(peaked_model(DECODER), peft.LoraConfig(target_modules=["q_proj"])).eval()
    names = ["default", "__base__"] * 5 + ["default"]
    model.generate(**batch(), max_new_tokens=6, adapter_names=names)
    assert searches == []
    model.generate(**batch(), max_new_tokens=6)
    assert searches


@pytest.mark.parametrize("num_beams", [1, 3])
def test_positions_of_a_source(num_beams, searches):
    model = peaked_model(SEQ2SEQ)
    inputs = {"input_ids": random_ids(11, 9), "position_ids": torch.arange(3, 12).repeat(11, 1)}
    assert torch.equal(*both(model, inputs, max_new_tokens=9, num_beams=num_beams))
    assert searches == []


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_source_that_is_hidden_entirely(num_beams, searches):
    model, inputs = peaked_model(SEQ2SEQ), batch()
    inputs["attention_mask"][5] = 0
    assert torch.equal(*both(model, inputs, max_new_tokens=9, num_beams=num_beams))
    assert searches


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize(
    "criteria",
    [[EosTokenCriteria(list(range(5, 25)))], [MaxLengthCriteria(16), MaxLengthCriteria(14)]],
    ids=["ends", "lengths"],
)
def test_more_than_one_rule_of_a_kind(criteria, num_beams, searches):
    settings = {"max_new_tokens": 12, "num_beams": num_beams, "stopping_criteria": StoppingCriteriaList(criteria)}
    assert torch.equal(*both(peaked_model(DECODER), batch(), **settings))
    assert searches == []


@pytest.mark.parametrize("num_beams", [1, 3])
def test_an_end_token_that_is_a_bad_word(num_beams):
    settings = {"bad_words_ids": [[3]], "eos_token_id": 3, "max_new_tokens": 6, "num_beams": num_beams}
    assert torch.equal(*both(peaked_model(DECODER), batch(), **settings))


def test_a_cache_of_the_callers_is_filled(searches):
    model = peaked_model(DECODER)
    cache = DynamicCache(config=model.config)
    model.generate(**batch(), max_new_tokens=6, **{CACHE: cache})
    assert cache.get_seq_length() == 9 + 5
    assert searches == []


@pytest.mark.parametrize("num_beams", [1, 4])
def test_bf16(num_beams, searches):
    model = peaked_model(SEQ2SEQ).to(torch.bfloat16)
    ours, theirs = both(model, batch(), max_new_tokens=12, num_beams=num_beams)
    assert ours.shape[0] == theirs.shape[0]
    first = min(ours.shape[1], theirs.shape[1], 4)
    assert (ours[:, :first] == theirs[:, :first]).float().mean() > 0.8  # later ones follow from roundings
    assert searches


# Pieces


@pytest.mark.parametrize("size", [64, 320, 331, 4096])
def test_the_largest_values(size):
    values = torch.randn(3, 5, size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(top_k(values, 8), tuple(values.topk(8)), rtol=0, atol=0)
    flat = values.flatten(0, 1).round(decimals=1)  # with ties
    assert torch.equal(likeliest(flat.clone(), None), flat.argmax(-1))
    banned = flat.argmax(-1).unique()
    expected = flat.index_fill(1, banned, -torch.inf).argmax(-1)
    assert torch.equal(likeliest(flat.clone(), banned), expected)


@pytest.mark.parametrize("offset", [0.0, 1024.0])
@pytest.mark.parametrize("banned", [None, torch.tensor([5, 17])])
def test_the_largest_log_probabilities(banned, offset):
    logits = 5 * torch.randn(4, 3, 640, generator=torch.Generator().manual_seed(0))
    logits = logits.mul(512).round().div(512)  # exact with any offset
    logits[..., 17] = 40.0  # the likeliest of all
    expected = logits.log_softmax(-1)
    if banned is not None:
        expected[..., banned] = -torch.inf
    logits += offset  # which must not cost the small differences their digits
    values, tokens = expected.topk(6)
    found, places = top_log_probs(logits.clone(), 6, banned)
    assert torch.equal(places, tokens)
    torch.testing.assert_close(found, values, rtol=1e-6, atol=2e-6)


def test_slots():
    layer = SlotLayer(num_free=3)
    states = torch.randn(2, 4, 7, 8)  # (B, H, N, W)
    for start, end in ((0, 2), (2, 3), (3, 7)):
        keys, values = layer.update(states[:, :, start:end], -states[:, :, start:end])
    torch.testing.assert_close(keys, states)
    torch.testing.assert_close(values, -states)
    layer.batch_select_indices(torch.tensor([1]))
    layer.keep_slots(torch.tensor([[6, 0, 2]]))
    torch.testing.assert_close(layer.keys, states[1:, :, [6, 0, 2]])
    keys, _ = layer.update(states[1:, :, :1], states[1:, :, :1])
    torch.testing.assert_close(keys, states[1:, :, [6, 0, 2, 0]])
    assert layer.get_seq_length() == 4


@pytest.mark.parametrize("num_beams", [1, 4])
def test_repeated_tokens_of_an_answer(num_beams, searches):
    settings = {"repetition_penalty": 1.5, "max_new_tokens": 12, "num_beams": num_beams}
    assert torch.equal(*both(peaked_model(SEQ2SEQ), batch(), **settings))
    assert searches


@pytest.mark.parametrize("num_beams", [1, 2])
def test_room_is_made_for_as_many_tokens_as_there_are(num_beams):
    model = peaked_model(DECODER, max_position_embeddings=400)
    inputs = {name: tensor[:2] for name, tensor in batch().items()}
    settings = {"max_new_tokens": 150, "min_new_tokens": 150, "num_beams": num_beams}
    assert torch.equal(*both(model, inputs, **settings))
    settings["max_length"] = 2_000_000_000  # for which there is no memory
    del settings["max_new_tokens"]
    ends = list(range(5, 20))
    assert model.generate(**inputs, **settings, eos_token_id=ends).shape[1] < 400
