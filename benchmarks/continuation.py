"""`python -m benchmarks continuation`: greedy continuation of prompts, compared with `generate` of GPT-2.

GPT-2 has the same weights. Both models continue the same random prompts by the same number of tokens. The output states
in how many rows the tokens are equal.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.models import SHAPES, Subject, subjects
from benchmarks.rounds import DTYPES, Comparison, compare

BATCH_SIZES = (1, 32)
PROMPT, NEW = 32, 64  # tokens of a prompt and of its continuation


def continuations(arguments: argparse.Namespace, device: torch.device) -> list[Comparison]:
    """Compares greedy continuation at each batch size and each precision of the weights."""
    results = []
    shape = SHAPES["causal_lm"]
    kernels = {"ours": arguments.decoding_attention, "peers": arguments.peer_attention}
    for precision in arguments.precision:
        found = {
            name: build()
            for name, build in subjects("causal_lm", shape, kernels).items()
            if name.startswith(("ours", "GPT-2"))
        }
        for subject in found.values():
            subject.model.to(device, DTYPES[precision]).eval()
        for batch_size in BATCH_SIZES:
            generator = torch.Generator().manual_seed(0)
            prompts = torch.randint(4, shape.vocab_size, (batch_size, PROMPT), generator=generator).to(device)
            works = {name: _continue(subject, prompts) for name, subject in found.items()}
            tokens = {name: work() for name, work in works.items()}
            first = next(iter(tokens.values()))
            results.append(
                compare(
                    f"greedy continuation, {precision} weights, batch {batch_size}, {NEW} tokens behind {PROMPT}",
                    "tokens",
                    works,
                    dict.fromkeys(works, batch_size * NEW),
                    precision,
                    arguments.rounds,
                    device,
                    notes={
                        name: f"{int((first == each).all(1).sum())} of {batch_size} rows equal"
                        for name, each in tokens.items()
                    },
                )
            )
            print(results[-1], flush=True)
    return results


def _continue(subject: Subject, prompts: torch.Tensor) -> Callable[[], torch.Tensor]:
    model: Any = subject.model
    mask = torch.ones_like(prompts)

    @torch.inference_mode()
    def work() -> torch.Tensor:
        return model.generate(
            prompts, attention_mask=mask, do_sample=False, max_new_tokens=NEW, eos_token_id=None, pad_token_id=0
        )

    return work
