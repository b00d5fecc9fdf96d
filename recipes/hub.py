"""Asks the Hugging Face Hub, and soon gives up where it cannot be reached."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.utils import get_session

from vanilla_transformers.recipes.errors import one_line

SECONDS_TO_ANSWER = 10.0


@contextmanager
def hub_or_cache() -> Iterator[str | None]:
    """Inside, a Hub that does not answer is not asked: libraries read their cache at once, or fail at once.

    Left to themselves they ask six times for each file, which they tell in twelve lines; where a firewall drops the
    questions that takes minutes.

    Yields:
        Why the Hub cannot be asked, or None.
    """
    fault, offline = unreachable(), constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = fault is not None
    try:
        yield fault
    finally:
        constants.HF_HUB_OFFLINE = offline


def unreachable() -> str | None:
    """Why the Hub cannot be asked; None if it answers, whatever it says."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS_TO_ANSWER)
    except Exception as error:  # classes of whichever library sends the question
        return f"{constants.ENDPOINT}: {one_line(str(error)) or type(error).__name__}"
    return None
