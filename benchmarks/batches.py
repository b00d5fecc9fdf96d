"""Batches of random tokens: without padding, or with rows of realistic lengths.

The time of a step does not depend on the tokens, but on the lengths of the rows. The lengths are drawn from
distributions that were fitted to real text: their logarithms are nearly normal, and the lengths of a translation and of
its source are correlated.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.trainer_pt_utils import get_length_grouped_indices

from benchmarks.models import IGNORED
from vanilla_recipes.engine.plan import Plan

MASKED_SHARE = 0.15
_FIRST_TOKEN = 4  # the smaller ids are special tokens


def full_batch(family: str, vocab_size: int, batch_size: int, length: int) -> dict[str, torch.Tensor]:
    """Returns a batch of `batch_size` rows of `length` tokens, without padding."""
    return padded(family, vocab_size, np.full((batch_size, 2), length), np.random.default_rng(0))


def real_lengths(family: str, num_rows: int, longest: int) -> NDArray[np.int64]:
    """Returns random numbers of tokens, shape (rows, sides).

    The two sides of a translation have 15 tokens on average, with a standard deviation of 5, as in Multi30k. Texts are
    like the paragraphs and phrases of a corpus: they have `longest / 4` tokens on average, and most are shorter.
    """
    generator = np.random.default_rng(0)
    if family == "seq2seq":
        normal = generator.multivariate_normal([0, 0], [[1, 0.86], [0.86, 1]], num_rows)
        return np.exp(normal * [0.30, 0.33] + [2.69, 2.71]).round().clip(3, longest).astype(np.int64)
    deviation = 0.7
    mean_log = np.log(longest / 4) - deviation**2 / 2
    return generator.lognormal(mean_log, deviation, (num_rows, 1)).round().clip(3, longest).astype(np.int64)


def grouped_batches(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Returns the row numbers of each batch as `Trainer` does with `group_by_length`: random, of similar lengths."""
    generator = torch.Generator().manual_seed(0)
    order = np.array(get_length_grouped_indices(lengths.sum(1).tolist(), batch_size, generator=generator))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def planned_batches(lengths: NDArray[np.int64], batch_tokens: int) -> list[NDArray[np.int64]]:
    """Returns the row numbers of each batch as our engine plans them."""
    return Plan(lengths, batch_tokens, seed=0).groups(0)


def padded(
    family: str, vocab_size: int, lengths: NDArray[np.int64], generator: np.random.Generator
) -> dict[str, torch.Tensor]:
    """Returns a batch of random tokens: `input_ids`, `attention_mask` and `labels`, each of shape (B, T).

    The labels of padding are ignored (`IGNORED`). In a batch for a masked language model, the labels of tokens that are
    not masked are ignored too; `MASKED_SHARE` of the tokens are masked.
    """
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
    """Returns one batch for each array of row numbers, on the device."""
    generator = np.random.default_rng(0)
    found = [padded(family, vocab_size, lengths[some], generator) for some in rows]
    return [{name: tensor.to(device) for name, tensor in batch.items()} for batch in found]
