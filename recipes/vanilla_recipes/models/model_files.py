"""Checks the files of a model folder before anything is loaded, and reports damage in one line."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vanilla_recipes.errors import UserError, one_line
from vanilla_recipes.models.generation_settings import check_generation

GENERATION = "generation_config.json"
SINGLE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
OTHER_VOCABULARIES = ("*.spm", "*.model", "vocab*")  # vocabularies of tokenizers without a tokenizer.json
OTHER_FILES = ("vocab.json", "added_tokens.json", "special_tokens_map.json")  # further files of older tokenizers
REMEDY = "the folder is damaged or incomplete; copy or save it again"


def check_folder(folder: Path) -> None:
    """Checks that the files of a folder are complete, without loading the weights.

    Raises:
        UserError: If a file is missing, truncated or not valid.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: this is a file; name the model folder that holds config.json")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: there is no config.json in it, so it is no model folder{models_below(folder)}")
    for name in ("config.json", *TOKENIZER_FILES, *OTHER_FILES):
        if (folder / name).is_file():
            check_json(folder / name)
    if (folder / GENERATION).is_file():
        check_generation(str(folder), check_json(folder / GENERATION))
    for file in weight_files(folder):
        check_weight_file(file)


def models_below(folder: Path) -> str:
    """A hint for error texts that names the model folders inside `folder`, such as a run folder; empty if none."""
    found = sorted(str(file.parent) for file in folder.glob("*/config.json"))
    return f"; did you mean {' or '.join(found)}?" if found else ""


def check_json(file: Path) -> dict[str, Any]:
    """Reads the object in a JSON file.

    Raises:
        UserError: If the file is not valid JSON, or does not hold an object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{file}: this is not valid JSON ({one_line(str(error))}); {REMEDY}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: it holds a {type(content).__name__} where a JSON object belongs; {REMEDY}")
    return content


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model. Empty for torch's older format, in which from_pretrained() finds damage.

    Raises:
        UserError: If the weights are missing, or the index names no files.
    """
    if (folder / SINGLE_FILE).is_file():
        return [folder / SINGLE_FILE]
    if (folder / INDEX).is_file():
        shards = check_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards or not all(isinstance(shard, str) for shard in shards.values()):
            raise UserError(f"{folder / INDEX}: there is no weight_map in it that names the files; {REMEDY}")
        return [folder / shard for shard in sorted(set(shards.values()))]
    if any(folder.glob("pytorch_model*.bin")):
        return []
    raise UserError(f"{folder}: the weights are missing ({SINGLE_FILE}); {REMEDY}")


def check_weight_file(file: Path) -> None:
    """Opens a safetensors file. This detects any truncation, because the header gives the length of the file.

    Raises:
        UserError: If the file is missing or cannot be read.
    """
    if not file.is_file():
        raise UserError(f"{file}: this part of the weights is missing; {REMEDY}")
    try:
        with safe_open(file, framework="pt") as tensors:
            tensors.keys()
    except SafetensorError as error:
        raise UserError(f"{file}: the weights cannot be read ({one_line(str(error))}); {REMEDY}") from error


def has_tokenizer_files(folder: Path) -> bool:
    """Whether a folder holds any tokenizer file."""
    return holds_any(folder, *TOKENIZER_FILES, *OTHER_FILES, *OTHER_VOCABULARIES)


def holds_any(folder: Path, *patterns: str) -> bool:
    """Whether a folder holds a file of one of the patterns."""
    return any(any(folder.glob(pattern)) for pattern in patterns)
