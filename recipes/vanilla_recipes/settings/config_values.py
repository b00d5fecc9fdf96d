"""Converts the value that a user wrote for a setting into the setting's type, and describes types for error texts."""

import math
from typing import Any, Literal, get_args, get_origin

import jsonargparse
import yaml

from vanilla_recipes.settings.durations import Duration


class OverrideText(str):
    """The right side of a `key=value` override: text that is not converted yet."""


def convert(kind: Any, value: Any) -> Any:
    """Converts a value to a type. YAML reads `3e-4` as a string; jsonargparse converts such a string to a number.

    Args:
        kind: the type of the setting.
        value: the value from YAML, or an `OverrideText`.

    Raises:
        ValueError, TypeError, jsonargparse.ArgumentError: If the value has another type, or is a number that is not
            finite.
        UserError: If the type is a duration, but the value is not a duration.
    """
    converted = _convert(kind, value)
    for part in converted if isinstance(converted, (list, tuple)) else [converted]:
        if isinstance(part, float) and not math.isfinite(part):
            raise ValueError("not finite")
    return converted


def _convert(kind: Any, value: Any) -> Any:
    is_text = isinstance(value, OverrideText)
    if kind is Duration or Duration in get_args(kind):
        if float in get_args(kind) and (share := _number(value)) is not None:
            return share
        absent = value is None or (is_text and value in ("null", "None", ""))
        return None if absent and type(None) in get_args(kind) else Duration.parse(str(value) if is_text else value)
    if kind is Any:
        return yaml.safe_load(value) if is_text else value
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=kind)
    if is_text:
        return parser.parse_args([f"--value={value}"]).value
    if kind is not bool and isinstance(value, bool) and bool not in get_args(kind):
        raise TypeError("a bool is neither a number nor a text")
    if value is None and type(None) not in get_args(kind):
        raise TypeError("null")
    return parser.parse_object({"value": value}).value


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def describe(kind: Any) -> str:
    """Describes a type in plain English for an error text, such as "a whole number or null"."""
    names = {int: "a whole number", float: "a finite number", str: "text", bool: "true or false", type(None): "null"}
    if kind in names:
        return names[kind]
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is tuple:
        return f"a list of {len(get_args(kind))} values, each {describe(get_args(kind)[0])}"
    if get_origin(kind) in (list, dict):
        return "a list" if get_origin(kind) is list else "a mapping"
    parts = get_args(kind)
    alternatives = [describe(part) for part in parts if part is not int or float not in parts]
    return " or ".join(dict.fromkeys(alternatives)) if alternatives else getattr(kind, "__name__", str(kind))


def shown(value: Any) -> str:
    """Formats a value for an error text: an override as typed, None as `null`, anything else as its repr."""
    if isinstance(value, OverrideText):
        return str(value)
    return "null" if value is None else repr(value)
