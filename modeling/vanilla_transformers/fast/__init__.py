"""What makes models faster when the package is installed: the same tokens, and the same numbers within 1e-5.

Nothing here travels with a saved model. `plug_in` puts these functions into `model/operations.py`, the one place where
the code of the models asks for them; without them everything works, slower.
"""

from vanilla_transformers.fast.dropout import apply_dropout
from vanilla_transformers.fast.generation import find_tokens, mark_callers_caches
from vanilla_transformers.fast.linear import linear
from vanilla_transformers.fast.linear_cross_entropy import linear_cross_entropy_loss
from vanilla_transformers.fast.packed_kernel import packed_lengths
from vanilla_transformers.fast.softmax import softmax
from vanilla_transformers.model.operations import OPERATIONS


def plug_in() -> None:
    """Puts all functions of this folder into use."""
    OPERATIONS.exchange(
        linear=linear,
        dropout=apply_dropout,
        softmax=softmax,
        projection_loss=linear_cross_entropy_loss,
        packed_mask=packed_lengths,
        before_generate=mark_callers_caches,
        search=find_tokens,
    )
