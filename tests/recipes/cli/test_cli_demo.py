"""`vanilla demo`: it serves, ends without a traceback, and tells in a line what it cannot show."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

import vanilla_recipes.cli
from vanilla_transformers.releases import install_command


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_it_serves_until_it_is_interrupted(saved_models, free_port):
    models = [saved_models[name] for name in ("Seq2SeqForConditionalGeneration", "DecoderForCausalLM")]
    words = ["demo", *map(str, models), "--host", "127.0.0.1", "--port", str(free_port), "--device", "cpu"]
    command = [sys.executable, "-m", "vanilla_recipes.cli", *words]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    address = f"http://127.0.0.1:{free_port}"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=offline) as server:
        try:
            page = wait_for(address, server)
        finally:
            server.send_signal(signal.SIGINT)
            printed = server.communicate(timeout=60)[0]
    assert server.returncode == 0
    assert printed == f"the demo is at {address}; Ctrl-C ends it\n"
    assert all(str(model) in page for model in models)


def wait_for(address: str, server: subprocess.Popen) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            return urllib.request.urlopen(address, timeout=5).read().decode()
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(server.poll())


def told(capsys, *words: object) -> str:
    """The line that stands on standard error."""
    status = vanilla_recipes.cli.main(["demo", *map(str, words)])
    (line,) = capsys.readouterr().err.splitlines()
    assert status in (1, 2)
    return line


def test_gradio_is_named_where_it_is_missing(saved_models, monkeypatch, capsys):
    monkeypatch.setattr("vanilla_recipes.cli.demo.importlib.util.find_spec", lambda name: None)
    line = told(capsys, saved_models["DecoderForCausalLM"])
    assert line.endswith("needs Gradio, which is not installed: " + install_command("demo"))


def test_a_port_that_is_taken(saved_models, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = told(capsys, saved_models["DecoderForCausalLM"], "--host", "127.0.0.1", "--port", port)
    assert f"--port {port}: cannot be listened on (Address already in use)" in line


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("EncoderForTokenClassification", "which cannot be shown; an encoder-decoder, a decoder, a masked language"),
        ("EncoderModel", "tensors that config.json asks for are missing"),
        ("missing", "there is no such folder"),
    ],
)
def test_a_model_that_cannot_be_shown(name, rule, saved_models, free_port, tmp_path, capsys):
    model = saved_models.get(name, tmp_path / "missing")
    line = told(capsys, model, "--host", "127.0.0.1", "--port", free_port)
    assert str(model) in line
    assert rule in line


def test_a_model_is_needed(capsys):
    assert "the following arguments are required: MODEL" in told(capsys)
