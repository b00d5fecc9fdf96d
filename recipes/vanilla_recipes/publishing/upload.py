"""Sends a folder to the Hugging Face Hub as one commit, and tells in one line why it could not."""

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
# The first is of the library with which the client happens to speak HTTP.
_NETWORK_ERRORS: tuple[Any, ...] = (HfHubHTTPError.__bases__[0], ConnectionError, TimeoutError)
_NO_TOKEN = (
    "pushing needs an access token that may write: make one at {endpoint}/settings/tokens, and set HF_TOKEN to it or "
    "call `hf auth login`"
)


@dataclass(frozen=True)
class Target:
    """Where a model goes.

    Attributes:
        name: of the repository, `USER/NAME`.
        kind: `"model"` or `"space"`.
        private: whether a new repository is for its owner alone.
        revision: the branch, which is made where there is none.
        create_pr: whether the commit becomes a pull request.
    """

    name: str
    kind: str = "model"
    private: bool = False
    revision: str = MAIN
    create_pr: bool = False


def check_name(name: str) -> None:
    """Refuse what can be no name of a repository.

    Raises:
        UserError: as it says.
    """
    try:
        validate_repo_id(name)
        if name.count("/") != 1:
            raise HFValidationError("there is no user in it")
    except HFValidationError as error:
        raise UserError(
            f"{name}: cannot be the name of a repository ({one_line(str(error))}); name one as USER/NAME, of letters, "
            "digits, `-`, `_` and `.`"
        ) from error


def check_revision(revision: str) -> None:
    """Refuse what can be no name of a branch.

    Raises:
        UserError: as it says.
    """
    if not re.fullmatch(r"[\w][\w.-]*(?:/[\w][\w.-]*)*", revision):
        raise UserError(f"--revision {revision!r}: must name a branch, such as main or tried")


def check_access(target: Target) -> None:
    """Refuse before any work is done what the Hub would refuse after it.

    Raises:
        UserError: the Hub cannot be reached, there is no token, or it may not write.
    """
    fault = unreachable()
    if fault is not None:
        raise UserError(f"{target.name}: the Hub cannot be reached ({fault}), so nothing was pushed; try again later")
    if get_token() is None:
        raise UserError(_NO_TOKEN.format(endpoint=constants.ENDPOINT))
    with told(target.name):
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
            f"{target.name}: the access token is that of {identity['name']}, who may not write there; name a "
            f"repository of {' or '.join(owners)}, or propose a change to one of others with --create-pr"
        )


def check_place(target: Target, model_type: str, overwrite: bool) -> None:
    """Refuse a repository that holds something else, or that others can see where they must not.

    Raises:
        UserError: as it says.
    """
    api = HfApi()
    with told(target.name):
        try:
            info = api.repo_info(target.name, repo_type=target.kind)
        except RepositoryNotFoundError:
            return
        if target.private and not info.private:
            raise UserError(
                f"{target.name}: exists and is public, so --private cannot hold; make it private in its settings "
                "first, or name another one"
            )
        found = None if overwrite else _model_type(api, target)
    if found is not None and found != model_type:
        raise UserError(
            f"{target.name}: holds a model of another type, {found}, which this {model_type} would replace; name "
            "another repository, or give --overwrite"
        )


def _model_type(api: HfApi, target: Target) -> str | None:
    """The type of the model that is there, if one is."""
    try:
        file = api.hf_hub_download(target.name, "config.json", revision=target.revision, repo_type=target.kind)
        return json.loads(Path(file).read_text(encoding="utf-8")).get("model_type")
    except (EntryNotFoundError, RevisionNotFoundError, ValueError):
        return None


def terms_of(datasets: Sequence[str]) -> str | None:
    """The licences that the Hub knows of data sets; `None` where it knows none."""
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
    """Makes the repository if there is none, and sends all files as one commit.

    What was there before stays as it is until everything has arrived. Files that have arrived are not sent again.

    Returns:
        Where it can be seen, and the id of the commit.

    Raises:
        UserError: the Hub refused it, or the connection failed.
    """
    api = HfApi()
    disable_progress_bars()
    with told(target.name):
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
    """What older pushes wrote, as patterns: what a new one does not overwrite would be loaded with it."""
    if target.kind != "model":
        return []
    there = api.list_repo_files(target.name, revision=target.revision)
    code = _code_among(there, api, target)
    return [glob.escape(path) for path in there if path in code or is_published(path)]


def _code_among(there: Sequence[str], api: HfApi, target: Target) -> frozenset[str]:
    """The code of the model that is there: older versions had other files, and the owner may have some too."""
    modules = [path for path in there if path.endswith(".py") and "/" not in path]
    if not modules:
        return frozenset()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:

        def read(path: str) -> str:
            return api.hf_hub_download(target.name, path, revision=target.revision, local_dir=folder)

        list(pool.map(read, [*modules, *(config for config in CONFIGS if config in there)]))
        return saved_code(Path(folder)).files


@contextmanager
def told(name: str) -> Iterator[None]:
    """What the Hub or the connection says becomes one line."""
    try:
        yield
    except (*_NETWORK_ERRORS, RuntimeError, LocalEntryNotFoundError) as error:
        cause: BaseException | None = error  # an upload that fails becomes a RuntimeError, a file that is read the last
        while cause is not None and not isinstance(cause, _NETWORK_ERRORS):
            cause = cause.__cause__
        if cause is None:
            raise
        raise UserError(f"{name}: {_why(cause)}") from error


def _why(error: BaseException) -> str:
    text = one_line(str(error)) or type(error).__name__
    if not isinstance(error, HfHubHTTPError):
        return (
            f"the connection to the Hub failed ({text}); what was there is as it was: run the same command again, "
            "and what has arrived is not sent twice"
        )
    status = error.response.status_code
    said = (error.server_message or text).splitlines()[0].rstrip(".")
    if status in (413, 507) or any(word in said.lower() for word in ("storage", "quota", "space left")):
        return f"there is no room for it on the Hub ({said}); delete what is no longer needed there"
    if status == 403:
        return f"the access token may not write there ({said}); use one that may, or propose a change with --create-pr"
    if status == 401:
        return refusal(error) or _NO_TOKEN.format(endpoint=constants.ENDPOINT)
    return f"the Hub refused it ({status}: {said}); what was there is as it was"
