"""Runs the real Hub client (huggingface_hub) in a separate process, because it reads its endpoint when imported."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from local_hub import LocalHub

TOKEN = "hf_owner_token"
TOKENS = {TOKEN: "owner", "hf_other_token": "other", "hf_reader_token": "owner:read"}
Client = Callable[..., subprocess.CompletedProcess[str]]


def make_client(hub: LocalHub, folder: Path) -> Client:
    """Returns a function that runs a script: `client(script, *arguments, token=..., **environment)`.

    The client's cache is in `folder`.
    """

    def run(script: str, *arguments: object, token: str | None = TOKEN, **environment: str):
        settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        secret = {"HF_TOKEN": token} if token else {}
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            env=inherited | settings | secret | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run
