"""Checks that the configured lengths of rows fit into the model's position table."""

from collections.abc import Mapping

from transformers import PreTrainedConfig

from vanilla_recipes.errors import UserError
from vanilla_transformers.text.answers import num_positions


def check_positions(config: PreTrainedConfig, limits: Mapping[str, int], is_saved: bool) -> None:
    """Refuses settings that allow rows longer than the model's position table.

    Args:
        config: the config of the model.
        limits: the settings that bound the length of rows, with their values in tokens.
        is_saved: whether training starts from a saved model, whose position table cannot grow.

    Raises:
        UserError: If a setting exceeds the number of positions.
    """
    most = num_positions(config)
    kind = "learned " if getattr(config, "position_embedding_type", None) == "learned" else ""
    way_out = "lower it" if is_saved else "lower it, or raise model.max_position_embeddings"
    for name, num_tokens in limits.items():
        if num_tokens > most:
            raise UserError(f"{name}={num_tokens}: the model has {kind}positions for {most} tokens; {way_out}")
