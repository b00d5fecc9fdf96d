"""Selects and writes the files of a Hub repository: model, code and the records of the training."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

from vanilla_recipes.errors import UserError
from vanilla_recipes.models.saved_code import outdated, saved_code
from vanilla_recipes.publishing.settings import public_settings
from vanilla_recipes.publishing.sources import Source
from vanilla_recipes.run_folder.checkpoints import METRICS, RESULTS
from vanilla_transformers.interop.conversion import ARCHITECTURES

TRAINING, CURVES = "training", "curves.png"
# Only these files and the model's code are published: a model folder may also have optimizer states, logs and scripts.
_MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-?????-of-?????.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "source.spm",
    "target.spm",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "chat_template.jinja",
)
_CHUNK = 2**20


def model_files(folder: Path) -> list[Path]:
    """Returns the files of a model folder to publish. The only Python files among them are the model's code."""
    code = saved_code(folder).files
    return sorted(
        file for file in folder.iterdir() if file.is_file() and (file.name in code or is_model_file(file.name))
    )


def is_model_file(name: str) -> bool:
    """Returns whether a saved model of any type can have a file of this name; code files are not considered."""
    return any(fnmatchcase(name, pattern) for pattern in _MODEL_FILES)


def is_published(path: str) -> bool:
    """Returns whether a push can write a file of this path, for any model; code files are not considered.

    This includes paths in the subfolder of a copy that was converted to a transformers class.
    """
    folder, _, name = path.rpartition("/")
    if folder:
        return folder == TRAINING or (folder in ARCHITECTURES and is_model_file(name))
    return is_model_file(name) or name in (CURVES, "README.md")


def check_code(folder: Path) -> None:
    """Refuses a folder whose code does not work without this package.

    Raises:
        UserError: If the code does not work with the installed transformers, or a code file is missing.
    """
    code, fault = saved_code(folder), outdated(folder)
    if fault is not None:
        raise UserError(f"{fault}, and push again")
    for name, asking in code.missing.items():
        way_out = f"renew the code with `vanilla update {folder}`" if code.files else "save it with save_pretrained()"
        raise UserError(
            f"{folder / name}: this file of the model's code, which {asking} refers to, is missing, so nothing was "
            f"pushed; put it back, or {way_out}"
        )


def left_out(source: Source) -> list[str]:
    """Returns the names of files and folders (with "/") in the model's folder that are not published."""
    taken = {file.name for file in model_files(source.model)}
    return sorted(
        f"{path.name}/" if path.is_dir() else path.name for path in source.model.iterdir() if path.name not in taken
    )


def copy_model(source: Source, folder: Path) -> None:
    """Copies the files of the model to `folder`."""
    for file in model_files(source.model):
        shutil.copyfile(file, folder / file.name)


def write_training(source: Source, folder: Path) -> bool:
    """Writes settings, results and metrics of the run. Returns whether the run has a plot of the training."""
    if source.run is None:
        return False
    training = folder / TRAINING
    training.mkdir()
    settings = yaml.safe_dump(public_settings(source.experiment), sort_keys=False, allow_unicode=True)
    (training / "config.yaml").write_text(settings, encoding="utf-8")
    (training / RESULTS).write_text(json.dumps(dict(source.results), indent=2) + "\n", encoding="utf-8")
    if (source.run / METRICS).is_file():
        shutil.copyfile(source.run / METRICS, training / METRICS)
    has_curves = (source.run / CURVES).is_file()
    if has_curves:
        shutil.copyfile(source.run / CURVES, folder / CURVES)
    return has_curves


def sizes(folder: Path) -> dict[str, int]:
    """Returns the size in bytes of every file in a folder and its subfolders, by path."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}


def state(files: list[Path]) -> str:
    """Returns one SHA-256 digest of the names and contents of files, to detect changes."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0".encode())
        for piece in _pieces(file):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(file: Path) -> Iterator[bytes]:
    with open(file, "rb") as content:
        while piece := content.read(_CHUNK):
            yield piece
