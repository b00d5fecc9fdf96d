"""The folder that goes to the Hub: the model, its card, and what tells how it came about."""

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
# Beside its code nothing else is taken: a model folder may hold a trainer's state, logs, notes and scripts.
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
    """The files of a model folder that are published; of its Python files those that the model itself imports."""
    code = saved_code(folder).files
    return sorted(
        file for file in folder.iterdir() if file.is_file() and (file.name in code or is_model_file(file.name))
    )


def is_model_file(name: str) -> bool:
    """Whether a file of that name belongs to any saved model; the names of its code are its own."""
    return any(fnmatchcase(name, pattern) for pattern in _MODEL_FILES)


def is_published(path: str) -> bool:
    """Whether a push writes a file of that path in a repository whatever the model, be it in a stock copy."""
    folder, _, name = path.rpartition("/")
    if folder:
        return folder == TRAINING or (folder in ARCHITECTURES and is_model_file(name))
    return is_model_file(name) or name in (CURVES, "README.md")


def check_code(folder: Path) -> None:
    """Refuse code that could not be used by whoever lacks this package.

    Raises:
        UserError: the installed transformers makes nonsense of it, or a file of it is missing.
    """
    code, fault = saved_code(folder), outdated(folder)
    if fault is not None:
        raise UserError(f"{fault}, and push again")
    for name, asking in code.missing.items():
        way_out = f"renew the code with `vanilla update {folder}`" if code.files else "save it with save_pretrained()"
        raise UserError(
            f"{folder / name}: this file of the model's code, which {asking} asks for, is missing, so nothing was "
            f"pushed; put it back, or {way_out}"
        )


def left_out(source: Source) -> list[str]:
    """What lies beside them and stays here."""
    taken = {file.name for file in model_files(source.model)}
    return sorted(
        f"{path.name}/" if path.is_dir() else path.name for path in source.model.iterdir() if path.name not in taken
    )


def copy_model(source: Source, folder: Path) -> None:
    """Copies the model."""
    for file in model_files(source.model):
        shutil.copyfile(file, folder / file.name)


def write_training(source: Source, folder: Path) -> bool:
    """Writes what the run tells of itself; whether there are curves."""
    if source.run is None:
        return False
    told = folder / TRAINING
    told.mkdir()
    settings = yaml.safe_dump(public_settings(source.experiment), sort_keys=False, allow_unicode=True)
    (told / "config.yaml").write_text(settings, encoding="utf-8")
    (told / RESULTS).write_text(json.dumps(dict(source.results), indent=2) + "\n", encoding="utf-8")
    if (source.run / METRICS).is_file():
        shutil.copyfile(source.run / METRICS, told / METRICS)
    has_curves = (source.run / CURVES).is_file()
    if has_curves:
        shutil.copyfile(source.run / CURVES, folder / CURVES)
    return has_curves


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file below a folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}


def state(files: list[Path]) -> str:
    """The SHA-256 of some files with their names."""
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
