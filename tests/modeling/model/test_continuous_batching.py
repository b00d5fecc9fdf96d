"""`generate_batch`, which serves requests of any length together, gives what `generate` gives each alone."""

import pytest
import torch
from tiny import DECODERS, random_ids, tiny_model
from transformers import ContinuousBatchingConfig, GenerationConfig


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_generate_batch_equals_generate(implementation, positions):
    model = tiny_model(DECODERS[1], position_embedding_type=positions, eos_token_id=-1)
    model.set_attn_implementation(implementation)
    prompts = [random_ids(length, seed=length).tolist() for length in (3, 7, 5, 11)]
    settings = GenerationConfig(max_new_tokens=6, do_sample=False, eos_token_id=-1, pad_token_id=1)
    outputs = model.generate_batch(
        inputs=prompts,
        generation_config=settings,
        continuous_batching_config=ContinuousBatchingConfig(num_blocks=64, max_batch_tokens=64),
        progress_bar=False,
    )
    found = sorted((output.prompt_ids, output.generated_tokens) for output in outputs.values())
    expected = []
    model.set_attn_implementation(implementation)
    for prompt in sorted(prompts):
        tokens = model.generate(torch.tensor([prompt]), generation_config=settings)[0, len(prompt) :]
        expected.append((prompt, tokens.tolist()))
    assert found == expected
