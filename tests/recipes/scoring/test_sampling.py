"""Continuations: drawn with a seed, ended by the end of text, and longer than the model."""

import pytest
import torch
from transformers import GenerationConfig

from vanilla_recipes.data.tokenizers import character_tokenizer
from vanilla_recipes.scoring.sampling import continue_ids, draw_samples, encode_prompts
from vanilla_transformers import VanillaDecoderConfig, VanillaDecoderForCausalLM

END = 0


@pytest.fixture
def model() -> VanillaDecoderForCausalLM:
    torch.manual_seed(0)
    config = VanillaDecoderConfig(
        vocab_size=20,
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=32,
        num_hidden_layers=2,
        max_position_embeddings=8,
        initializer_range=0.5,
        bos_token_id=END,
        eos_token_id=END,
    )
    model = VanillaDecoderForCausalLM(config).eval()
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=END, pad_token_id=END, max_length=8)
    return model


def greedy(model, ids: list[int], num_tokens: int, context: int) -> list[int]:
    """The same by hand, without a cache and without generate()."""
    new: list[int] = []
    window = ids[-context // 2 :] if len(ids) >= context else ids
    while len(new) < num_tokens and new[-1:] != [END]:
        if len(window) >= context:
            window = [*ids, *new][-context // 2 :]
        new.append(int(model(torch.tensor([window])).logits[0, -1].argmax()))
        window = [*window, new[-1]]
    return new


@pytest.mark.parametrize("length", [1, 5, 8, 12])
def test_goes_on_beyond_the_learned_positions(model, length):
    ids = [(7 * place) % 19 + 1 for place in range(length)]
    with torch.inference_mode():
        model.lm_head.weight[END] = 0
        found = continue_ids(model, ids, 20, context=8)
        assert found == greedy(model, ids, 20, context=8)
    assert len(found) == 20 or found[-1] == END


def test_stops_at_the_end_of_text(model):
    model.generation_config.eos_token_id = [END, *range(10, 20)]
    found = continue_ids(model, [3, 4], 200, context=8)
    assert len(found) < 200
    assert found[-1] in model.generation_config.eos_token_id


def test_samples_depend_on_the_seed_alone(model):
    tokenizer = character_tokenizer(["abcdefghijklmnopq"], 8)
    model.generation_config = GenerationConfig(do_sample=True, eos_token_id=None, pad_token_id=END, max_length=8)
    first = draw_samples(model, tokenizer, [[3, 4], [5]], 30, 8, seed=1)
    torch.rand(3)
    assert draw_samples(model, tokenizer, [[3, 4], [5]], 30, 8, seed=1) == first
    assert draw_samples(model, tokenizer, [[3, 4], [5]], 30, 8, seed=5) != first
    assert first[0].startswith('=== 1, after "ab"\nab')
    assert first[1].startswith('=== 2, after "c"\nc')


def test_prompts_beyond_the_context_are_counted(caplog):
    tokenizer = character_tokenizer(["abcdefghijklmnopq"], 4)
    assert [len(ids) for ids in encode_prompts(["abcdef", "abcd", "ab"], tokenizer, 4)] == [6, 4, 2]
    assert caplog.messages == [
        "1 of 3 generation.prompts are longer than data.block_size=4 tokens: the model reads only their ends"
    ]
