"""A small server on this machine that imitates the Hugging Face Hub, for tests with the real client.

It answers the requests that huggingface_hub 2.4 sends when a repository is created, pushed to and loaded: create,
preupload, LFS, commit, branches and pull requests, revisions, trees, resolve. The files are stored in a folder, each
named by its SHA-256.
"""

import base64
import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import yaml

MAIN = "main"
READ = ":read"
LARGE = 10_000_000
LARGE_SUFFIXES = (".safetensors", ".bin", ".onnx", ".png")
CHUNK = 2**16


@dataclass(frozen=True)
class Commit:
    """A commit of a repository: the SHA-256 of each file, by path."""

    oid: str
    title: str
    files: Mapping[str, str]


@dataclass
class Repository:
    """A model, data set or Space. Each branch is a list of commits, the newest last."""

    name: str
    kind: str
    private: bool
    refs: dict[str, list[Commit]] = field(default_factory=dict)
    num_pull_requests: int = 0

    def commit(self, revision: str) -> Commit | None:
        """Returns the commit of a branch, a reference or a commit id; None if there is none."""
        if revision in self.refs:
            return self.refs[revision][-1]
        commits = (commit for history in self.refs.values() for commit in history)
        return next((commit for commit in commits if commit.oid == revision), None)


class RefusedError(Exception):
    """Raised to answer with an error status. The client tells errors apart by `code`."""

    def __init__(self, status: HTTPStatus, code: str, headers: Mapping[str, str] | None = None, **details: str) -> None:
        super().__init__(code)
        self.status, self.code, self.headers, self.details = status, code, headers or {}, details


class LocalHub:
    """The server. Within a `with` block it runs in a separate thread.

    Args:
        folder: folder in which files are stored.
        tokens: the user of each access token; if a name ends in `:read`, the token may only read.
        large_files: how clients upload weights and pictures: `"lfs"`, or `"regular"`, that is inside the commit. A
            client that uses xet needs `"regular"`, because this server has no xet.

    Attributes:
        repositories: the repositories by kind and name, such as `("model", "user/name")`.
        requests: method and path of each request.
        is_full: whether uploads are refused because the storage is full.
    """

    def __init__(self, folder: Path, tokens: Mapping[str, str], large_files: str = "lfs") -> None:
        self.folder, self.tokens, self.large_files = folder, dict(tokens), large_files
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.is_full = False
        self.lock = threading.RLock()
        self._cuts: list[int] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *arguments: _Handler(self, *arguments))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def endpoint(self) -> str:
        """The value of `HF_ENDPOINT` for clients of this server."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "LocalHub":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def cut_uploads(self, *after: int) -> None:
        """Drops the connection of the next uploads: the n-th upload after the n-th number of bytes."""
        with self.lock:
            self._cuts = list(after)

    def next_cut(self) -> int | None:
        """Returns the number of bytes after which the next upload is cut, or None."""
        with self.lock:
            return self._cuts.pop(0) if self._cuts else None

    def blob(self, sha256: str) -> Path:
        """Returns the path of a stored file."""
        return self.folder / sha256

    def store(self, content: bytes) -> str:
        """Stores a file; returns its SHA-256."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.blob(sha256).write_bytes(content)
        return sha256

    def add(self, name: str, folder: Path, kind: str = "model") -> None:
        """Adds a repository with the files of a folder."""
        files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        kept = {path: self.store(content) for path, content in files.items()}
        repository = Repository(name, kind, private=False, refs={MAIN: [Commit(_new_oid(), "added", kept)]})
        self.repositories[kind, name] = repository

    def text(self, commit: Commit, path: str) -> str:
        """Returns the text of a file in a commit; empty if the file does not exist."""
        return self.blob(commit.files[path]).read_text("utf-8") if path in commit.files else ""

    def files(self, name: str, revision: str = MAIN, kind: str = "model") -> dict[str, bytes]:
        """Returns the files of a repository by path, for assertions of a test."""
        commit = self.repositories[kind, name].commit(revision)
        assert commit is not None, revision
        return {path: self.blob(sha256).read_bytes() for path, sha256 in commit.files.items()}


Answer = Callable[..., Any]
_ROUTES: list[tuple[str, re.Pattern[str], Answer]] = []
_REPO = r"/api/(?P<kind>model|dataset|space)s/(?P<name>[^/]+/[^/]+)"
_FILES = r"(?:/(?P<kind>dataset|space)s)?/(?P<name>[^/]+/[^/]+?)"


def route(method: str, pattern: str) -> Callable[[Answer], Answer]:
    """Registers a function that answers requests whose complete path matches `pattern`."""

    def register(answer: Answer) -> Answer:
        _ROUTES.append((method, re.compile(pattern), answer))
        return answer

    return register


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: LocalHub, *arguments: Any) -> None:
        self.hub = hub
        super().__init__(*arguments)

    def log_message(self, *arguments: object) -> None:
        """Logs nothing."""

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        path = parts.path
        self.hub.requests.append((self.command, path))
        method = "GET" if self.command == "HEAD" else self.command
        for known, pattern, answer in _ROUTES:
            match = pattern.fullmatch(path)
            if known == method and match:
                groups = {name: value and unquote(value) for name, value in match.groupdict().items()}
                try:
                    result = answer(self, **groups)
                except RefusedError as refused:
                    content = json.dumps({"error": refused.code, **refused.details}).encode()
                    self._send(content, refused.status, {"X-Error-Code": refused.code, **refused.headers})
                else:
                    self._reply(result)
                return
        self._send(b"", HTTPStatus.NOT_FOUND, {"X-Error-Code": "EntryNotFound"})

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

    def _reply(self, result: Any) -> None:
        if isinstance(result, tuple):  # a file and its headers
            self._send(result[0], HTTPStatus.OK, result[1])
        elif result is not None:
            self._send(json.dumps(result).encode(), HTTPStatus.OK, {"Content-Type": "application/json"})

    def _send(self, content: bytes, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        if self.command == "POST":
            self.body()  # unread bytes would be parsed as the next request
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    _body: bytes | None = None

    def handle_one_request(self) -> None:
        """Clears the body of the previous request."""
        self._body = None
        super().handle_one_request()

    def body(self) -> bytes:
        """Returns the body of the request."""
        if self._body is None:
            self._body = b"".join(self.pieces())
        return self._body

    def pieces(self) -> Iterator[bytes]:
        """Yields the body of the request in pieces, as they arrive."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read(min(left, CHUNK))
            if not piece:
                raise ConnectionError("the client closed the connection within a request")
            left -= len(piece)
            yield piece

    def json(self) -> dict[str, Any]:
        """Returns the body of the request, parsed as JSON."""
        return json.loads(self.body() or b"{}")

    @property
    def user(self) -> str | None:
        """The user of the request's token; None if the token is missing or unknown."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        name = self.hub.tokens.get(token)
        return name and name.removesuffix(READ)

    @property
    def may_write(self) -> bool:
        """Whether the token of the request may write."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return not self.hub.tokens.get(token, READ).endswith(READ)

    def writer(self) -> str:
        """Returns the user.

        Raises:
            RefusedError: If the user is unknown or may not write.
        """
        if self.user is None:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "Unauthorized")
        if not self.may_write:
            raise RefusedError(HTTPStatus.FORBIDDEN, "Forbidden")
        return self.user

    def repository(self, kind: str | None, name: str) -> Repository:
        """Returns a repository.

        Raises:
            RefusedError: If it does not exist, or is private and belongs to another user.
        """
        found = self.hub.repositories.get((kind or "model", name))
        if found is None or (found.private and self.user != name.split("/")[0]):
            status = HTTPStatus.NOT_FOUND if self.user else HTTPStatus.UNAUTHORIZED
            raise RefusedError(status, "RepoNotFound")
        return found

    def commit_of(self, repository: Repository, revision: str) -> Commit:
        """Returns a commit of a repository.

        Raises:
            RefusedError: If the revision does not exist.
        """
        commit = repository.commit(revision)
        if commit is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        return commit


# Users, repositories and files


@route("GET", r"/api/whoami-v2")
def _whoami(request: _Handler) -> dict[str, Any]:
    if request.user is None:
        raise RefusedError(HTTPStatus.UNAUTHORIZED, "Unauthorized")
    access = {"accessToken": {"displayName": "test", "role": "write" if request.may_write else "read"}}
    return {"type": "user", "name": request.user, "orgs": [], "auth": access}


@route("POST", r"/api/validate-yaml")
def _validate_card(request: _Handler) -> dict[str, Any]:
    return {"errors": [], "warnings": []}


@route("POST", r"/api/repos/create")
def _create(request: _Handler) -> dict[str, Any]:
    asked, user = request.json(), request.writer()
    name = f"{asked.get('organization') or user}/{asked['name']}"
    kind = asked.get("type", "model")
    url = f"{request.hub.endpoint}/{'' if kind == 'model' else kind + 's/'}{name}"
    with request.hub.lock:
        if (kind, name) in request.hub.repositories:
            raise RefusedError(HTTPStatus.CONFLICT, "Conflict", url=url)
        repository = Repository(name, kind, private=asked.get("visibility") == "private")
        repository.refs[MAIN] = [Commit(_new_oid(), "initial commit", {".gitattributes": request.hub.store(b"")})]
        request.hub.repositories[kind, name] = repository
    return {"url": url, "name": name}


@route("GET", rf"{_REPO}(?:/revision/(?P<revision>[^/]+))?")
def _info(request: _Handler, kind: str, name: str, revision: str | None) -> dict[str, Any]:
    repository = request.repository(kind, name)
    commit = request.commit_of(repository, revision or MAIN)
    siblings = [{"rfilename": path} for path in sorted(commit.files)]
    described = {"id": name, "sha": commit.oid, "private": repository.private, "siblings": siblings, "tags": []}
    card = re.match(r"---\n(.*?)---", request.hub.text(commit, "README.md"), flags=re.DOTALL)
    return described | ({"cardData": yaml.safe_load(card[1])} if card else {})


@route("GET", rf"{_REPO}/refs")
def _refs(request: _Handler, kind: str, name: str) -> dict[str, Any]:
    refs = request.repository(kind, name).refs
    described = {
        ref: {"name": ref, "ref": ref if "/" in ref else f"refs/heads/{ref}", "targetCommit": history[-1].oid}
        for ref, history in refs.items()
    }
    pulls = [each for ref, each in described.items() if ref.startswith("refs/pr/")]
    branches = [each for ref, each in described.items() if not ref.startswith("refs/")]
    return {"branches": branches, "tags": [], "converts": [], "pullRequests": pulls}


@route("GET", rf"{_REPO}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.*))?")
def _tree(request: _Handler, kind: str, name: str, revision: str, folder: str | None) -> list[dict[str, Any]]:
    commit = request.commit_of(request.repository(kind, name), revision)
    beginning = f"{folder}/" if folder else ""
    return [_entry(request.hub, path, sha256) for path, sha256 in commit.files.items() if path.startswith(beginning)]


@route("POST", rf"{_REPO}/paths-info/(?P<revision>[^/]+)")
def _paths_info(request: _Handler, kind: str, name: str, revision: str) -> list[dict[str, Any]]:
    commit = request.commit_of(request.repository(kind, name), revision)
    return [_entry(request.hub, path, commit.files[path]) for path in request.json()["paths"] if path in commit.files]


def _entry(hub: LocalHub, path: str, sha256: str) -> dict[str, Any]:
    size = hub.blob(sha256).stat().st_size
    lfs = {"lfs": {"oid": sha256, "size": size, "pointerSize": 134}} if _is_large(hub, path, size) else {}
    return {"type": "file", "path": path, "oid": sha256[:40], "size": size, **lfs}


def _is_large(hub: LocalHub, path: str, size: int) -> bool:
    return hub.large_files == "lfs" and (size > LARGE or path.endswith(LARGE_SUFFIXES))


@route("GET", rf"{_FILES}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
def _resolve(request: _Handler, kind: str | None, name: str, revision: str, path: str) -> tuple[bytes, dict[str, str]]:
    commit = request.commit_of(request.repository(kind, name), revision)
    headers = {"X-Repo-Commit": commit.oid}
    if path not in commit.files:
        raise RefusedError(HTTPStatus.NOT_FOUND, "EntryNotFound", headers)
    sha256 = commit.files[path]
    return request.hub.blob(sha256).read_bytes(), headers | {"ETag": f'"{sha256}"'}


# Requests that write


@route("POST", rf"{_REPO}/preupload/(?P<revision>[^/]+)")
def _preupload(request: _Handler, kind: str, name: str, revision: str) -> dict[str, Any]:
    request.writer()
    commit = request.commit_of(request.repository(kind, name), revision)
    files = [
        {
            "path": file["path"],
            "uploadMode": "lfs" if _is_large(request.hub, file["path"], file["size"]) else "regular",
            "shouldIgnore": False,
            "oid": commit.files.get(file["path"]),
        }
        for file in request.json()["files"]
    ]
    return {"files": files}


@route("POST", rf"{_FILES}\.git/info/lfs/objects/batch")
def _lfs_batch(request: _Handler, kind: str | None, name: str) -> dict[str, Any]:
    request.writer()
    if request.hub.is_full:
        raise RefusedError(HTTPStatus.FORBIDDEN, "Forbidden", {"X-Error-Message": "Storage limit reached."})
    request.repository(kind, name)
    objects = []
    for asked in request.json()["objects"]:
        upload = {"href": f"{request.hub.endpoint}/lfs/{asked['oid']}"}
        actions = {"actions": {"upload": upload, "verify": {"href": f"{request.hub.endpoint}/lfs/verify"}}}
        objects.append(asked | ({} if request.hub.blob(asked["oid"]).exists() else actions))
    return {"transfer": "basic", "objects": objects}


@route("PUT", r"/lfs/(?P<sha256>[0-9a-f]{64})")
def _lfs_upload(request: _Handler, sha256: str) -> dict[str, Any] | None:
    cut, received = request.hub.next_cut(), bytearray()
    for piece in request.pieces():
        received += piece
        if cut is not None and len(received) >= cut:
            request.close_connection = True
            request.connection.close()
            return None
    if hashlib.sha256(received).hexdigest() != sha256:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "BadDigest")
    request.hub.store(bytes(received))
    return {}


@route("POST", r"/lfs/verify")
def _lfs_verify(request: _Handler) -> dict[str, Any]:
    asked = request.json()
    blob = request.hub.blob(asked["oid"])
    if not blob.exists() or blob.stat().st_size != asked["size"]:
        raise RefusedError(HTTPStatus.NOT_FOUND, "EntryNotFound")
    return {}


@route("POST", rf"{_REPO}/commit/(?P<revision>[^/]+)")
def _commit(request: _Handler, kind: str, name: str, revision: str) -> dict[str, Any]:
    user = request.writer()
    repository = request.repository(kind, name)
    by_pull_request = request.query.get("create_pr") == "1"
    if user != name.split("/")[0] and not by_pull_request:
        raise RefusedError(HTTPStatus.FORBIDDEN, "Forbidden")
    items = [json.loads(line) for line in request.body().splitlines() if line]
    header = next(item["value"] for item in items if item["key"] == "header")
    with request.hub.lock:
        base = request.commit_of(repository, revision)
        if header.get("parentCommit") not in (None, base.oid):
            raise RefusedError(HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed")
        files = dict(base.files)
        for item in items:
            _apply(request.hub, item["key"], item["value"], files)
        commit = Commit(_new_oid(), header["summary"], files)
        ref = revision
        if by_pull_request:
            repository.num_pull_requests += 1
            ref = f"refs/pr/{repository.num_pull_requests}"
            repository.refs[ref] = list(repository.refs[MAIN])
        repository.refs[ref].append(commit)
    url = f"{request.hub.endpoint}/{name}"
    pull = {"pullRequestUrl": f"{url}/discussions/{repository.num_pull_requests}"} if by_pull_request else {}
    return {"success": True, "commitOid": commit.oid, "commitUrl": f"{url}/commit/{quote(commit.oid)}", **pull}


def _apply(hub: LocalHub, key: str, value: dict[str, Any], files: dict[str, str]) -> None:
    """Applies one line of a commit to `files`, the SHA-256 by path."""
    if key == "file":
        files[value["path"]] = hub.store(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        if not hub.blob(value["oid"]).exists():
            raise RefusedError(HTTPStatus.BAD_REQUEST, "LfsObjectMissing")
        files[value["path"]] = value["oid"]
    elif key == "deletedFile":
        files.pop(value["path"], None)
    elif key == "deletedFolder":
        for path in [path for path in files if path.startswith(value["path"].rstrip("/") + "/")]:
            del files[path]


@route("POST", rf"{_REPO}/branch/(?P<branch>[^/]+)")
def _branch(request: _Handler, kind: str, name: str, branch: str) -> dict[str, Any]:
    request.writer()
    repository = request.repository(kind, name)
    with request.hub.lock:
        if branch in repository.refs:
            raise RefusedError(HTTPStatus.CONFLICT, "Conflict")
        start = request.commit_of(repository, request.json().get("startingPoint", MAIN))
        repository.refs[branch] = [start]
    return {}


@route("DELETE", r"/api/repos/delete")
def _delete(request: _Handler) -> dict[str, Any]:
    asked, user = request.json(), request.writer()
    name = f"{asked.get('organization') or user}/{asked['name']}"
    kind = asked.get("type", "model")
    request.repository(kind, name)
    del request.hub.repositories[kind, name]
    return {}


def _new_oid() -> str:
    return secrets.token_hex(20)
