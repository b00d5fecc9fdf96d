"""What must not become public is found and named; a token is not repeated."""

import getpass
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vanilla_recipes.errors import UserError
from vanilla_recipes.publishing import privacy
from vanilla_recipes.publishing.privacy import check_private

SECRET = "hf_" + "a1B2" * 8


@pytest.fixture(autouse=True)
def somebody(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    monkeypatch.setattr(privacy, "get_token", lambda: "token of another form")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"token: {SECRET}", "an access token"),
        ("key = token of another form;", "an access token"),
        ("github_pat_" + "x" * 40, "an access token"),
        ("data: /home/eve/corpus", "the path /home/eve of this machine"),
        ("data: /Users/eve/corpus", "the path /Users/eve of this machine"),
        (r"data: C:\Users\eve\corpus", r"the path C:\Users\eve\corpus of this machine"),
        (f"data: {Path.home()}", "of this machine"),
        (r"data: D:\work\eve", r"the path D:\work\eve of this machine"),
        (r"data: \\fileserver\eve", r"the path \\fileserver\eve of this machine"),
        (r'{"data": "\/home\/eve"}', "the path /home/eve of this machine"),
        ("file:///%68ome/eve", "the path /home/eve of this machine"),
        ("data: /mnt/eve", "the path /mnt/eve of this machine"),
        (json.dumps({"notes": f"login with\n{SECRET}_old"}), "an access token"),
        ("WANDB_API_KEY=" + "0a" * 20, "an access token"),
        ("https://bob:hunter2@host/x", "a password"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "an access token or a password"),
        ("model_by_ada", "the name ada of this machine or of its user"),
        ("trained by Ada on a laptop", "the name Ada of this machine or of its user"),
    ],
)
def test_private_things_are_named(tmp_path, text, told):
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "config.yaml").write_text(f"seed: 1\n{text}\n")
    with pytest.raises(UserError) as error:
        check_private(tmp_path)
    assert str(error.value).startswith("training/config.yaml, line 2: it holds ")
    assert told in str(error.value)
    assert SECRET not in str(error.value)


def test_weights_are_read_for_what_their_header_says(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"from": "/home/eve/model"})
    with pytest.raises(UserError, match=r"model\.safetensors, line 1: it holds the path /home/eve"):
        check_private(tmp_path)


def test_what_is_public_passes(tmp_path):
    (tmp_path / "README.md").write_text("The model of ada/translator, see https://huggingface.co/ada/translator.\n")
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"ada": 1}}}))
    (tmp_path / "modeling.py").write_text("ada = 1\n")
    (tmp_path / "notes.md").write_text(
        "radar in Canada: https://x.org/home/a:b, 10:30, a@b.c, task-oriented-representation-learning\n"
    )
    (tmp_path / "curves.png").write_bytes(b"/home/eve")
    assert check_private(tmp_path, "ada/translator") == 5
    with pytest.raises(UserError, match=r"README\.md, line 1"):
        check_private(tmp_path, "somebody/translator")
