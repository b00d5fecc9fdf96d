"""Asks the Hugging Face Hub, and soon gives up where it cannot be reached."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import get_session

from vanilla_recipes.errors import one_line

SECONDS_TO_ANSWER = 10.0

_GATED = (
    "the Hub gives it to those alone who have asked for access on its page: do so, and set HF_TOKEN to a token of your "
    "account, or call `hf auth login`"
)
_WRONG_TOKEN = "the Hub does not know the token: set HF_TOKEN to a valid one, unset it, or call `hf auth login`"
_SCRIPT = (
    "it is a script, which `datasets` no longer runs: data.revision=refs/convert/parquet reads the copy in Parquet "
    "that the Hub has of many such"
)
_NOT_SEEN = (
    "the Hub has nothing of this name that you may see: mend the name, or set HF_TOKEN to a token of an account with "
    "access, or call `hf auth login`"
)


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


def refusal(error: BaseException | None) -> str | None:
    """Why the Hub, which was reached, did not give what it was asked for, and the way out; None for any other error.

    Libraries wrap its answer in several exceptions, of which only the innermost knows; `datasets` keeps its text alone.
    """
    while error is not None:
        text = str(error)
        if isinstance(error, GatedRepoError) or "is a gated dataset" in text:
            return _GATED
        if isinstance(error, HfHubHTTPError) and ("Invalid credentials" in text or "Invalid user token" in text):
            return _WRONG_TOKEN
        if isinstance(error, RepositoryNotFoundError) or "doesn't exist on the Hub or cannot be accessed" in text:
            return _NOT_SEEN
        if "Dataset scripts are no longer supported" in text:
            return _SCRIPT
        error = error.__cause__ or error.__context__
    return None


def unreachable() -> str | None:
    """Why the Hub cannot be asked; None if it answers, whatever it says."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS_TO_ANSWER)
    except Exception as error:  # classes of whichever library sends the question
        return f"{constants.ENDPOINT}: {one_line(str(error)) or type(error).__name__}"
    return None
