"""Every block of shell and Python in README runs as it stands, on small models and a small Hub."""

import ast
import re
import shutil
import subprocess
import sys

import pytest
from local_hub import LocalHub
from project import ROOT
from transformers import AutoConfig, AutoTokenizer, BertConfig, BertForMaskedLM
from user_shell import user_shell

from vanilla_recipes.cli.parser import COMMANDS

SET_UP = ("make ", "pip ")  # which continuous integration and whoever installs the project run
MOST_LINES = 100
# In the place of `vanilla`: two steps of training are enough.
VANILLA = f"""#!/usr/bin/env bash
case "$1" in
  train) exec {sys.executable} -m vanilla_recipes.cli "$@" "max_duration=4 steps" "evaluation.max_rows=4" \
    "checkpoint.every=null" "data.num_validation_rows=20" "averaging.ema_decay=null" "precision=fp32" ;;
  *) exec {sys.executable} -m vanilla_recipes.cli "$@" ;;
esac
"""
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


def text() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The blocks of a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text(), flags=re.DOTALL | re.MULTILINE)


def shell() -> list[str]:
    """The lines that whoever has the project installed can run."""
    return [line for block in blocks("sh") for line in block.splitlines() if not line.startswith(SET_UP)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(scope="module")
def environment(folder, saved_models):
    """The settings of a shell that reaches a Hub with a small model under the name of the large one in README."""
    tokenizer = AutoTokenizer.from_pretrained(saved_models["EncoderModel"])
    config = BertConfig(**SIZES, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    BertForMaskedLM(config).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    with LocalHub(folder / "hub", {"hf_my_token": "me"}) as hub:
        hub.add("google-bert/bert-base-uncased", folder / "bert")
        yield user_shell(folder, VANILLA, hub.endpoint)
        assert hub.repositories.keys() == {("model", "google-bert/bert-base-uncased")}, "a dry run sent something"


def test_it_stays_short():
    assert len(text().splitlines()) <= MOST_LINES


def test_set_up_is_all_that_is_left_out():
    lines = [line.split() for block in blocks("sh") for line in block.splitlines()]
    assert [words[:2] for words in lines if words[0] != "vanilla"] == [["make", "demo"], ["make", "test"]]


def test_each_command_is_there():
    """In a moment: the test that runs them takes minutes."""
    used = [line.split()[1] for line in shell()]
    assert len(used) >= 6
    assert set(used) <= {name for name, *_ in COMMANDS}
    assert len(blocks("python")) == 1
    ast.parse(blocks("python")[0])


def test_its_map_names_folders_that_are_there():
    """Each folder or pattern in the first column; a name without a path lies beside the one before it."""
    rows = re.findall(r"^\| (`.*?) \|", text(), flags=re.MULTILINE)
    assert len(rows) >= 10
    for row in rows:
        first, *others = re.findall(r"`(.+?)`", row)
        parent = first.rstrip("/").rpartition("/")[0]
        for path in (first, *(f"{parent}/{other}".lstrip("/") for other in others)):
            assert any(ROOT.glob(path)), path


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_block_runs(environment, folder):
    def run(command: list[str]) -> str:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    output = run(["bash", "-c", "\n".join(["set -eux", *shell()])])
    assert "translation/toy" in output
    assert AutoConfig.from_pretrained(folder / "models" / "bert").model_type == "vanilla_encoder"
    assert AutoConfig.from_pretrained(folder / "models" / "marian").model_type == "marian"
    assert list(folder.rglob("attention.html"))
    shutil.copytree(folder / "runs" / "translation-toy", folder / "runs" / "demo" / "translation")
    translations = ast.literal_eval(run([sys.executable, "-c", blocks("python")[0]]))
    assert [type(each) for each in translations] == [str, str]
