"""Finds what must not become public: access tokens, paths of this machine, names of its user and of itself."""

import getpass
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from huggingface_hub import get_token
from safetensors import safe_open

from vanilla_transformers.recipes.errors import UserError

# Access tokens of the Hub, OpenAI, Anthropic, GitHub, GitLab, Slack, Google, AWS and Weights & Biases; keys; passwords.
_SECRETS = re.compile(
    r"hf_(?:oauth_)?[A-Za-z0-9]{16,}|api_org_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{20,}|gh[oprsu]_[A-Za-z0-9]{30,}|"
    r"github_pat_\w{30,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}|AIza[\w-]{35}|A(?:KI|SI)A[0-9A-Z]{16}|wandb_v1_\w{20,}|"
    r"(?i:wandb_api_key|aws_secret_access_key)\W{1,4}\w{16,}|-----BEGIN [A-Z ]*PRIVATE KEY-----|"
    r"://[^/\s:@'\"]+:[^/\s@'\"]+@"
)
_HOMES = re.compile(r"(?:/home/|/Users/|/Volumes/|/mnt/|/scratch/)[\w.-]+")
_WINDOWS_PATHS = re.compile(r"(?i:\b[a-z]:\\+\w[\w.\\-]*)|(?<![\w\\])\\\\\w[\w.-]*\\\w[\w.-]*")
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
        is_vocabulary = file.name in _VOCABULARIES
        has_words = not is_vocabulary and file.suffix != ".py"  # where a name may be any word
        for number, line in enumerate(_lines(file), start=1):
            readings = [line] if is_vocabulary else sorted(_readings(line))
            names = words if has_words else None
            found = next(filter(None, (_private(each, names, paths, is_vocabulary) for each in readings)), None)
            if found is not None:
                raise UserError(
                    f"{name}, line {number}: it holds {found}, which would become public; take it out and push again"
                )
    return len(files)


def _readings(line: str) -> set[str]:
    """A line as it stands, and as JSON and addresses mean it."""
    plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), line.replace("\\/", "/"))
    return {line, plain, re.sub(r"\\[nrt]", " ", plain), unquote(plain)}


def _private(line: str, words: re.Pattern[str] | None, paths: re.Pattern[str], is_vocabulary: bool) -> str | None:
    token = get_token()
    if _SECRETS.search(line) or (token and token in line):
        return "an access token or a password"
    path = _HOMES.search(line) or paths.search(line) or (None if is_vocabulary else _WINDOWS_PATHS.search(line))
    if path is not None:
        return f"the path {path.group()} of this machine"
    word = words.search(line) if words else None
    return f"the name {word.group()} of this machine or of its user" if word else None


def _private_paths() -> re.Pattern[str]:
    found = {str(Path.home()), os.getcwd(), tempfile.gettempdir()}
    own = sorted(re.escape(path) for path in found if len(Path(path).parts) > 1)
    return re.compile(rf"(?:{'|'.join(own) or '(?!)'})(?!\w)")


def _private_words(public: str) -> re.Pattern[str] | None:
    names = {_user(), platform.node()} - _ANYBODY
    known = public.lower()
    private = [re.escape(name) for name in names if len(name) >= _SHORTEST_NAME and name.lower() not in known]
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(private)})(?![^\W_])", re.IGNORECASE) if private else None


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
