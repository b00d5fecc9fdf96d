"""Finds private data before it is uploaded: access tokens, paths of this machine, names of the user and the host."""

import getpass
import os
import platform
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from huggingface_hub import get_token
from safetensors import safe_open

from vanilla_recipes.errors import UserError

# Patterns of access tokens of the Hub, OpenAI, Anthropic, GitHub, GitLab, Slack, Google, AWS and Weights & Biases, of
# private keys, and of passwords in addresses.
_SECRETS = (
    r"hf_(?:oauth_)?[A-Za-z0-9]{16,}|api_org_[A-Za-z0-9]{16,}|(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{20,}|gh[oprsu]_[A-Za-z0-9]{30,}|"
    r"github_pat_\w{30,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}|AIza[\w-]{35}|A(?:KI|SI)A[0-9A-Z]{16}|wandb_v1_\w{20,}|"
    r"(?i:wandb_api_key|aws_secret_access_key)\W{1,4}\w{16,}|-----BEGIN [A-Z ]*PRIVATE KEY-----|"
    r"://[^/\s:@'\"]+:[^/\s@'\"]+@"
)
_HOMES = r"(?<![\w.-])(?:/home/|/Users/|/Volumes/|/mnt/|/scratch/)[\w.-]+"
_WINDOWS_PATHS = r"(?i:\b[a-z]:\\+\w[\w.\\-]*)|(?<![\w\\])\\\\\w[\w.-]*\\\w[\w.-]*"
# Common names of users and hosts, which do not identify a person or a machine.
_ANYBODY = {"root", "user", "admin", "ubuntu", "debian", "runner", "jovyan", "docker", "vagrant", "localhost", "test"}
_SHORTEST_NAME = 3  # characters; shorter names of users and hosts are not searched for
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt")
# Suffixes of files whose content is not searched. Of safetensors files only the metadata is searched.
_BINARY = (".png", ".safetensors", ".spm", ".model", ".onnx", ".bin")


class _Kind(NamedTuple):
    """A kind of private data: its pattern and its description in messages.

    If `anywhere` is false, vocabularies and Python code may contain matches.
    """

    pattern: re.Pattern[str]
    message: str
    anywhere: bool = True


def check_private(folder: Path, public: str = "") -> int:
    """Refuses a folder with private data.

    Args:
        folder: the folder with all files to upload.
        public: text that is public anyway, such as the name of the repository. If this text contains the name of the
            user or the host, the name is allowed in every file.

    Returns:
        The number of files that were checked.

    Raises:
        UserError: If a file has private data. The message names file and line, but does not repeat a token.
    """
    patterns = _patterns(public)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    for file in files:
        name = file.relative_to(folder).as_posix()
        is_vocabulary = file.name in _VOCABULARIES
        kinds = [kind for kind in patterns if kind.anywhere or not (is_vocabulary or file.suffix == ".py")]
        for number, line in enumerate(_lines(file), start=1):
            found = _private([line] if is_vocabulary else sorted(_readings(line)), kinds)
            if found is not None:
                raise UserError(
                    f"{name}, line {number}: it holds {found}, which would become public; take it out and push again"
                )
    return len(files)


def _readings(line: str) -> set[str]:
    """Returns a line and its decoded forms, without JSON escapes and without percent-encoding."""
    plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), line.replace("\\/", "/"))
    return {line, plain, re.sub(r"\\[nrt]", " ", plain), unquote(plain)}


def _private(readings: Sequence[str], kinds: Sequence[_Kind]) -> str | None:
    for kind in kinds:
        match = next(filter(None, map(kind.pattern.search, readings)), None)
        if match is not None:
            return kind.message.format(match.group())
    return None


def _patterns(public: str) -> list[_Kind]:
    """Returns the kinds of private data, without the names of the user and the host that occur in `public`."""
    token = get_token()
    secrets = f"{_SECRETS}|{re.escape(token)}" if token else _SECRETS
    own = [str(Path.home()), os.getcwd(), tempfile.gettempdir()]
    paths = [rf"{re.escape(path)}(?!\w)" for path in own if len(Path(path).parts) > 1]
    kinds = [
        _Kind(re.compile(secrets), "an access token or a password"),
        _Kind(re.compile("|".join([_HOMES, *paths])), "the path {} of this machine"),
        _Kind(re.compile(_WINDOWS_PATHS), "the path {} of this machine", anywhere=False),
    ]
    names = [name for name in {_user(), platform.node()} - _ANYBODY if len(name) >= _SHORTEST_NAME]
    private = "|".join(re.escape(name) for name in names if name.lower() not in public.lower())
    if private:
        words = re.compile(rf"(?<![^\W_])(?:{private})(?![^\W_])", re.IGNORECASE)
        kinds.append(_Kind(words, "the name {} of this machine or of its user", anywhere=False))
    return kinds


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user of a container may have a number but no name
        return ""


def _lines(file: Path) -> Iterator[str]:
    """Yields the lines of a text file, the metadata of a safetensors file, and nothing of other binary files."""
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as tensors:
            yield str(tensors.metadata())
    elif file.suffix not in _BINARY:
        with open(file, encoding="utf-8", errors="replace") as text:
            yield from text
