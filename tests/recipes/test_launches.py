"""One recipe, started in every way that starts several processes: the same run, and one message for a mistake."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from project import ROOT
from short_runs import SHORT, figures

pytestmark = pytest.mark.slow

MODULE = "vanilla_recipes.translation"
VANILLA = [sys.executable, "-m", "vanilla_recipes.cli", "train"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
TWO = ["--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--num_processes"]
CONFIG = "translation/toy"
RECIPE = "recipes/translation.py"


def srun(task: int, num_tasks: int) -> dict[str, str]:
    """What Slurm sets for one of its tasks on this machine."""
    return {
        "SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": str(num_tasks),
        "SLURM_STEP_NODELIST": "localhost", "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task),
    }  # fmt: skip


def commands(launch: str, number: int, arguments: list[str]) -> list[tuple[list[str], dict[str, str]]]:
    """The command, with its environment, that starts the run; with srun it is one for each process."""
    count = str(number)
    return {
        "vanilla": [([*VANILLA, CONFIG, "--num_processes", count, *arguments], {})],
        "torchrun": [([*TORCHRUN, count, "-m", MODULE, CONFIG, *arguments], {})],
        "torchrun vanilla": [([*TORCHRUN, count, "-m", "vanilla_recipes.cli", "train", CONFIG, *arguments], {})],
        "accelerate": [([*ACCELERATE, *TWO, count, RECIPE, CONFIG, *arguments], {})],
        "srun": [([*VANILLA, CONFIG, *arguments], srun(task, number)) for task in range(number)],
    }[launch]


def run(launch: str, number: int, *arguments: str) -> tuple[list[int], str]:
    """The exit statuses and what stood on standard error."""
    started = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command, environment in commands(launch, number, [*SHORT, *arguments])
    ]
    errors = [process.communicate(timeout=300)[1] for process in started]
    return [process.returncode for process in started], "".join(errors)


LAUNCHES = ["vanilla", "torchrun", "torchrun vanilla", "accelerate", "srun"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> list[float]:
    """The figures of the run on one process."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    statuses, errors = run("vanilla", 1, f"output_dir={folder}")
    assert statuses == [0], errors
    return figures(folder)


@pytest.mark.parametrize("launch", LAUNCHES)
def test_every_launch_gives_the_same_run(tmp_path, reference, launch):
    statuses, errors = run(launch, 2, f"output_dir={tmp_path / 'run'}")
    assert set(statuses) == {0}, errors
    assert errors.count(" parameters, ") == 1
    assert figures(tmp_path / "run") == pytest.approx(reference, rel=1e-4)


def test_four_processes_train_and_score_like_one(tmp_path, reference):
    statuses, errors = run("vanilla", 4, f"output_dir={tmp_path / 'run'}")
    assert statuses == [0], errors
    assert figures(tmp_path / "run") == pytest.approx(reference, rel=1e-4)


@pytest.mark.parametrize("launch", LAUNCHES)
@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        (["model.hiden_size=3"], "did you mean"),
        (
            ["model.position_embedding_type=learned", "model.max_position_embeddings=8"],
            "tokenizer.max_source_length=64",
        ),
    ],
    ids=["before the processes meet", "afterwards"],
)
def test_a_mistake_is_told_once(tmp_path, launch, mistake, told):
    statuses, errors = run(launch, 2, *mistake, f"output_dir={tmp_path / 'run'}")
    assert 0 not in statuses
    told_by_us = [line for line in errors.splitlines() if line.startswith(("error: ", "vanilla: "))]
    assert len(told_by_us) == 1
    assert told in errors
    assert "Error: " not in errors.partition("ChildFailedError")[0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--cpu", "--num_processes", "2"], "accelerate launch was asked for several processes but starts one"),
        (["--config_file", "configs/accelerate/fsdp2.yaml"], "FSDP was asked for, but Accelerate would train without"),
    ],
)
def test_launch_that_would_do_something_else_is_refused(tmp_path, arguments, told):
    command = [*ACCELERATE, *arguments, RECIPE, CONFIG, *SHORT, f"output_dir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {told}")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def long_run(tmp_path):
    """A run on two processes that has saved a checkpoint and would go on for long; its folder and its processes."""
    folder = tmp_path / "run"
    settings = ["max_duration=100000 steps", "schedule.name=constant", "evaluation.every=null"]
    settings += ["process_timeout=20 seconds", f"output_dir={folder}"]
    ((command, environment),) = commands("vanilla", 2, [*SHORT, *settings])
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    launcher = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not (folder / "checkpoints" / "step-00000004").exists():
        assert time.monotonic() < deadline
        assert launcher.poll() is None
        time.sleep(0.1)
    yield launcher, folder, psutil.Process(launcher.pid).children()
    launcher.kill()


def end(launcher: subprocess.Popen, workers: list[psutil.Process]) -> str:
    """What the run told, once all of its processes are gone."""
    errors = launcher.communicate(timeout=120)[1]
    assert psutil.wait_procs(workers, timeout=1)[1] == []
    return "\n".join(line for line in errors.splitlines() if line.startswith("vanilla: "))


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_process_ends_all_with_one_message_and_loses_nothing(long_run, rank):
    launcher, folder, workers = long_run
    workers[rank].kill()
    assert end(launcher, workers) == (
        f"vanilla: process {rank} was ended by SIGKILL (the system kills a process when memory runs "
        "out); resume=if_available goes on from the newest checkpoint"
    )
    assert launcher.returncode == 1
    assert not (folder / "final").exists()
    assert sorted((folder / "checkpoints").glob("step-*"))


def test_signal_saves_on_all_processes_and_ends_well(long_run):
    launcher, folder, workers = long_run
    launcher.send_signal(signal.SIGTERM)
    assert end(launcher, workers) == ""
    assert launcher.returncode == 0
    last_step = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert max((folder / "checkpoints").glob("step-*")).name == f"step-{last_step:08d}"


def test_process_that_hangs_ends_the_run(long_run):
    launcher, _, workers = long_run
    workers[1].suspend()
    assert end(launcher, workers) == (
        "vanilla: a process hung for longer than process_timeout; "
        "resume=if_available goes on from the newest checkpoint"
    )
    assert launcher.returncode == 69
