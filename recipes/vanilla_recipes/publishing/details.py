"""Facts for the model card that no run folder contains and the user provides: `vanilla push --card FILE`."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from vanilla_recipes.errors import UserError, one_line

LANGUAGE = r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*|code|multilingual"
"""Pattern of a language code."""

_FORMS = {"license": r"[a-z0-9][a-z0-9.-]*", "language": LANGUAGE, "tags": r"\S(?:.*\S)?"}
_FORM_EXAMPLES = {
    "license": "give its identifier, such as apache-2.0, cc-by-4.0 or other",
    "language": "give a code of ISO 639, such as en",
    "tags": "give a word",
}


@dataclass(frozen=True)
class CardDetails:
    """Text and metadata for the model card; a field without a value does not appear in the card.

    Attributes:
        summary: what the model is, and its intended use.
        license: identifier of the license on the Hub, such as `apache-2.0`.
        language: ISO 639 codes, such as `[en, de]`.
        datasets: Hub identifiers of the training data.
        base_model: Hub identifier of the model that the training started from.
        tags: search tags.
        data: description of the training data.
        terms: license or terms of use of the training data.
        limits: uses that the model is not made for, and known failures.
        energy: energy used by the training, and how it was measured.
        example: input text of the example code.
    """

    summary: str | None = None
    license: str | None = None
    language: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    base_model: str | None = None
    tags: list[str] = field(default_factory=list)
    data: str | None = None
    terms: str | None = None
    limits: str | None = None
    energy: str | None = None
    example: str | None = None


def read_details(file: str | Path | None) -> CardDetails:
    """Reads the details of a model card (summary, license, ...) from a YAML file; all are empty if `file` is None.

    Raises:
        UserError: If the file cannot be read, has an unknown name (the message gives the most similar name), or has a
            value of the wrong type or form.
    """
    if file is None:
        return CardDetails()
    try:
        found = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{file}: cannot be read: {one_line(str(error))}") from error
    if not isinstance(found, dict):
        raise UserError(f"{file}: must hold `name: text` lines, such as `license: apache-2.0`")
    return checked_details(found, str(file))


def checked_details(found: Mapping[str, Any], where: str) -> CardDetails:
    """Checks the values and returns them as `CardDetails`.

    Args:
        found: values by the name of their field.
        where: the file or option with the values, for error messages.

    Raises:
        UserError: If a name is unknown, or a value has the wrong type or form.
    """
    types = {each.name: each.type for each in fields(CardDetails)}
    for name, value in found.items():
        if name not in types:
            near = difflib.get_close_matches(str(name), types, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the names are {', '.join(types)}"
            raise UserError(f"{where}: there is no {name}; {hint}")
        takes_list = str(types[name]).startswith("list")
        is_fitting = isinstance(value, list) and all(isinstance(each, str) for each in value)
        if not (is_fitting if takes_list else isinstance(value, str)):
            what = "a list of texts, such as [en, de]" if takes_list else "a text"
            raise UserError(f"{where}: {name} is {value!r}, but must be {what}")
        for each in value if takes_list else [value]:
            _check_form(name, each, where)
    return CardDetails(**found)


def _check_form(name: str, value: str, where: str) -> None:
    """Refuses a value that the Hub does not accept in the metadata of a card."""
    if name in ("base_model", "datasets"):
        try:
            validate_repo_id(value)
        except HFValidationError as error:
            raise UserError(f"{where}: {name} has {value!r}, but must be a Hub name, such as USER/NAME") from error
    rule = _FORMS.get(name)
    if rule is not None and not re.fullmatch(rule, value):
        raise UserError(f"{where}: {name} has {value!r}, which the Hub does not take; {_FORM_EXAMPLES[name]}")
