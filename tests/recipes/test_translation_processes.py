"""The translation recipe as a program, on one process and on two."""

import json
import os
import subprocess
import sys

import pytest
from short_runs import SHORT, figures

MODULE = "vanilla_recipes.translation"


def start(command: list[str], *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )


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
