"""A Hub that answers, that is not there, that says nothing."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from huggingface_hub import constants

from vanilla_transformers.recipes import hub
from vanilla_transformers.recipes.hub import hub_or_cache


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


def test_an_error_inside_leaves_the_hub_as_it_was(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(KeyError), hub_or_cache():
        raise KeyError
    assert not constants.HF_HUB_OFFLINE
