"""A Hub that answers, that is not there, that says nothing."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from vanilla_recipes import hub
from vanilla_recipes.hub import hub_or_cache, refusal


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def port() -> Iterator[int]:
    """Where connections are accepted and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class Teapot(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(418)

    def log_message(self, *arguments: object) -> None:
        """Silent."""


def test_a_hub_that_answers_is_asked(monkeypatch):
    with HTTPServer(("127.0.0.1", 0), Teapot) as server:
        threading.Thread(target=server.handle_request).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        with hub_or_cache() as fault:
            assert (fault, constants.HF_HUB_OFFLINE) == (None, False)


def test_a_hub_that_says_nothing_is_given_up(monkeypatch, port):
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(hub, "SECONDS_TO_ANSWER", 0.2)
    start = time.perf_counter()
    with hub_or_cache() as fault:
        assert constants.HF_HUB_OFFLINE
    assert fault.startswith(f"http://127.0.0.1:{port}: ")
    assert time.perf_counter() - start < 5
    assert not constants.HF_HUB_OFFLINE


def test_a_user_who_stays_offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with hub_or_cache() as fault:
        assert fault == "HF_HUB_OFFLINE is set"
    assert constants.HF_HUB_OFFLINE


def answered(status: int, error_class: type[HfHubHTTPError], text: str) -> OSError:
    """What a library raises over an answer of the Hub."""
    response = httpx.Response(status, request=httpx.Request("GET", "https://hub/x/y"))
    error = OSError("There was a specific connection error")
    error.__cause__ = error_class(text, response=response)
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (answered(401, HfHubHTTPError, "Client error '401'. Invalid credentials in Authorization header"),
         "does not know the token: set HF_TOKEN to a valid one, unset it"),
        (answered(401, GatedRepoError, "Access to model x/y is restricted"), "asked for access on its page: do so"),
        (answered(403, GatedRepoError, "You are not in the authorized list"), "asked for access on its page: do so"),
        (answered(404, RepositoryNotFoundError, "Not found"), "no repository of this name, or you have no access"),
        (RuntimeError("Dataset scripts are no longer supported, but found y.py"), "data.revision=refs/convert/parquet"),
        (ValueError("Dataset 'x/y' is a gated dataset on the Hub."), "asked for access on its page: do so"),
        (ValueError("Dataset 'x/y' doesn't exist on the Hub or cannot be accessed."), "no repository of this name"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_way_out(error, told):
    assert told in refusal(error)


def test_other_errors_are_no_refusals():
    assert refusal(answered(500, HfHubHTTPError, "Internal error")) is None
    assert refusal(ValueError("Bad split: dev")) is None


def test_an_error_inside_leaves_the_hub_as_it_was(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(KeyError), hub_or_cache():
        raise KeyError
    assert not constants.HF_HUB_OFFLINE
