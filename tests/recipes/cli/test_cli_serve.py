"""`vanilla serve`: OpenAI's own client is answered, and what cannot be served is told before a model is loaded."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import vanilla_recipes.cli

POSITIONS = 48
WORDS = ["the", "dog", "man", "bites", "sees", "old", "."]
CHAT = [{"role": "user", "content": "the dog"}, {"role": "user", "content": "the man bites"}]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory) -> Path:
    """A random decoder that never ends a text by itself."""
    from vanilla_transformers import VanillaDecoderConfig, VanillaDecoderForCausalLM

    folder = tmp_path_factory.mktemp("served") / "decoder"
    words = {word: index for index, word in enumerate(["<unk>", "<pad>", *WORDS])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 1}
    special = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": tokenizer.pad_token_id}
    special |= {"vocab_size": len(tokenizer), "max_position_embeddings": POSITIONS, "initializer_range": 0.3}
    config = VanillaDecoderConfig(**sizes, **special)
    VanillaDecoderForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(*command: str, log: Path) -> Iterator[str]:
    """The address of a server that answers; it is interrupted in the end."""
    port = free_port()
    words = [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with log.open("w") as file, subprocess.Popen(words, stdout=file, stderr=file, env=environment) as server:
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(address, server, log)
            yield address
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=60)


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def test_a_client_is_answered(decoder, tmp_path):
    log = tmp_path / "log"
    with served("vanilla_recipes.cli", "serve", str(decoder), "--device", "cpu", log=log) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        assert [model.id for model in client.models.list()] == [str(decoder)]

        asked = {"model": str(decoder), "temperature": 0.0, "messages": CHAT}
        answer = client.chat.completions.create(**asked, max_tokens=5)
        assert answer.usage.completion_tokens == 5
        pieces = client.chat.completions.create(**asked, max_tokens=5, stream=True)
        text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
        assert text.strip() == answer.choices[0].message.content.strip() != ""

        prompt = "\n".join(message["content"] for message in CHAT)
        plain = client.completions.create(model=str(decoder), prompt=prompt, temperature=0.0)
        assert plain.usage.total_tokens == POSITIONS  # no number was asked for, and positions end
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(model=str(decoder), prompt="dog " * 50)
        detail = "the prompt has 50 tokens, but the model has 48 positions: shorten it"
        assert refused.value.response.json() == {"detail": detail}
    assert "the tokenizer has no chat template, so /v1/chat/completions joins the messages" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "program", [("vanilla_recipes.cli", "serve"), ("transformers.cli.transformers", "serve")], ids=str
)
def test_a_stock_model_needs_none_of_our_code(program, decoder, tmp_path):
    """Our decoder as GPT-2: through our server, and through transformers' own, which does not import this package."""
    from vanilla_transformers import convert
    from vanilla_transformers.model.modeling_decoder import VanillaDecoderForCausalLM

    model = VanillaDecoderForCausalLM.from_pretrained(decoder)
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    convert(model, to="gpt2").save_pretrained(tmp_path / "stock")
    tokenizer.save_pretrained(tmp_path / "stock")
    ids = tokenizer.apply_chat_template(CHAT, return_tensors="pt", return_dict=True)
    expected = tokenizer.decode(
        model.generate(**ids, do_sample=False, max_new_tokens=6)[0, ids["input_ids"].shape[1] :]
    )
    with served(*program, str(tmp_path / "stock"), "--device", "cpu", log=tmp_path / "log") as address:
        body = {"messages": CHAT, "max_tokens": 6, "temperature": 0.0}
        request = urllib.request.Request(
            f"{address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        answer = json.load(urllib.request.urlopen(request, timeout=60))
    assert answer["choices"][0]["message"]["content"].strip() == expected.strip()


def test_a_missing_package_is_named(decoder, monkeypatch, capsys):
    monkeypatch.setattr("vanilla_recipes.cli.server.is_serve_available", lambda: False)
    assert vanilla_recipes.cli.main(["serve", str(decoder)]) == 1
    assert 'not installed: pip install "fastapi<1,>=' in capsys.readouterr().err


def test_a_port_that_is_taken(decoder, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert vanilla_recipes.cli.main(["serve", str(decoder), "--host", "127.0.0.1", "--port", str(port)]) == 1
    assert f"--host 127.0.0.1 --port {port}: cannot be listened on (Address already in use)" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "65536", "80a"])
def test_a_number_that_is_no_port(port, decoder, capsys):
    assert vanilla_recipes.cli.main(["serve", str(decoder), "--port", port]) == 2
    assert f"argument --port: '{port}' is" in capsys.readouterr().err


def test_a_model_that_cannot_go_on_from_a_text(saved_model, tmp_path, capsys):
    options = ["--host", "127.0.0.1", "--port", str(free_port())]
    assert vanilla_recipes.cli.main(["serve", str(saved_model), *options]) == 1
    assert "it is a 'vanilla_seq2seq' model, which cannot continue a text" in capsys.readouterr().err
    assert vanilla_recipes.cli.main(["serve", str(tmp_path / "nothing"), *options]) == 1
    assert "nothing: there is no such folder" in capsys.readouterr().err
