"""Finds the files of a split in a local folder."""

import logging
import os
import re
from contextlib import suppress
from pathlib import Path

from vanilla_recipes.data.readers import READERS, data_suffix
from vanilla_recipes.errors import UserError

logger = logging.getLogger(__name__)

SUFFIXES = ", ".join(READERS)

PART = re.compile(r"-(\d{5})-of-(\d{5})\.")


def split_files(data_path: str, split: str, name: str) -> list[Path]:
    """Returns the file of a split, or the numbered parts of a split in order.

    In a folder the file of a split is the first that exists of: the file named NAME; NAME with a known suffix such as
    `.jsonl`; the only file whose name begins with NAME and one of "_-.", such as `test_2016_flickr.jsonl` for "test".
    The numbered parts of a large split on the Hub, such as `train-00000-of-00002.parquet`, count as one file.

    `data_path` may also be the file of the training split. Then NAME of another split must be a file in the same
    folder.

    Args:
        data_path: the value of `data.path`, a folder or a file.
        split: "train", "validation" or "test".
        name: the value of `data.<split>_split`, NAME above.

    Raises:
        UserError: If no file of the split is found, several files could be the split, or a numbered part is missing.
    """
    path = Path(data_path).expanduser()
    if not _exists(path):
        raise UserError(f"data.path={data_path}: no such file or folder (looked for {path.absolute()})")
    if path.is_dir():
        return _in_folder(path, split, name)
    if not data_suffix(path):
        raise UserError(f"data.path={data_path}: unknown kind of file; the name must end in {SUFFIXES} (.gz allowed)")
    return [path if split == "train" else _beside(path, split, name)]


def note_same_files(split: str, files: list[Path], data_path: str, train_name: str) -> None:
    """Calls `note_same_source` with the files of `split` and those of the training split, found by `split_files`."""
    with suppress(UserError):  # a run that only evaluates needs no training split
        note_same_source(split, files, split_files(data_path, "train", train_name))


def note_same_source(split: str, source: object, training_source: object) -> None:
    """Warns that a validation or test split is the training split; this may be intended.

    Args:
        split: the name of the split that is read.
        source: the files of this split, or a text that identifies its rows.
        training_source: the files or the text of the training split.
    """
    if split != "train" and source == training_source:
        named = ", ".join(map(str, source)) if isinstance(source, list) else source
        logger.warning(
            "the %s split is the train split, %s: its scores measure how well the model memorizes this data, not how "
            "good it is on other data; choose other rows with data.%s_split=",
            split, named, split,
        )  # fmt: skip


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"data.path={path}: cannot be read: {error.strerror}") from error
    return True


def _beside(train_file: Path, split: str, name: str) -> Path:
    file = train_file.parent / name
    if data_suffix(file) and file.is_file():
        return file
    raise UserError(
        f"data.path={train_file} is one file, which serves as the train split, so there is no {split} split. Give the"
        f" folder with one file per split, or a file in the same folder with data.{split}_split=FILE"
    )


def _in_folder(folder: Path, split: str, name: str) -> list[Path]:
    files = _data_files(folder)
    for candidates in (
        [file for file in files if file == name],
        [file for file in files if _stem(file) == name],
        [file for file in files if file.startswith(name) and file[len(name) :][:1] in "_-."],
    ):
        if len(candidates) == 1 or _are_parts(folder, candidates):
            return [folder / file for file in candidates]
        if candidates:
            raise UserError(
                f"{folder}: {len(candidates)} files could be the {split} split: {', '.join(candidates)}. Choose one"
                f" with data.{split}_split={candidates[0]}"
            )
    there = ", ".join(files) or f"no file that ends in {SUFFIXES}"
    raise UserError(
        f"{folder}: no file for the {split} split, {name}.jsonl for example; the folder has: {there}. Name the file of"
        f" the split with data.{split}_split=FILE"
    )


def _are_parts(folder: Path, files: list[str]) -> bool:
    """Returns whether the sorted `files` are all numbered parts of one split.

    Raises:
        UserError: If a part is missing.
    """
    parts = [PART.search(file) for file in files]
    numbers = [(int(part[1]), int(part[2])) for part in parts if part]
    if not numbers or len(numbers) < len(files) or len({total for _, total in numbers}) > 1:
        return False
    total = numbers[0][1]
    if [number for number, _ in numbers] != list(range(total)):
        raise UserError(
            f"{folder}: the parts of a split must be numbered 0 to {total - 1} without gaps; the folder has:"
            f" {', '.join(files)}. Add the missing parts"
        )
    return True


def _data_files(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if data_suffix(Path(entry.name)) and entry.is_file())
    except OSError as error:
        raise UserError(f"data.path={folder}: cannot be listed: {error.strerror}") from error


def _stem(file: str) -> str:
    """Returns the file name without its suffix, such as `.jsonl` or `.jsonl.gz`."""
    return Path(file.removesuffix(".gz")).stem
