"""Makes the page with the attention maps of an answer."""

import math
from dataclasses import replace

from vanilla_recipes.demo.records import Found, Shown
from vanilla_recipes.errors import UserError
from vanilla_transformers.inspection.attention_maps import attention_maps
from vanilla_transformers.inspection.maps import page
from vanilla_transformers.inspection.probe import AttentionMapError, attention_sites

MOST_WEIGHTS = 8_000_000
"""Maximum number of attention weights in all maps that are sent to the browser: 16 MB with two bytes per weight."""


def maps_page(model: Shown, found: Found, effects: bool = True) -> str:
    """Returns the page with the attention maps of an answer.

    Args:
        model: the model that gave the answer.
        found: the answer.
        effects: whether to measure the effect of each head on the loss, which takes most of the time.

    Raises:
        UserError: If the model has no attention maps, or the maps have more than `MOST_WEIGHTS` weights.
    """
    target = found.target or None
    length = max(len(model.ids(each)) for each in (found.text, target or ""))
    length = min(length, model.limit)
    try:
        num_heads = sum(site.num_heads for site in attention_sites(model.model))
        if num_heads * length**2 > MOST_WEIGHTS:
            raise UserError(
                f"the maps of {num_heads} heads over {length} tokens are too large for a browser: shorten the text to "
                f"{math.isqrt(MOST_WEIGHTS // num_heads)} tokens"
            )
        maps = attention_maps(model.model, model.tokenizer, found.text, target, effects=effects)
    except AttentionMapError as error:
        raise UserError(f"{model.name}: {error}") from error
    return page(replace(maps, model=model.name))
