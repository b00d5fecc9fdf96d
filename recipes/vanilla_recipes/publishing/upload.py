"""Uploads a folder to the Hugging Face Hub as one commit, and turns failures into errors of one line."""

import glob
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars, validate_repo_id

from vanilla_recipes.errors import UserError, one_line
from vanilla_recipes.hub import refusal, unreachable
from vanilla_recipes.models.saved_code import CONFIGS, saved_code
from vanilla_recipes.publishing.repository import is_published

MAIN = "main"
# The first class is the base error of the HTTP library. Versions of huggingface_hub differ in their HTTP library.
_NETWORK_ERRORS: tuple[Any, ...] = (HfHubHTTPError.__bases__[0], ConnectionError, TimeoutError)
_NO_TOKEN = (
    "pushing needs an access token that may write: make one at {endpoint}/settings/tokens, and set HF_TOKEN to it or "
    "call `hf auth login`"
)


@dataclass(frozen=True)
class Target:
    """The repository and branch to push to.

    Attributes:
        name: name of the repository, `USER/NAME`.
        kind: `"model"` or `"space"`.
        private: whether a new repository is private.
        revision: name of the branch. A missing branch is created.
        create_pr: whether to open a pull request instead of committing to the branch.
    """

    name: str
    kind: str = "model"
    private: bool = False
    revision: str = MAIN
    create_pr: bool = False


def check_name(name: str) -> None:
    """Refuses a name that no repository can have.

    Raises:
        UserError: If the name is not USER/NAME, or has characters that the Hub does not allow.
    """
    try:
        validate_repo_id(name)
        if name.count("/") != 1:
            raise HFValidationError("the user is missing")
    except HFValidationError as error:
        raise UserError(
            f"{name}: cannot be the name of a repository ({one_line(str(error))}); give USER/NAME, made of letters, "
            "digits, `-`, `_` and `.`"
        ) from error


def check_revision(revision: str) -> None:
    """Refuses a name that no branch can have.

    Raises:
        UserError: If the name has other characters than letters, digits, `_`, `-`, `.` and `/`, or if a part between
            slashes is empty or begins with `-` or `.`.
    """
    if not re.fullmatch(r"[\w][\w.-]*(?:/[\w][\w.-]*)*", revision):
        raise UserError(
            f"--revision {revision!r}: must name a branch, such as main; use letters, digits, -, _, . and /"
        )


def check_access(target: Target) -> None:
    """Checks before any work is done that the access token may push to the target.

    Raises:
        UserError: If the Hub cannot be reached, no token is set, or the token may not write to the repository.
    """
    fault = unreachable()
    if fault is not None:
        raise UserError(f"{target.name}: the Hub cannot be reached ({fault}), so nothing was pushed; try again later")
    if get_token() is None:
        raise UserError(_NO_TOKEN.format(endpoint=constants.ENDPOINT))
    with hub_faults_as_user_errors(target.name):
        identity = HfApi().whoami()
    role = identity.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise UserError(
            f"the access token of {identity['name']} may only read; {_NO_TOKEN.format(endpoint=constants.ENDPOINT)}"
        )
    owner = target.name.split("/")[0]
    owners = [identity["name"], *(each["name"] for each in identity.get("orgs", []))]
    if role == "write" and owner not in owners and not target.create_pr:
        raise UserError(
            f"{target.name}: the access token belongs to {identity['name']}, who may not write there; name a "
            f"repository of {' or '.join(owners)}, or propose a change as a pull request with --create-pr"
        )


def check_place(target: Target, model_type: str, overwrite: bool) -> None:
    """Refuses an existing repository that has a model of another type, or is public although it must be private.

    Args:
        target: the repository.
        model_type: `model_type` of the model to push.
        overwrite: whether a model of another type may be replaced.

    Raises:
        UserError: If the repository is public and `target.private` is true, or if the repository has a model of
            another type and `overwrite` is false.
    """
    api = HfApi()
    with hub_faults_as_user_errors(target.name):
        try:
            info = api.repo_info(target.name, repo_type=target.kind)
        except RepositoryNotFoundError:
            return
        if target.private and not info.private:
            raise UserError(
                f"{target.name}: exists and is public, so --private has no effect; make it private in its settings "
                "first, or name another repository"
            )
        found = None if overwrite else _model_type(api, target)
    if found is not None and found != model_type:
        raise UserError(
            f"{target.name}: holds a model of another type, {found}, which this {model_type} would replace; name "
            "another repository, or give --overwrite"
        )


def _model_type(api: HfApi, target: Target) -> str | None:
    """Returns the `model_type` of the model in the repository, or `None` if there is no model."""
    try:
        file = api.hf_hub_download(target.name, "config.json", revision=target.revision, repo_type=target.kind)
        return json.loads(Path(file).read_text(encoding="utf-8")).get("model_type")
    except (EntryNotFoundError, RevisionNotFoundError, ValueError):
        return None


def terms_of(datasets: Sequence[str]) -> str | None:
    """Returns the licenses of datasets on the Hub as one text; `None` if the Hub has a license for none of them."""
    found = []
    for name in datasets:
        try:
            data = HfApi().dataset_info(name).card_data
        except (*_NETWORK_ERRORS, HFValidationError):
            continue
        licence = data.get("license") if data else None
        if licence:
            found.append(f"{name}: {', '.join(licence) if isinstance(licence, list) else licence}")
    return "; ".join(found) or None


def upload(folder: Path, target: Target, message: str) -> tuple[str, str]:
    """Uploads all files of a folder as one commit; a missing repository or branch is created.

    The files in the repository do not change until all files have been uploaded. After a failure, a new attempt does
    not send files again that have been uploaded.

    Args:
        folder: the folder to upload.
        target: the repository and branch.
        message: commit message.

    Returns:
        The address of the pull request or commit, and the id of the commit.

    Raises:
        UserError: If the Hub refuses the upload, or the connection fails.
    """
    api = HfApi()
    disable_progress_bars()
    with hub_faults_as_user_errors(target.name):
        api.create_repo(
            target.name,
            repo_type=target.kind,
            visibility="private" if target.private else None,
            exist_ok=True,
            space_sdk="gradio" if target.kind == "space" else None,
        )
        if target.revision != MAIN:
            api.create_branch(target.name, branch=target.revision, repo_type=target.kind, exist_ok=True)
        commit = api.upload_folder(
            repo_id=target.name,
            repo_type=target.kind,
            folder_path=folder,
            revision=target.revision,
            create_pr=target.create_pr,
            commit_message=message,
            delete_patterns=_left_behind(api, target),
        )
    return commit.pr_url or commit.commit_url, commit.oid


def _left_behind(api: HfApi, target: Target) -> list[str]:
    """Returns patterns of files that earlier pushes wrote, to delete them in the new commit.

    An old file that the new commit does not overwrite would be loaded together with the new model.
    """
    if target.kind != "model":
        return []
    there = api.list_repo_files(target.name, revision=target.revision)
    code = _code_among(there, api, target)
    return [glob.escape(path) for path in there if path in code or is_published(path)]


def _code_among(there: Sequence[str], api: HfApi, target: Target) -> frozenset[str]:
    """Returns the code files of the model in the repository.

    Older versions of this package saved code files of other names, and other Python files may belong to the owner of
    the repository. So the code is found by following the imports.
    """
    modules = [path for path in there if path.endswith(".py") and "/" not in path]
    if not modules:
        return frozenset()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:

        def read(path: str) -> str:
            return api.hf_hub_download(target.name, path, revision=target.revision, local_dir=folder)

        list(pool.map(read, [*modules, *(config for config in CONFIGS if config in there)]))
        return saved_code(Path(folder)).files


@contextmanager
def hub_faults_as_user_errors(name: str) -> Iterator[None]:
    """Turns errors of the Hub and of the connection into a `UserError` of one line that begins with `name`."""
    try:
        yield
    except (*_NETWORK_ERRORS, RuntimeError, LocalEntryNotFoundError) as error:
        # huggingface_hub wraps network errors: in a RuntimeError at uploads, a LocalEntryNotFoundError at downloads.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, _NETWORK_ERRORS):
            cause = cause.__cause__
        if cause is None:
            raise
        raise UserError(f"{name}: {_why(cause)}") from error


def _why(error: BaseException) -> str:
    text = one_line(str(error)) or type(error).__name__
    if not isinstance(error, HfHubHTTPError):
        return (
            f"the connection to the Hub failed ({text}); no file in the repository changed. Run the command again: "
            "files that have been uploaded are not sent twice"
        )
    status = error.response.status_code
    said = (error.server_message or text).splitlines()[0].rstrip(".")
    if status in (413, 507) or any(word in said.lower() for word in ("storage", "quota", "space left")):
        return f"the storage on the Hub is full ({said}); delete repositories or files there that you no longer need"
    if status == 403:
        return f"the access token may not write there ({said}); use another token, or propose a change with --create-pr"
    if status == 401:
        return refusal(error) or _NO_TOKEN.format(endpoint=constants.ENDPOINT)
    return f"the Hub refused the request ({status}: {said}); the files in the repository are unchanged"
