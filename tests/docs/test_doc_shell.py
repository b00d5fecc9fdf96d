"""Every shell block of the how-to pages runs as it stands, on short trainings, small models and a small Hub."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from doc_pages import DOCS, blocks, name_of
from local_hub import LocalHub
from project import ROOT
from stock_models import save_encoder, save_marian
from tiny_languages import nllb as tiny_nllb
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel
from user_shell import user_shell

from vanilla_recipes.data.toy import toy_rows

NOT_RUN = {
    "pip": "the environment of the tests is complete",
    "uv": "the environment of the tests is complete",
    "make": "continuous integration runs it",
    "DS_BUILD_OPS=0": "make slow runs it",
    "accelerate": "needs four GPUs; tests/recipes/processes launches two processes on the CPU",
    "torchrun": "needs four GPUs; tests/recipes/processes launches two processes on the CPU",
    "sbatch": "needs a cluster",
}
"""Commands, by their first word, that are not run, and why."""
OTHER_COMMANDS = {"vanilla", "echo", "curl"}
PAGES = [
    page
    for page in DOCS
    if blocks(page.read_text(encoding="utf-8"), "sh") and page.stem not in ("compatibility", "many-gpus")
]
RUNS = ("translation", "classification", "generation", "masked_lm")
# Stands for the command `vanilla`. Two or three steps of training are enough, and a server ends with its page.
VANILLA = f"""#!/usr/bin/env bash
run="{sys.executable} -m vanilla_recipes.cli"
wait_for() {{ for second in $(seq 180); do curl -s "$1" > /dev/null && exit 0; sleep 1; done; exit 1; }}
case "$1" in
  train) exec $run "$@" "max_duration=3 steps" "evaluation.max_rows=4" "checkpoint.every=2 steps" \
    "averaging.ema_decay=null" "precision=fp32" "batch.tokens=512" ;;
  serve) $run "$@" > serve.log 2>&1 & echo $! >> servers; wait_for localhost:8000/v1/models ;;
  demo) $run "$@" > demo.log 2>&1 & echo $! >> servers; wait_for localhost:7860 ;;
  *) exec $run "$@" ;;
esac
"""


def commands(page) -> list[str]:
    """The lines of a page's shell blocks that can run here."""
    lines = [line for block in blocks(page.read_text(encoding="utf-8"), "sh") for line in block.text.splitlines()]
    return [line for line in lines if line.split()[0] not in NOT_RUN]


def write_rows(folder, splits: dict[str, list[dict]]) -> None:
    folder.mkdir(parents=True)
    for split, rows in splits.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")


def write_data(folder) -> None:
    """The data that the pages speak of as the reader's own."""
    pairs = [row["translation"] for row in toy_rows("translation", "train", 300, 0)]
    write_rows(
        folder / "my" / "folder",
        {
            split: [{"en": pair["en"], "de": pair["de"], "fr": pair["de"]} for pair in some]
            for split, some in (("train", pairs[:-20]), ("validation", pairs[-20:]))
        },
    )
    reviews = [{"text": row["text"], "label": row["label"]} for row in toy_rows("sentiment", "train", 200, 0)]
    write_rows(folder / "my" / "reviews", {"train": reviews[:-20], "validation": reviews[-20:]})
    answers = [{"question": f"How much is {n} and 1?", "answer": f"It is {n + 1}."} for n in range(200)]
    write_rows(folder / "my" / "questions", {"train": answers[:-20], "validation": answers[-20:]})
    story = "\n".join(row["text"] for row in toy_rows("stories", "train", 600, 0))
    (folder / "my" / "books").mkdir()
    (folder / "my" / "books" / "train.txt").write_text(story)
    (folder / "my" / "books" / "validation.txt").write_text(story[:20_000])
    (folder / "input.txt").write_text(story)
    for name, page in (("my/own.yaml", "own-data"), ("card.yaml", "publish")):
        (block,) = blocks((ROOT / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8"), "yaml")
        (folder / name).write_text(block.text)


def add_hub(hub: LocalHub, folder) -> None:
    """Small models and data under the names of the large ones that the pages load."""
    encoder, marian = save_encoder(folder / "bert"), save_marian(folder / "opus")
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    ids = {"vocab_size": len(tokenizer), "bos_token_id": 2, "eos_token_id": 3}
    gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=12, n_head=2, n_positions=64, **ids))
    hub.add("google-bert/bert-base-uncased", encoder)
    hub.add("Helsinki-NLP/opus-mt-en-de", marian)
    for name, model, words in (
        ("openai-community/gpt2", gpt2, tokenizer),
        ("facebook/nllb-200-distilled-600M", *tiny_nllb()),
    ):
        model.save_pretrained(folder / name)
        words.save_pretrained(folder / name)
        hub.add(name, folder / name)
    reviews = [{"text": row["text"], "label": row["label"]} for row in toy_rows("sentiment", "train", 200, 0)]
    write_rows(folder / "imdb", {"train": reviews, "test": reviews[:20]})
    sentences = [{"sentence": row["text"], "label": row["label"]} for row in reviews]
    write_rows(folder / "sst2", {"train": sentences, "validation": sentences[:20]})
    hub.add("stanfordnlp/imdb", folder / "imdb", kind="dataset")
    hub.add("stanfordnlp/sst2", folder / "sst2", kind="dataset")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the reader's data."""
    folder = tmp_path_factory.mktemp("pages")
    write_data(folder)
    return folder


@pytest.fixture(scope="module")
def hub(folder):
    with LocalHub(folder / "hub", {"hf_my_token": "me"}) as hub:
        add_hub(hub, folder / "stock")
        yield hub


@pytest.fixture(scope="module")
def run(folder, hub):
    """Runs a script in the folder, with a Hub in reach, and returns its output."""
    environment = user_shell(folder, VANILLA, hub.endpoint)

    def run(script: str) -> str:
        command = ["bash", "-c", f"set -eux\n{script}"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-6000:]
        return done.stdout

    run("\n".join(f"vanilla train {recipe}/toy" for recipe in RUNS))
    (folder / "runs").rename(folder / "finished")
    yield run
    if (folder / "servers").exists():
        for server in (folder / "servers").read_text().split():
            os.kill(int(server), signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_runs(page, run, hub, folder):
    lines = commands(page)
    shutil.rmtree(folder / "runs", ignore_errors=True)
    if "vanilla train translation/toy" not in "\n".join(line.partition(" output_dir=")[0] for line in lines):
        shutil.copytree(folder / "finished", folder / "runs")
    output = run("\n".join(lines))
    expected = {"serve": "text_completion", "index": "translation/toy", "publish": "me/toy-translator"}
    assert expected.get(page.stem, "") in output
    if page.stem == "publish":
        assert {("model", "me/toy-translator"), ("space", "me/toy-translator")} <= hub.repositories.keys()
    shutil.rmtree(folder / "home" / "hub", ignore_errors=True)  # each page loads its own


def test_what_is_left_out_has_a_reason():
    """In a moment: the test that runs the commands takes minutes."""
    lines = [line for page in DOCS for block in blocks(page.read_text(encoding="utf-8"), "sh")
             for line in block.text.splitlines()]  # fmt: skip
    first = {line.split()[0] for line in lines}
    assert first <= NOT_RUN.keys() | OTHER_COMMANDS
    assert first >= OTHER_COMMANDS
    assert {page.stem for page in PAGES} == {
        "export", "index", "own-data", "publish", "resume", "serve", "troubleshoot",
    }  # fmt: skip
    assert sum(len(commands(page)) for page in PAGES) > 30
    assert not any(re.search(r"\\$", line) for line in lines), "a command goes on in the next line"
