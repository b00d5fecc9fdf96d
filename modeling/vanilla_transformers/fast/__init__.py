"""What makes models faster when the package is installed: the same tokens, and the same numbers within 1e-5.

Nothing here is saved with a model. `plug_in` puts these functions into `OPERATIONS` of `model/operations.py`, the only
place where the code of the models calls them. Without them everything works, but slower.
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
"""The fast functions of this folder, one for each operation that the models let others replace."""


def plug_in(operations: Operations = OURS) -> None:
    """Put functions into use."""
    for name, function in asdict(operations).items():
        setattr(OPERATIONS, name, function)


@contextmanager
def unplugged() -> Iterator[None]:
    """Context in which models compute as they do where the package is not installed."""
    before = Operations(**asdict(OPERATIONS))
    plug_in(Operations())
    try:
        yield
    finally:
        plug_in(before)
