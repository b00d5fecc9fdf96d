"""Checks quickly whether the Hugging Face Hub answers, and explains why it refuses a request."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import get_session

from vanilla_recipes.errors import one_line

SECONDS_TO_ANSWER = 10.0
"""Timeout in seconds of the request that checks whether the Hub answers."""

_GATED = (
    "the Hub gives it to those alone who have asked for access on its page: do so, and set HF_TOKEN to a token of your "
    "account, or call `hf auth login`"
)
_WRONG_TOKEN = "the Hub does not know the token: set HF_TOKEN to a valid one, unset it, or call `hf auth login`"
_SCRIPT = (
    "the dataset is a loading script, which `datasets` no longer runs: data.revision=refs/convert/parquet reads the "
    "Parquet copy that the Hub keeps of many such datasets"
)
_NOT_SEEN = (
    "the Hub has no repository of this name, or you have no access to it: correct the name, or set HF_TOKEN to a token "
    "of an account with access, or call `hf auth login`"
)


@contextmanager
def hub_or_cache() -> Iterator[str | None]:
    """While active, sets the Hub's libraries to offline mode if the Hub does not answer.

    In offline mode they read their cache, or fail, at once. Without it they repeat each request six times and log
    twelve lines a file; behind a firewall that drops packets this takes minutes.

    Yields:
        The reason why the Hub cannot be reached, or None if it answers.
    """
    fault, offline = unreachable(), constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = fault is not None
    try:
        yield fault
    finally:
        constants.HF_HUB_OFFLINE = offline


def refusal(error: BaseException | None) -> str | None:
    """Explains in one line why the Hub refused a request, and the way out. None if the error is not a refusal.

    Libraries wrap the Hub's answer in several exceptions, so the whole chain of causes is searched. `datasets` drops
    the class of the answer and keeps its text, so texts are compared too.
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
    """The reason why the Hub cannot be reached; None if it answers, with any status."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS_TO_ANSWER)
    except Exception as error:  # the class depends on the HTTP library that huggingface_hub uses
        return f"{constants.ENDPOINT}: {one_line(str(error)) or type(error).__name__}"
    return None
