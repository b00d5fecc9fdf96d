"""A local Hub and its client."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_client import TOKENS, Client, make_client
from local_hub import LocalHub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    """An empty Hub with two users; one of them also has a token that may only read."""
    with LocalHub(tmp_path / "hub", TOKENS) as running:
        yield running


@pytest.fixture
def client(hub: LocalHub, tmp_path: Path) -> Client:
    """A function that runs a script with the client: `client(script, *arguments, token=..., **environment)`."""
    return make_client(hub, tmp_path)


@pytest.fixture
def client_of(tmp_path: Path) -> Callable[[LocalHub], Client]:
    """A function that returns the client of a Hub."""
    return lambda hub: make_client(hub, tmp_path)
