"""The translation recipe as a program, on one process and on two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = "vanilla_transformers.recipes.translation"
SHORT = [
    "max_duration=6 steps",
    "log_every=1 steps",
    "precision=fp32",
    "evaluation.every=3 steps",
    "evaluation.max_rows=33",
    "data.num_train_rows=600",
    "data.num_validation_rows=40",
    "data.num_test_rows=21",
    "tokenizer.vocab_size=500",
    "batch.tokens=700",
    "model.hidden_size=32",
    "model.hidden_dropout_prob=0",
    "checkpoint.every=4 steps",
]


def start(command: list[str], *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )


def figures(folder: Path) -> list[float]:
    """Losses, gradient norms and scores, in the order in which they arose."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    names = ("loss", "grad_norm", "validation_loss", "validation_bleu")
    return [value for line in lines for name, value in json.loads(line).items() if name in names]


@pytest.mark.slow
def test_two_processes_train_and_score_like_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", MODULE]
    assert start(["-m", MODULE], "translation/toy", *SHORT, f"output_dir={one}").returncode == 0
    ended = start(launcher, "translation/toy", *SHORT, f"output_dir={two}")
    assert ended.returncode == 0, ended.stderr
    assert figures(two) == pytest.approx(figures(one), rel=1e-4)
    results = [json.loads((folder / "results.json").read_text())["test"] for folder in (one, two)]
    assert results[0]["rows"] == results[1]["rows"] == 21
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], rel=1e-4)


@pytest.mark.slow
def test_run_of_one_process_goes_on_in_two(tmp_path):
    straight, changed = tmp_path / "straight", tmp_path / "changed"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", MODULE]
    constant = ["schedule.name=constant", "evaluation.every=null"]
    assert start(["-m", MODULE], "translation/toy", *SHORT, *constant, f"output_dir={straight}").returncode == 0
    half = [*SHORT, *constant, f"output_dir={changed}", "max_duration=4 steps"]
    assert start(["-m", MODULE], "translation/toy", *half).returncode == 0
    rest = [*half, "max_duration=6 steps", "resume=always"]
    assert start(launcher, "translation/toy", *rest).returncode == 0
    assert figures(changed)[-6:] == pytest.approx(figures(straight)[-6:], rel=1e-4)
