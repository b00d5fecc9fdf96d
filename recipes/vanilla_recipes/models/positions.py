"""A table of positions ends where it ends."""

from collections.abc import Mapping

from transformers import PreTrainedConfig

from vanilla_recipes.errors import UserError
from vanilla_transformers.text.answers import num_positions


def check_positions(config: PreTrainedConfig, limits: Mapping[str, int], is_saved: bool) -> None:
    """Refuses rows that are longer than a table of positions.

    Args:
        config: that of the model.
        limits: the settings that bound the rows, with their tokens.
        is_saved: whether training goes on from a saved model, whose table cannot grow.

    Raises:
        UserError: a bound is beyond the table.
    """
    room = num_positions(config)
    kind = "learned " if getattr(config, "position_embedding_type", None) == "learned" else ""
    way_out = "lower it" if is_saved else "lower it, or raise model.max_position_embeddings"
    for name, num_tokens in limits.items():
        if num_tokens > room:
            raise UserError(f"{name}={num_tokens}: the model has {kind}positions for {room} tokens; {way_out}")
