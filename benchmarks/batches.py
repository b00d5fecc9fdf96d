"""Batches of random tokens: full ones, and rows of the lengths that text has, batched as each side would.

Which tokens they hold does not change the time; how long the rows are does. Lengths are drawn from what was counted:
their logarithms are nearly normal, and those of a translation and its source hang together.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.trainer_pt_utils import get_length_grouped_indices

from benchmarks.models import IGNORED
from vanilla_recipes.engine.plan import Plan

MASKED_SHARE = 0.15
_FIRST_TOKEN = 4  # behind the special ones


def full_batch(family: str, vocab_size: int, batch_size: int, length: int) -> dict[str, torch.Tensor]:
    """Rows without padding."""
    return padded(family, vocab_size, np.full((batch_size, 2), length), np.random.default_rng(0))


def real_lengths(family: str, num_rows: int, longest: int) -> NDArray[np.int64]:
    """Tokens of rows, (rows, sides).

    Of translations as Multi30k's, 15 tokens with a deviation of 5; of texts as the paragraphs and phrases of a corpus,
    a quarter of the longest, most of them shorter.
    """
    generator = np.random.default_rng(0)
    if family == "seq2seq":
        normal = generator.multivariate_normal([0, 0], [[1, 0.86], [0.86, 1]], num_rows)
        return np.exp(normal * [0.30, 0.33] + [2.69, 2.71]).round().clip(3, longest).astype(np.int64)
    deviation = 0.7
    mean_log = np.log(longest / 4) - deviation**2 / 2
    return generator.lognormal(mean_log, deviation, (num_rows, 1)).round().clip(3, longest).astype(np.int64)


def grouped_batches(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """As `Trainer` makes them with `group_by_length`: random rows, of like length where they meet."""
    generator = torch.Generator().manual_seed(0)
    order = np.array(get_length_grouped_indices(lengths.sum(1).tolist(), batch_size, generator=generator))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def planned_batches(lengths: NDArray[np.int64], batch_tokens: int) -> list[NDArray[np.int64]]:
    """As our engine makes them."""
    return Plan(lengths, batch_tokens, seed=0).groups(0)


def padded(
    family: str, vocab_size: int, lengths: NDArray[np.int64], generator: np.random.Generator
) -> dict[str, torch.Tensor]:
    """A batch of random tokens, (B, T) each; of masked tokens and padding the label says that it is ignored."""
    sides = [torch.from_numpy(np.arange(side.max()) < side[:, None]) for side in lengths.T]
    ids = [torch.from_numpy(generator.integers(_FIRST_TOKEN, vocab_size, mask.shape)) * mask for mask in sides]
    labels = ids[-1].clone()
    if family == "causal_lm":
        labels = ids[0].clone()
    elif family == "masked_lm":
        labels = ids[0].masked_fill(torch.from_numpy(generator.random(ids[0].shape)) >= MASKED_SHARE, IGNORED)
    is_label = sides[-1] if family == "seq2seq" else sides[0]
    return {
        "input_ids": ids[0],
        "attention_mask": sides[0].long(),
        "labels": labels.masked_fill(~is_label, IGNORED),
    }


def batches_of(
    family: str, vocab_size: int, lengths: NDArray[np.int64], rows: Iterable[NDArray[np.int64]], device: torch.device
) -> list[dict[str, torch.Tensor]]:
    """The batches of some rows each, where they are needed."""
    generator = np.random.default_rng(0)
    found = [padded(family, vocab_size, lengths[some], generator) for some in rows]
    return [{name: tensor.to(device) for name, tensor in batch.items()} for batch in found]
