"""Attention weights beside sdpa: those of the eager implementations, and heads that are switched off."""

import pytest
import torch
from tiny import LENGTH, LM_HEADS, PAD, VOCAB_SIZE, name_of, random_ids, tiny_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AlbertConfig,
    AlbertModel,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    FSMTConfig,
    FSMTForConditionalGeneration,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

from vanilla_transformers import VanillaDecoderForCausalLM
from vanilla_transformers.inspection.probe import AttentionMapError, Probe, attention_sites, probing

TOLERANCE = dict(rtol=0, atol=1e-6)
SIZES = {"vocab_size": VOCAB_SIZE, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
IDS = {"pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": 3}
SEQ2SEQ = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
           "decoder_attention_heads": 2, "encoder_ffn_dim": 37, "decoder_ffn_dim": 37, "decoder_start_token_id": 2,
           "vocab_size": VOCAB_SIZE, "max_position_embeddings": 64}  # fmt: skip
STOCK = {
    "bert": lambda: BertForMaskedLM(BertConfig(**SIZES, **IDS, intermediate_size=37)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB_SIZE, n_embd=32, n_layer=2, n_head=4, **IDS)),
    "marian": lambda: MarianMTModel(MarianConfig(**SEQ2SEQ, **IDS)),
    "bart": lambda: BartForConditionalGeneration(BartConfig(**SEQ2SEQ, **IDS)),
    "roberta": lambda: RobertaForMaskedLM(RobertaConfig(**SIZES, **IDS, intermediate_size=37)),
    "distilbert": lambda: DistilBertForMaskedLM(
        DistilBertConfig(vocab_size=VOCAB_SIZE, dim=32, n_layers=2, n_heads=4, hidden_dim=37, pad_token_id=PAD)
    ),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, **IDS, num_key_value_heads=2, intermediate_size=37)),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCAB_SIZE,
            d_model=32,
            d_kv=8,
            d_ff=37,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=2,
            **IDS,
        )
    ),
}
MODELS = [*LM_HEADS, *STOCK]
NAMES = [model if isinstance(model, str) else name_of(model) for model in MODELS]
ATTENTIONS = {"encoder": "encoder_attentions", "decoder": "decoder_attentions", "cross": "cross_attentions"}


def make(model):
    """A random model with sharp attention, which a wrong scale or mask would change."""
    if not isinstance(model, str):
        return tiny_model(model)
    torch.manual_seed(0)
    made = STOCK[model]().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            noise = 0.15 * torch.randn_like(parameter)
            parameter.copy_(parameter + noise if parameter.ndim == 1 else noise)
    return made


def inputs_for(model, padding: str) -> dict[str, torch.Tensor]:
    input_ids = random_ids(2, LENGTH)
    attention_mask = torch.ones_like(input_ids)
    if padding != "none":
        attention_mask[1, :2] = 0
    if padding == "right":
        attention_mask = attention_mask.flip(1)
    inputs = {"input_ids": input_ids.masked_fill(attention_mask == 0, PAD), "attention_mask": attention_mask}
    return inputs | {"decoder_input_ids": random_ids(2, 5, seed=2)} if model.config.is_encoder_decoder else inputs


def logits(model, inputs) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def eager_weights(model, inputs) -> dict[str, tuple[torch.Tensor, ...]]:
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        outputs = model(**inputs, output_attentions=True)
    model.set_attn_implementation(before)
    if model.config.is_encoder_decoder:
        return {kind: outputs[name] for kind, name in ATTENTIONS.items()}
    return {site.kind: outputs.attentions for site in attention_sites(model)}


@pytest.mark.parametrize("padding", ["none", "left", "right"])
@pytest.mark.parametrize("name", MODELS, ids=NAMES)
def test_weights_are_those_of_the_eager_model_and_sum_to_1(name, padding):
    model = make(name)
    inputs = inputs_for(model, padding)
    expected = eager_weights(model, inputs)
    sites = attention_sites(model)
    assert {site.kind: sum(other.kind == site.kind for other in sites) for site in sites} == {
        kind: len(weights) for kind, weights in expected.items()
    }
    probes = {site.module: Probe(heads=range(site.num_heads)) for site in sites}
    with probing(model, probes):
        logits(model, inputs)
    for site in sites:
        weights = probes[site.module].weights
        torch.testing.assert_close(weights, expected[site.kind][site.layer], **TOLERANCE)
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]), **TOLERANCE)


@pytest.mark.parametrize("name", MODELS, ids=NAMES)
def test_some_heads_of_a_layer(name):
    model = make(name)
    inputs = inputs_for(model, "right")
    site = attention_sites(model)[-1]
    probe = Probe(heads=[1, 0])
    with probing(model, {site.module: probe}):
        logits(model, inputs)
    expected = eager_weights(model, inputs)[site.kind][site.layer]
    torch.testing.assert_close(probe.weights, expected[:, [1, 0]], **TOLERANCE)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", MODELS, ids=NAMES)
def test_the_model_is_afterwards_as_before(name, implementation):
    model = make(name)
    model.set_attn_implementation(implementation)
    inputs = inputs_for(model, "right")
    before = logits(model, inputs)
    site = attention_sites(model)[0]
    probes = {site.module: Probe(off=torch.ones(2, site.num_heads) > 0)}
    with probing(model, probes):
        assert not torch.equal(logits(model, inputs), before)
    with pytest.raises(TypeError), probing(model, probes):
        raise TypeError
    assert {part.config._attn_implementation for part in model.modules() if hasattr(part, "config")} == {implementation}
    assert torch.equal(logits(model, inputs), before)


OUTPUTS = {
    "BertForMaskedLM": "bert.encoder.layer.{}.attention.output.dense",
    "GPT2LMHeadModel": "transformer.h.{}.attn.c_proj",
}


def output_projection(model, site) -> torch.Tensor:
    """Its weight, (heads, K, D), by which the values of each head are multiplied."""
    name = OUTPUTS.get(type(model).__name__)
    module = model.get_submodule(name.format(site.layer)) if name else None
    module = module or getattr(site.module, "o_proj", None) or site.module.out_proj
    weight = module.weight if "Conv1D" in type(module).__name__ else module.weight.T
    return weight.unflatten(0, (site.num_heads, -1))


@pytest.mark.parametrize("name", [*LM_HEADS, "bert", "gpt2", "marian"], ids=str)
def test_a_head_that_is_off_equals_zeros_in_the_output_projection(name):
    model = make(name)
    inputs = inputs_for(model, "right")
    for site in attention_sites(model):
        off = torch.zeros(2, site.num_heads, dtype=torch.bool)
        off[1, 1] = True  # in the second row only
        with probing(model, {site.module: Probe(off=off)}):
            found = logits(model, inputs)
        expected = logits(model, inputs)[0]
        projection = output_projection(model, site)
        kept = projection[1].clone()
        with torch.no_grad():
            projection[1] = 0
            without = logits(model, inputs)[1]
            projection[1] = kept
        torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found[1], without, rtol=1e-5, atol=1e-5)
        assert (found[1] - logits(model, inputs)[1]).abs().max() > 1e-3


def test_one_head_of_twelve_layers_costs_little_more_than_a_forward_pass():
    model = tiny_model(VanillaDecoderForCausalLM, num_hidden_layers=12, num_attention_heads=8)
    inputs = {"input_ids": random_ids(1, 60)}

    def operations(probes) -> int:
        with FlopCounterMode(display=False) as counter, probing(model, probes):
            logits(model, inputs)
        return counter.get_total_flops()

    site = attention_sites(model)[5]
    plain, one = operations({}), operations({site.module: Probe(heads=[3])})
    assert plain < one < 1.02 * plain  # the bar is 2
    assert operations({site.module: Probe(heads=range(8)) for site in attention_sites(model)}) > 1.05 * plain


def test_a_class_without_the_attention_interface_is_refused():
    names = {"langs": ["en", "de"], "src_vocab_size": VOCAB_SIZE, "tgt_vocab_size": VOCAB_SIZE}
    sizes = {key: value for key, value in SEQ2SEQ.items() if key not in ("vocab_size", "decoder_start_token_id")}
    model = FSMTForConditionalGeneration(FSMTConfig(**names, **sizes))
    with pytest.raises(AttentionMapError, match="FSMTForConditionalGeneration has no layers that go through"):
        attention_sites(model)


def test_more_than_a_softmax_is_refused():
    config = Gemma2Config(**SIZES, head_dim=8, num_key_value_heads=4, intermediate_size=37, attn_logit_softcapping=5.0)
    model = Gemma2ForCausalLM(config).eval()
    with pytest.raises(AttentionMapError, match="Gemma2Attention attends by more than a softmax"), probing(model, {}):
        model(random_ids(1, 5))


def test_layers_that_share_one_module_are_refused():
    model = AlbertModel(AlbertConfig(**SIZES, embedding_size=8, intermediate_size=37)).eval()
    (site,) = attention_sites(model)
    with (
        pytest.raises(AttentionMapError, match="one AlbertAttention serves several layers"),
        probing(model, {site.module: Probe(heads=[0])}),
    ):
        model(random_ids(1, 5))


def test_a_module_that_does_not_attend_is_told():
    model = make(LM_HEADS[0])
    site = attention_sites(model)[0]
    with (
        pytest.raises(AttentionMapError, match=r"MultiHeadAttention of .* does not go through"),
        probing(model, {site.module: Probe(heads=[0])}),
    ):
        model.get_input_embeddings()  # and nothing runs
