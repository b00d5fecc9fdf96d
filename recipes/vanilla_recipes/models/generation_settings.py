"""Checks the generation settings of a saved model, because transformers does not check their types.

A value of a wrong type can fail in the middle of a search with a message that names no setting, or have another
meaning: the text "false" counts as true.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vanilla_recipes.errors import UserError


def is_whole(value: Any, least: int = 0) -> bool:
    """Whether a value is an int, not a bool, and at least `least`."""
    return type(value) is int and value >= least


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def are_ids(value: Any) -> bool:
    """Whether a value is one token id, or a non-empty list of token ids."""
    return all(map(is_whole, value)) and bool(value) if isinstance(value, list) else is_whole(value)


Rule = tuple[str, Callable[[Any], bool]]

AT_LEAST_1: Rule = ("a whole number of at least 1", lambda value: is_whole(value, 1))
AT_LEAST_0: Rule = ("a whole number of at least 0", is_whole)
NUMBER: Rule = ("a finite number", is_number)
POSITIVE: Rule = ("a finite number greater than 0", lambda value: is_number(value) and value > 0)
SHARE: Rule = ("a number above 0 and up to 1", lambda value: is_number(value) and 0 < value <= 1)
TRUTH: Rule = ("true or false", lambda value: isinstance(value, bool))
ANYTHING: Rule = ("", lambda value: True)
IDS: Rule = ("a token id or a list of them", are_ids)

RULES: dict[str, Rule] = {
    **dict.fromkeys(("num_beams", "max_length", "max_new_tokens", "num_return_sequences"), AT_LEAST_1),
    **dict.fromkeys(("min_length", "min_new_tokens", "top_k"), AT_LEAST_0),
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size"), AT_LEAST_0),
    **dict.fromkeys(("temperature", "repetition_penalty", "encoder_repetition_penalty"), POSITIVE),
    **dict.fromkeys(("top_p", "typical_p"), SHARE),
    "length_penalty": NUMBER,
    **dict.fromkeys(("do_sample", "use_cache", "remove_invalid_values", "renormalize_logits"), TRUTH),
    "early_stopping": ('true, false or "never"', lambda value: isinstance(value, bool) or value == "never"),
}


def check_generation(name: str, settings: Mapping[str, Any], num_tokens: int | None = None) -> None:
    """Refuses a generation setting of a wrong type, and a token id beyond the vocabulary.

    Args:
        name: the model, for the message.
        settings: as in generation_config.json; null leaves a setting to transformers.
        num_tokens: size of the vocabulary; None if it is not known yet.

    Raises:
        UserError: If a setting is wrong. The message names the first wrong setting.
    """
    fault = next(_faults(settings, num_tokens), None)
    if fault is not None:
        key, rule = fault
        raise UserError(
            f"{name}: {key} is {settings[key]!r} in its generation settings, but must be {rule}; "
            "mend generation_config.json"
        )


def _faults(settings: Mapping[str, Any], num_tokens: int | None) -> Iterator[tuple[str, str]]:
    """Yields every wrong setting with the rule that it breaks."""
    for key, value in settings.items():
        is_special_id = key.endswith("_token_id")
        rule, holds = IDS if is_special_id else RULES.get(key, ANYTHING)
        if value is None:
            continue
        if not holds(value):
            yield key, rule
        elif is_special_id and num_tokens and max(value if isinstance(value, list) else [value]) >= num_tokens:
            yield key, f"less than {num_tokens}, the number of tokens that the model knows"
