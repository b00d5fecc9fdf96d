"""Runs that are killed with kill -9 again and again, and go on each time: losses, scores and weights are bit for bit
those of a run that was left alone.

A kill comes at a random time, or before a random one of the operations on files: between the files of a checkpoint,
before and after a rename, while an old one is removed. The moments are random, but the same in every test run.
"""

import dataclasses
import json
import multiprocessing
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from unittest import mock

import pytest

MODULE = "vanilla_transformers.recipes.translation"
SETTINGS = [
    "translation/toy",
    "resume=if_available",
    "max_duration=40 steps",
    "log_every=1 steps",
    "schedule.name=constant",
    "precision=fp32",
    "averaging.ema_decay=0.9",
    "checkpoint.every=5 steps",
    "evaluation.every=10 steps",
    "evaluation.max_rows=4",
    "data.num_train_rows=120",
    "data.num_validation_rows=4",
    "data.num_test_rows=4",
    "tokenizer.vocab_size=400",
    "batch.tokens=500",
    "model.hidden_size=16",
    "model.num_attention_heads=2",
    "model.intermediate_size=32",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
    "generation.num_beams=1",
]
FILE_EVENTS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
KILLS_A_RUN = 5
LONGEST_RUN = 120.0  # seconds; on a busy machine

# A process that has imported everything and forks the runs: each would need seconds to import.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([MODULE, "vanilla_transformers.recipes.scoring.bleu"])


@dataclass(frozen=True)
class Kill:
    """Which process dies when: after so many seconds, or before the file operation of this number."""

    rank: int = 0
    seconds: float | None = None
    operation: int | None = None


# In the processes that are killed


def on_file_operation(folder: str, act: Callable[[], None]) -> None:
    """Calls `act` before each file is opened in the folder, and before anything is renamed, removed or made."""

    def hook(event: str, arguments: tuple) -> None:
        if event in FILE_EVENTS or (event == "open" and folder in str(arguments[0])):
            act()

    sys.addaudithook(hook)


def recipe(arguments: list[str], folder: Path, environment: dict[str, str], operation: int | None) -> None:
    """One process of a run; leaves the number of its file operations and the rows of its batches beside the folder."""
    import torch

    from vanilla_transformers.recipes import translation
    from vanilla_transformers.recipes.engine.tracking import MetricsLog

    torch.set_num_threads(1)
    os.environ |= environment
    name = f"{folder}.{environment.get('RANK', 0)}"
    log = os.open(f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    operations = count(1)

    def operate() -> None:
        if next(operations) == operation:
            os.kill(os.getpid(), signal.SIGKILL)

    setup = translation.setup

    def setup_with_log(experiment):
        task = setup(experiment)

        def logged(rows, epoch):
            with open(f"{name}.rows", "a") as file:
                file.write(f"{rows.tolist()}\n")
            return task.make_batch(rows, epoch)

        return dataclasses.replace(task, make_batch=logged)

    on_file_operation(str(folder), operate)
    with mock.patch.object(MetricsLog, "draw"), mock.patch.object(translation, "setup", setup_with_log):
        translation.main([*SETTINGS, *arguments, f"output_dir={folder}"])
    Path(f"{name}.operations").write_text(str(next(operations)))


# In the test


def run(folder: Path, num_processes: int = 1, kill: Kill = Kill(), arguments: Sequence[str] = ()) -> bool:
    """Starts a run; whether it came to its end before it was killed."""
    started = []
    for number, environment in enumerate(environments(num_processes)):
        operation = kill.operation if number == kill.rank else None
        process = processes.Process(target=recipe, args=(list(arguments), folder, environment, operation))
        process.start()
        started.append(process)
    dying = started[kill.rank]
    dying.join(kill.seconds or LONGEST_RUN)
    if dying.exitcode is None:
        assert kill.seconds, "the run hangs"
        dying.kill()
        dying.join()
    killed = dying.exitcode == -signal.SIGKILL
    for process in started:
        if killed:
            process.kill()  # as a launcher does; on its own it would wait for the dead one
        process.join(LONGEST_RUN)
    codes = [process.exitcode for process in started]
    assert killed or codes == [0] * num_processes, (codes, Path(f"{folder}.0.log").read_text()[-3000:])
    return not killed


def environments(num_processes: int) -> list[dict[str, str]]:
    if num_processes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(num_processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(num_processes)]


def start_forking() -> None:
    """Waits until all is imported, which takes longer than a run."""
    process = processes.Process(target=os.getpid)
    process.start()
    process.join()


def outcome(folder: Path) -> dict:
    """All that a run leaves but times: records, scores and weights."""
    timeless = ("second", "memory", "mfu")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    records = [{k: v for k, v in line.items() if not any(word in k for word in timeless)} for line in lines]
    weights = {name: (folder / name / "model.safetensors").read_bytes() for name in ("best", "final", "final_raw")}
    return {"records": records, "test": json.loads((folder / "results.json").read_text())["test"], **weights}


def check_kills(folder: Path, num_kills: int, num_processes: int) -> None:
    """Kills runs so many times in all, and compares what they come to with a run that was left alone."""
    moments = random.Random(num_processes)
    start_forking()
    start = time.monotonic()
    assert run(folder / "straight", num_processes=num_processes)
    duration = time.monotonic() - start
    num_operations = int((folder / "straight.0.operations").read_text())
    expected = outcome(folder / "straight")
    assert len([record for record in expected["records"] if "loss" in record]) == 40
    num_killed = 0
    for number in range(num_kills // KILLS_A_RUN):
        again = folder / str(number)
        for _ in range(KILLS_A_RUN):
            kill = moment(moments, num_processes, duration, num_operations)
            num_killed += not run(again, num_processes, kill)
        assert run(again, num_processes)
        actual = outcome(again)
        assert actual.keys() == expected.keys()
        for name in expected:
            assert actual[name] == expected[name], f"run {number}: {name}"
    assert num_killed > 0.7 * num_kills, "too many kills came when the run was over"


def moment(moments: random.Random, num_processes: int, duration: float, num_operations: int) -> Kill:
    """A kill in the first two thirds of a run's time, or in the first half of the main process's file operations."""
    if moments.random() < 0.5:
        return Kill(moments.randrange(num_processes), seconds=moments.uniform(0.2, 0.7) * duration)
    return Kill(operation=moments.randrange(1, num_operations // 2))


def test_killed_runs_go_on_bit_for_bit(tmp_path):
    check_kills(tmp_path, num_kills=5, num_processes=1)


@pytest.mark.slow
def test_fifty_kills_of_one_process(tmp_path):
    check_kills(tmp_path, num_kills=50, num_processes=1)


@pytest.mark.slow
def test_twenty_kills_of_two_processes(tmp_path):
    check_kills(tmp_path, num_kills=20, num_processes=2)


@pytest.mark.slow
def test_two_processes_go_on_with_the_rows_of_one(tmp_path):
    assert run(tmp_path / "one")
    rows = [json.loads(line) for line in (tmp_path / "one.0.rows").read_text().splitlines()]
    assert run(tmp_path / "changed", arguments=["max_duration=20 steps"])
    assert run(tmp_path / "changed", num_processes=2)
    first, second = (
        [json.loads(line) for line in (tmp_path / f"changed.{rank}.rows").read_text().splitlines()] for rank in (0, 1)
    )
    assert first[:20] == rows[:20]
    assert first[20:] == [batch[0::2] for batch in rows[20:]]
    assert second == [batch[1::2] or batch[:1] for batch in rows[20:]]  # a filler of no weight
    losses = [[record["loss"] for record in outcome(tmp_path / name)["records"] if "loss" in record]
              for name in ("one", "changed")]  # fmt: skip
    assert losses[1][20:] == pytest.approx(losses[0][20:], rel=0.05)  # dropout differs
