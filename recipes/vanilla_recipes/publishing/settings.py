"""The configuration of a run as it may become public: without places on the machine that it ran on."""

import re
from collections.abc import Mapping
from typing import Any

# What says where and how a run was watched or started, and nothing about its model.
_LOCAL = ("output_dir", "resume", "max_wall_time", "process_timeout", "log_every", "checkpoint", "tracking")
_PLACE = re.compile(r"^\s*(?:[/~$]|[A-Za-z]:[\\/]|\\\\|[a-z0-9+.-]+://)|(?:^|[\\/])\.\.(?:[\\/]|$)")


def public_settings(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that make the model what it is; of a path or an address the last part stays."""
    return {name: _public(value) for name, value in experiment.items() if name not in _LOCAL}


def _public(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _public(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_public(each) for each in value]
    if isinstance(value, str) and _PLACE.search(value):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value
