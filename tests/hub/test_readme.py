"""Every block of shell and Python in README runs as it stands, on small models and a small Hub."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from local_hub import LocalHub
from project import ROOT
from tiny_languages import nllb as tiny_nllb
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

SET_UP = ("make ", "pip ", "uv ")  # which continuous integration and whoever installs the project run
# In the place of `vanilla`: two steps of training are enough, and a server ends when it has answered.
VANILLA = f"""#!/usr/bin/env bash
case "$1" in
  train) exec {sys.executable} -m vanilla_recipes.cli "$@" "max_duration=4 steps" "evaluation.max_rows=4" \
    "checkpoint.every=null" "data.num_validation_rows=20" "averaging.ema_decay=null" "precision=fp32" ;;
  serve) {sys.executable} -m vanilla_recipes.cli "$@" > serve.log 2>&1 & echo $! > serve.pid
    for second in $(seq 120); do curl -s localhost:8000/v1/models > /dev/null && exit 0; sleep 1; done; exit 1 ;;
  demo) {sys.executable} -m vanilla_recipes.cli "$@" > demo.log 2>&1 & demo=$!
    for second in $(seq 120); do curl -s localhost:7860 > /dev/null && kill $demo && exit 0; sleep 1; done; exit 1 ;;
  *) exec {sys.executable} -m vanilla_recipes.cli "$@" ;;
esac
"""
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


def blocks() -> list[tuple[str, str]]:
    """Language and text of each block, in their order."""
    return re.findall(r"^```(sh|python)\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)


def shell() -> str:
    lines = [line for kind, text in blocks() if kind == "sh" for line in text.splitlines()]
    return "\n".join(line for line in lines if not line.startswith(SET_UP))


def python() -> str:
    return "\n".join(text for kind, text in blocks() if kind == "python")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An empty folder with what README says is there."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "bin").mkdir()
    (folder / "bin" / "vanilla").write_text(VANILLA)
    (folder / "bin" / "vanilla").chmod(0o755)
    (folder / "my" / "folder").mkdir(parents=True)
    for split, count in (("train", 40), ("validation", 4)):
        rows = [{"en": f"The dog {number} runs.", "de": f"Der Hund {number} rennt."} for number in range(count)] * 10
        (folder / "my" / "folder" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def environment(place):
    """The Hub that README names models of, and the settings of a shell that reaches it."""
    with LocalHub(place / "hub", {"hf_my_token": "me"}) as hub:
        yield (
            os.environ
            | {
                "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "HF_ENDPOINT": hub.endpoint,
                "HF_HOME": str(place / "home"),
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_OFFLINE": "0",
                "HF_TOKEN": "hf_my_token",
                "OMP_NUM_THREADS": "1",
            },
            hub,
        )


@pytest.fixture(scope="module")
def stock(environment, place, saved_models):
    """Small models under the names of large ones."""
    tokenizer = AutoTokenizer.from_pretrained(saved_models["EncoderModel"])
    ids = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    deep = {"n_embd": 16, "n_layer": 12, "n_head": 2, "n_positions": 64, "vocab_size": len(tokenizer)}
    models = {
        "google-bert/bert-base-uncased": (BertForMaskedLM(BertConfig(**SIZES, **ids)), tokenizer),
        "openai-community/gpt2": (GPT2LMHeadModel(GPT2Config(**deep, **ends)), tokenizer),
        "facebook/nllb-200-distilled-600M": tiny_nllb(),
    }
    for name, (model, its_tokenizer) in models.items():
        folder = place / "stock" / name
        model.save_pretrained(folder)
        its_tokenizer.save_pretrained(folder)
        environment[1].add(name, folder)


def test_set_up_is_all_that_is_left_out():
    left_out = [line for kind, text in blocks() if kind == "sh" for line in text.splitlines()]
    left_out = {line.split()[0] for line in left_out if line.startswith(SET_UP)}
    assert left_out == {"make", "pip", "uv"}
    assert len(blocks()) > 10


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("stock")
def test_every_block_runs(environment, place):
    settings, hub = environment
    script = f"set -eux\n{shell()}"
    done = subprocess.run(["bash", "-c", script], cwd=place, env=settings, capture_output=True, text=True, check=False)
    if (place / "serve.pid").exists():
        os.kill(int((place / "serve.pid").read_text()), 15)
    assert done.returncode == 0, done.stderr[-4000:]
    assert {("model", "me/toy-translator"), ("space", "me/toy-translator")} <= hub.repositories.keys()
    shutil.copytree(place / "runs" / "translation-toy", place / "runs" / "demo" / "translation")
    done = subprocess.run(
        [sys.executable, "-c", python()], cwd=place, env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
