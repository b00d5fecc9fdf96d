"""A Hub on this machine, and the real client in a process of its own: it reads its endpoint when it is imported."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_hub import LocalHub

TOKEN = "hf_owner_token"
Client = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    """An empty Hub that knows two users."""
    with LocalHub(tmp_path / "hub", {TOKEN: "owner", "hf_other_token": "other"}) as running:
        yield running


@pytest.fixture
def client(hub: LocalHub, tmp_path: Path) -> Client:
    """Runs a script with the client: `client(script, *arguments, token=..., **environment)`."""

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
