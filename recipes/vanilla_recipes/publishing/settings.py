"""Makes a public copy of a run's configuration, without paths of the machine that it ran on."""

import re
from collections.abc import Mapping
from typing import Any

# Settings about folders, time limits and tracking, which have no influence on the model.
_LOCAL = ("output_dir", "resume", "max_wall_time", "process_timeout", "log_every", "checkpoint", "tracking")
_PLACE = re.compile(r"^\s*(?:[/~$]|[A-Za-z]:[\\/]|\\\\|[a-z0-9+.-]+://)|(?:^|[\\/])\.\.(?:[\\/]|$)")


def public_settings(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that influence the model; a path or address is shortened to its last part."""
    return {name: _public(value) for name, value in experiment.items() if name not in _LOCAL}


def _public(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _public(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_public(each) for each in value]
    if isinstance(value, str) and _PLACE.search(value):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value
