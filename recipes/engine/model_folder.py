"""Loads a saved model from a folder or the Hub, and says in one line what is wrong with a damaged one.

from_pretrained() reports damage in many ways: a truncated file is a SafetensorError that names no file, a missing
tokenizer a list of 150 configuration classes, a broken generation_config.json nothing at all, and missing tensors a
model of random numbers. So the files of a local folder are checked first, and what was loaded afterwards.
"""

import json
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError, StrictDataclassClassValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from vanilla_transformers.recipes.errors import UserError, one_line

SINGLE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
REMEDY = "the folder is damaged or was not written to its end; copy or save it again"
LONGEST_CAUSE = 240  # characters of a library's message; some list every class there is
COUNTS = ("num_beams", "max_length")  # generation settings that transformers takes unseen


def load_saved(
    name: str, model_class: Any, check_config: Callable[[PreTrainedConfig], None], **kwargs: Any
) -> tuple[Any, Any]:
    """A saved model and its tokenizer, both known to be whole and to belong together.

    Args:
        name: a folder written by save_pretrained(), or the name of a model on the Hub.
        model_class: the class, or Auto class, that loads it.
        check_config: refuses a model of the wrong kind, before its weights are read; it may change settings.
        kwargs: for `from_pretrained` of the model.

    Raises:
        UserError: there is no such model, it is damaged, or it is refused.
    """
    if Path(name).exists():
        check_folder(Path(name))
    else:
        check_hub_name(name)
    config = load_config(name)
    check_config(config)
    model = load_model(name, config, model_class, **kwargs)
    check_generation(name, model)
    tokenizer = load_tokenizer(name)
    check_vocabulary(name, tokenizer, model)
    return model, tokenizer


# Before loading: the files of a folder


def check_folder(folder: Path) -> None:
    """Read as much of every file as shows whether it is whole, without loading the weights."""
    if not folder.is_dir():
        raise UserError(f"{folder}: this is a file; name the model folder that holds config.json")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: there is no config.json in it, so it is no model folder{models_below(folder)}")
    for file in sorted(folder.glob("*.json")):
        check_json(file)
    for file in weight_files(folder):
        check_weight_file(file)


def models_below(folder: Path) -> str:
    """The way out for somebody who names the run folder instead of the model inside it."""
    found = sorted(str(file.parent) for file in folder.glob("*/config.json"))
    return f"; did you mean {' or '.join(found)}?" if found else ""


def check_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{file}: this is not valid JSON ({one_line(str(error))}); {REMEDY}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: it holds a {type(content).__name__} where a JSON object belongs; {REMEDY}")
    return content


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of the model; empty if it is saved in torch's older format, which loading reports on."""
    if (folder / SINGLE_FILE).is_file():
        return [folder / SINGLE_FILE]
    if (folder / INDEX).is_file():
        shards = check_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict):
            raise UserError(f"{folder / INDEX}: there is no weight_map in it; {REMEDY}")
        return [folder / shard for shard in sorted(set(shards.values()))]
    if any(folder.glob("pytorch_model*.bin")):
        return []
    raise UserError(f"{folder}: the weights are missing ({SINGLE_FILE}); {REMEDY}")


def check_weight_file(file: Path) -> None:
    """A safetensors header gives the length of its file, so opening it finds every truncation."""
    if not file.is_file():
        raise UserError(f"{file}: this part of the weights is missing; {REMEDY}")
    try:
        with safe_open(file, framework="pt"):
            pass
    except SafetensorError as error:
        raise UserError(f"{file}: the weights cannot be read ({one_line(str(error))}); {REMEDY}") from error


def check_hub_name(name: str) -> None:
    """A path that is not there must not become a question to the Hub, where it may be somebody's model."""
    parent = Path(name).parent
    if parent != Path() and parent.is_dir():
        raise UserError(f"{name}: there is no such folder{models_below(parent)}")
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"{name}: there is no such folder, and it cannot be the name of a model on the Hub") from error


# Loading


@contextmanager
def reading(name: str, part: str) -> Iterator[None]:
    """Whatever a library raises over a damaged file, from KeyError to classes of its own, becomes one line."""
    try:
        yield
    except Exception as error:
        named = isinstance(error, StrictDataclassClassValidationError)  # after a validator, which tells a user nothing
        cause = one_line(str(error.__cause__ if named and error.__cause__ else error))
        if isinstance(error, KeyError) or not cause:
            cause = one_line(repr(error))
        raise UserError(f"{name}: {part} cannot be loaded: {textwrap.shorten(cause, LONGEST_CAUSE)}") from error


def load_config(name: str) -> PreTrainedConfig:
    """The configuration, of a model type that is known."""
    part = "the configuration" if Path(name).exists() else "there is no such folder here, and from the Hub it"
    with reading(name, part):
        model_type = PreTrainedConfig.get_config_dict(name)[0].get("model_type")
    if model_type not in CONFIG_MAPPING:
        raise UserError(
            f"{name}: the model_type in its config.json is {model_type!r}, which neither transformers nor this package "
            "knows; code that comes with a model is not run"
        )
    with reading(name, part):
        return AutoConfig.from_pretrained(name, trust_remote_code=False)


def load_tokenizer(name: str) -> Any:
    """The tokenizer; if it cannot be had, the usual files that the folder lacks are named."""
    lacking = [file for file in TOKENIZER_FILES if Path(name).exists() and not (Path(name) / file).is_file()]
    if "tokenizer_config.json" in lacking:  # without it, tokenizer.json loads as a tokenizer without special tokens
        raise UserError(f"{name}: the tokenizer ({' and '.join(lacking)} missing) cannot be loaded: {REMEDY}")
    with reading(name, f"the tokenizer ({' and '.join(lacking)} missing)" if lacking else "the tokenizer"):
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)


def load_model(name: str, config: PreTrainedConfig, model_class: Any, **kwargs: Any) -> PreTrainedModel:
    """The model, complete: from_pretrained() would fill what is missing with random numbers."""
    with reading(name, "the model"):
        model, report = model_class.from_pretrained(
            name,
            config=config,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **kwargs,
        )
    for tensors, fault in ((report["missing_keys"], "are missing"), (report["mismatched_keys"], "have another shape")):
        if tensors:
            first = min(entry if isinstance(entry, str) else entry[0] for entry in tensors)
            raise UserError(
                f"{name}: tensors that config.json asks for {fault} in the weights: {len(tensors)}, "
                f"for instance {first}; the two files do not belong together, or one was edited"
            )
    check_finite(name, model)
    return model


def check_finite(name: str, model: PreTrainedModel) -> None:
    for parameter_name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise UserError(f"{name}: {parameter_name} holds NaN or infinity; {REMEDY}")


def check_generation(name: str, model: PreTrainedModel) -> None:
    """Generating reports on a wrong count only with what fails later, such as a division by zero."""
    for key in COUNTS:
        value = getattr(model.generation_config, key, None)
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UserError(
                f"{name}: {key} is {value!r} in its generation settings, but must be a whole number of at least 1; "
                "mend generation_config.json"
            )


def check_vocabulary(name: str, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Every id that the tokenizer can give needs a row of the embedding."""
    largest = max(tokenizer.get_vocab().values(), default=-1)
    rows = next(model.get_input_embeddings().parameters()).shape[0]
    if largest >= rows:
        raise UserError(
            f"{name}: the tokenizer gives ids up to {largest}, but the model knows {rows} tokens; "
            "they do not belong together: save the tokenizer that the model was trained with into the folder"
        )
