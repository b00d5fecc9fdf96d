"""Finds what must not become public: access tokens, paths of this machine, names of its user and of itself."""

import getpass
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import get_token
from safetensors import safe_open

from vanilla_transformers.recipes.errors import UserError

_SECRETS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|api_org_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{20,}|gh[opsu]_[A-Za-z0-9]{30,}|"
    r"github_pat_\w{30,}|AKIA[0-9A-Z]{16})\b"
)
_HOMES = re.compile(r"(?:/home/|/Users/|\b[A-Za-z]:\\+Users\\+)[\w.-]+")
_ANYBODY = {"root", "user", "admin", "ubuntu", "debian", "runner", "jovyan", "docker", "vagrant", "localhost", "test"}
_SHORTEST_NAME = 3
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt")
_BINARY = (".png", ".safetensors", ".spm", ".model", ".onnx", ".bin")


def check_private(folder: Path, public: str = "") -> int:
    """Refuse a folder that would make something private public.

    Args:
        folder: everything that is to be uploaded.
        public: a text whose words may stand anywhere, such as the name of the repository.

    Returns:
        The number of files that were read.

    Raises:
        UserError: something private was found; a token is not repeated.
    """
    words, paths = _private_words(public), _private_paths()
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    for file in files:
        name = file.relative_to(folder).as_posix()
        for number, line in enumerate(_lines(file), start=1):
            has_words = file.name not in _VOCABULARIES and file.suffix != ".py"  # where a name may be any word
            found = _private(line, words if has_words else None, paths)
            if found is not None:
                raise UserError(
                    f"{name}, line {number}: it holds {found}, which would become public; take it out and push again"
                )
    return len(files)


def _private(line: str, words: re.Pattern[str] | None, paths: tuple[str, ...]) -> str | None:
    token = get_token()
    if _SECRETS.search(line) or (token and token in line):
        return "an access token"
    home = _HOMES.search(line)
    path = home.group() if home else next((path for path in paths if path in line), None)
    if path is not None:
        return f"the path {path} of this machine"
    word = words.search(line) if words else None
    return f"the name {word.group()} of this machine or of its user" if word else None


def _private_paths() -> tuple[str, ...]:
    found = {str(Path.home()), os.getcwd(), tempfile.gettempdir()}
    return tuple(f"{path}{os.sep}" for path in sorted(found) if len(Path(path).parts) > 1)


def _private_words(public: str) -> re.Pattern[str] | None:
    names = {_user(), platform.node()} - _ANYBODY
    known = public.lower()
    private = [re.escape(name) for name in names if len(name) >= _SHORTEST_NAME and name.lower() not in known]
    return re.compile(rf"(?<![\w-])(?:{'|'.join(private)})(?![\w-])", re.IGNORECASE) if private else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have a number alone
        return ""


def _lines(file: Path) -> Iterator[str]:
    """The lines of a text; of weights what their header says, of other binary files none."""
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as tensors:
            yield str(tensors.metadata())
    elif file.suffix not in _BINARY:
        with open(file, encoding="utf-8", errors="replace") as text:
            yield from text
