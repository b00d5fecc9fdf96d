"""A Hub on this machine, and the real client in a process of its own: it reads its endpoint when it is imported."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_hub import LocalHub

TOKEN = "hf_owner_token"
TOKENS = {TOKEN: "owner", "hf_other_token": "other", "hf_reader_token": "owner:read"}
Client = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    """An empty Hub that knows two users, and one of them as a reader too."""
    with LocalHub(
        tmp_path / "hub", {TOKEN: "owner", "hf_other_token": "other", "hf_reader_token": "owner:read"}
    ) as running:
        yield running


@pytest.fixture
def client(hub: LocalHub, client_of: Callable[[LocalHub], Client]) -> Client:
    """Runs a script with the client: `client(script, *arguments, token=..., **environment)`."""
    return client_of(hub)


@pytest.fixture
def client_of(tmp_path: Path) -> Callable[[LocalHub], Client]:
    """The client of a Hub."""
    return lambda hub: make_client(hub, tmp_path)


def make_client(hub: LocalHub, tmp_path: Path) -> Client:
    def run(script: str, *arguments: object, token: str | None = TOKEN, **environment: str):
        settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        secret = {"HF_TOKEN": token} if token else {}
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            env=inherited | settings | secret | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run
