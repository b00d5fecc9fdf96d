"""Faster functions for the models. They give the same tokens and, within 1e-5, the same numbers.

No file of this folder is saved with a model. `plug_in` puts the functions into `OPERATIONS` of `model/operations.py`,
and the code of the models calls them only through `OPERATIONS`. Without them the models work, but more slowly.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from vanilla_transformers.fast import dropout, generation, linear, linear_cross_entropy, packed_kernel, softmax
from vanilla_transformers.model.operations import OPERATIONS, Operations

OURS = Operations(
    linear=linear.linear,
    dropout=dropout.apply_dropout,
    softmax=softmax.softmax,
    projection_loss=linear_cross_entropy.linear_cross_entropy_loss,
    packed_mask=packed_kernel.packed_lengths,
    before_generate=generation.mark_callers_caches,
    search=generation.find_tokens,
)
"""The fast functions of this folder, one for each operation that can be replaced."""


def plug_in(operations: Operations = OURS) -> None:
    """Make all models use the given functions."""
    for name, function in asdict(operations).items():
        setattr(OPERATIONS, name, function)


@contextmanager
def unplugged() -> Iterator[None]:
    """Context in which models use the default operations, as if the package were not installed."""
    before = Operations(**asdict(OPERATIONS))
    plug_in(Operations())
    try:
        yield
    finally:
        plug_in(before)
