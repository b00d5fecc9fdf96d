"""Writes folders and files atomically: after a crash they are complete, or as they were before."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vanilla_recipes.errors import UserError

WRITING = ".writing-"
"""Prefix of the names of files and folders that are not complete yet."""

_REPLACED = ".replaced-"
# Libraries in Rust (safetensors, tokenizers) report storage errors with these texts, and not with an OSError.
_STORAGE_TEXTS = ("No space left", "os error 28", "Disk quota exceeded", "Read-only file system")


@contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder. It is renamed to `path` if the block succeeds, and deleted if the block fails.

    Raises:
        UserError: the disk is full or not writable. A folder that was at `path` before is unchanged.
    """
    aside = path.with_name(f"{WRITING}{path.name}")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        yield aside
        _sync(aside)
        _swap(aside, path)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        fault = storage_fault(error)
        if fault is None:
            raise
        raise UserError(f"{path}: cannot be written: {fault}; free some space or choose another output_dir") from error


def storage_fault(error: BaseException | None) -> BaseException | None:
    """The storage error in the chain of causes of `error`, or None.

    The chain matters because torch, for example, reports a full disk as a broken archive.
    """
    while error is not None:
        if isinstance(error, OSError) or any(text in str(error) for text in _STORAGE_TEXTS):
            return error
        error = error.__cause__ or error.__context__
    return None


def clear_leftovers(folder: Path) -> None:
    """Removes files and folders that a killed process left incomplete, and restores a folder it was replacing."""
    for path in folder.glob(f"{WRITING}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    for path in folder.glob(f"{_REPLACED}*"):
        original = path.with_name(path.name.removeprefix(_REPLACED))
        if original.exists():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.rename(original)


def write_text(path: Path, text: str) -> None:
    """Writes a file atomically: after a crash it is complete, or as it was before.

    Raises:
        UserError: the disk is full or not writable.
    """
    aside = path.with_name(f"{WRITING}{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(aside, text)
        aside.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error}; free some space or choose another output_dir") from error


def _write_synced(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            path.unlink()
            raise


def _swap(aside: Path, path: Path) -> None:
    replaced = path.with_name(f"{_REPLACED}{path.name}")
    if path.exists():
        path.rename(replaced)
    aside.rename(path)
    _sync_one(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Flushes the folder's files to disk. Otherwise, after a crash, the rename may be on disk without the contents."""
    for path in folder.rglob("*"):
        _sync_one(path)
    _sync_one(folder)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
