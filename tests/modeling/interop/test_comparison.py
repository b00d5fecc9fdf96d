"""The proof itself: it fails for every wrong weight and knob that changes something, and passes whatever is right."""

import pytest
import torch
from stock_zoo import CONFIGS, stock_model
from torch import nn
from transformers.activations import ACT2FN

from vanilla_transformers import VanillaDecoderForCausalLM, VanillaEncoderForMaskedLM, convert
from vanilla_transformers.interop import ARCHITECTURES, compare
from vanilla_transformers.interop.comparison import there_and_back, tokenizer_check
from vanilla_transformers.model.embeddings import InputEmbedding, LearnedPositions, SinusoidalPositions
from vanilla_transformers.model.feed_forward import FeedForward

HEADS = {name: next(head for head in architecture.heads if head.endswith("lm")) for name, architecture in
         ARCHITECTURES.items()}  # fmt: skip


def first(model, kind):
    return next(module for module in model.modules() if isinstance(module, kind))


def attentions(model):
    return [module for name, module in model.named_modules() if name.endswith(("self_attn", "cross_attn"))]


def swap_queries_and_keys(model):
    module = attentions(model)[-1]
    module.q_proj, module.k_proj = module.k_proj, module.q_proj


def forget_a_transposition(model):
    weight = attentions(model)[-1].v_proj.weight
    weight.data = weight.data.T.contiguous()


def take_another_activation(model):
    first(model, FeedForward).activation = ACT2FN["tanh"]


def begin_at_another_position(model):
    positions = first(model, (LearnedPositions, SinusoidalPositions))
    if isinstance(positions, LearnedPositions):
        positions.offset += 1
    else:
        positions.table = positions.compute(torch.arange(positions.num_positions) + 1)


def scale_embeddings_otherwise(model):
    first(model, InputEmbedding).scale *= 2


def take_a_larger_epsilon(model):
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-3


FAULTS = [
    swap_queries_and_keys,
    forget_a_transposition,
    take_another_activation,
    begin_at_another_position,
    scale_embeddings_otherwise,
    take_a_larger_epsilon,
]


def failed(checks):
    return [check.name for check in checks if not check.passed]


@pytest.mark.parametrize("model_type", list(CONFIGS))
def test_each_fault_is_noticed(model_type):
    stock = stock_model(model_type, HEADS[model_type])
    for fault in FAULTS:
        ours = convert(stock)
        assert failed(compare(stock, ours)) == []
        fault(ours)
        assert failed(compare(stock, ours)), fault.__name__


@pytest.mark.parametrize("model_type", list(CONFIGS))
def test_one_wrong_number_anywhere_is_noticed(model_type):
    head = HEADS[model_type]
    stock = stock_model(model_type, head)
    ours = convert(stock)
    architecture = ARCHITECTURES[model_type]
    assert there_and_back(architecture, ours, stock, head).passed
    for name, weight in ours.named_parameters():
        before = weight.data.clone()
        weight.data.view(-1)[-1] += 1e-3
        assert not there_and_back(architecture, ours, stock, head).passed, name
        weight.data.copy_(before)


def test_token_types_are_compared():
    stock = stock_model("bert", "base")
    ours = convert(stock)
    with torch.no_grad():
        ours.input_embedding.token_types.weight[2, 0] += 1
    assert "last_hidden_state, random rows" in failed(compare(stock, ours))


def test_other_generation_settings_are_noticed():
    stock = stock_model("bart", "seq2seq-lm")
    ours = convert(stock)
    ours.generation_config.num_beams = 5
    assert failed(compare(stock, ours)) == ["generation settings"]
    assert stock.generation_config.num_beams != 5  # nothing is shared


@pytest.mark.parametrize(
    "settings",
    [
        dict(num_beams=4, num_beam_groups=2, diversity_penalty=1.0),
        dict(penalty_alpha=0.6, top_k=4),
        dict(stop_strings=["dog"]),
        dict(prompt_lookup_num_tokens=3),
        dict(min_length=56, max_length=140, num_return_sequences=4, num_beams=4),
        dict(suppress_tokens=[5], bad_words_ids=[[6]], no_repeat_ngram_size=2, repetition_penalty=1.5),
    ],
    ids=str,
)
def test_settings_of_another_kind_of_search_are_kept_and_not_run(settings, recwarn):
    stock = stock_model("gpt2", "causal-lm")
    stock.generation_config.update(**settings)
    ours = convert(stock)
    assert failed(compare(stock, ours)) == []
    assert {name: getattr(ours.generation_config, name) for name in settings} == settings
    assert not [warning for warning in recwarn if "length" in str(warning.message)]


@pytest.mark.parametrize("length", [1, 4, 13])
@pytest.mark.parametrize("model_type", ["bert", "gpt2", "opt", "marian", "bart", "m2m_100"])
def test_few_positions(model_type, length):
    name = "n_positions" if model_type == "gpt2" else "max_position_embeddings"
    stock = stock_model(model_type, HEADS[model_type], **{name: length})
    checks = compare(stock, convert(stock))
    assert failed(checks) == []
    assert "beam-4 tokens, random rows" in {check.name for check in checks} or model_type == "bert"


@pytest.mark.parametrize("model_type", ["gpt2", "opt"])
def test_a_classifier_that_knows_no_padding(model_type):
    stock = stock_model(model_type, "sequence-classification", pad_token_id=None)
    assert failed(compare(stock, convert(stock))) == []


def test_a_vocabulary_of_one_token():
    stock = stock_model("gpt2", "causal-lm", vocab_size=1, pad_token_id=None, bos_token_id=0, eos_token_id=0)
    checks = compare(stock, convert(stock))
    assert "greedy tokens, random rows" in {check.name for check in checks}
    assert failed(checks) == []


def test_a_tokenizer_that_comes_back_as_another_is_noticed():
    from transformers import PreTrainedTokenizerFast

    from vanilla_recipes.data.tokenizers import train_encoder_tokenizer

    tokenizer = train_encoder_tokenizer(["A dog is running across the green field."] * 3, 60, 32)
    assert tokenizer_check(tokenizer, tokenizer).passed
    assert not tokenizer_check(tokenizer, PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer)).passed


@pytest.mark.parametrize(
    ("model_class", "fields", "target"),
    [
        (VanillaEncoderForMaskedLM, {"position_offset": 3}, "bert"),
        (VanillaDecoderForCausalLM, {"position_offset": 2}, "gpt2"),
    ],
    ids=str,
)
def test_positions_that_move_come_back_but_for_the_rows_that_nothing_reads(model_class, fields, target):
    config = model_class.config_class(
        vocab_size=37,
        hidden_size=24,
        num_attention_heads=3,
        num_hidden_layers=2,
        intermediate_size=36,
        max_position_embeddings=40,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **fields,
    )
    ours = model_class(config).eval()
    stock = convert(ours, to=target)
    assert there_and_back(ARCHITECTURES[target], ours, stock, HEADS[target]).passed
    assert failed(compare(ours, stock)) == []
    ours.model.input_embedding.positions.weight.data[fields["position_offset"]] += 1
    assert not there_and_back(ARCHITECTURES[target], ours, stock, HEADS[target]).passed
