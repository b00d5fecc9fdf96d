"""Paths of folders in the checkout, and the environment of its commands."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HELPERS = ROOT / "tests" / "helpers"
FIXTURES = ROOT / "tests" / "fixtures"
SHARED = ROOT.parent / "shared"
"""Folder of real data and weights; it may be missing."""


def environment_outside_make() -> dict[str, str]:
    """The environment without what `make` hands to its commands: its flags, and the Makefile's variables."""
    ours = ("NVIDIA_DRIVER", "TORCH_BACKEND", "PIP_ARGS", "VENV", "CONSTRAINTS", "UPGRADE", "PACKAGE", "DEMO", "JOBS")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKE", "MFLAGS")) and name not in ours
    }
