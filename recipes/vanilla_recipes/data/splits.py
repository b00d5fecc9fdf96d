"""Which files of a local folder hold a split."""

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
    """The file of a split, or its parts in order.

    In a folder this is NAME.jsonl (or another format, or NAME as it stands), else the only file whose name begins with
    NAME and one of "_-.": `test_2016_flickr.jsonl` for "test". The parts that the Hub makes of a large split,
    `train-00000-of-00002.parquet` and so on, count as one file. `data_path` may also be the train file itself; another
    split then needs the name of its file, beside it.

    Args:
        data_path: a folder or a file, as the user gave it.
        split: "train", "validation" or "test".
        name: what the user calls this split, the value of `data.<split>_split`.

    Raises:
        UserError: there is no such file, or more than one.
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
    """`note_same` of the files of a split; `data_path` and `train_name` say which the training rows are in."""
    with suppress(UserError):  # whoever only scores needs no training rows
        note_same(split, files, split_files(data_path, "train", train_name))


def note_same(split: str, place: object, training_place: object) -> None:
    """Says so where a split to score is what is trained on, which may be meant."""
    if split != "train" and place == training_place:
        named = ", ".join(map(str, place)) if isinstance(place, list) else place
        logger.warning(
            "the %s split is the train split, %s: its scores tell how well that is learnt by heart, not how good the "
            "model is on other data; data.%s_split= names other rows",
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
        f" folder with one file a split, or a file in the same folder with data.{split}_split=FILE"
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
        f"{folder}: no file for the {split} split, {name}.jsonl for example; there is: {there}. Name its file with"
        f" data.{split}_split=FILE"
    )


def _are_parts(folder: Path, files: list[str]) -> bool:
    """Whether sorted `files` are all the parts of one split."""
    parts = [PART.search(file) for file in files]
    numbers = [(int(part[1]), int(part[2])) for part in parts if part]
    if not numbers or len(numbers) < len(files) or len({total for _, total in numbers}) > 1:
        return False
    total = numbers[0][1]
    if [number for number, _ in numbers] != list(range(total)):
        raise UserError(
            f"{folder}: the parts of a split must be 0 to {total - 1}, all of them; there is: {', '.join(files)}"
        )
    return True


def _data_files(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if data_suffix(Path(entry.name)) and entry.is_file())
    except OSError as error:
        raise UserError(f"data.path={folder}: cannot be listed: {error.strerror}") from error


def _stem(file: str) -> str:
    """The name without `.jsonl` or `.jsonl.gz`."""
    return Path(file.removesuffix(".gz")).stem
