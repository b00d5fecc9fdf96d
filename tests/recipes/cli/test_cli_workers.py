"""`vanilla train --num_processes`: starting the processes of a training, and what becomes of them."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from vanilla_recipes.cli import commands, workers
from vanilla_recipes.cli.faults import CONTACT_LOST, UsageError, tells
from vanilla_recipes.cli.parser import parse

LAUNCHER_VARIABLES = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "VANILLA_WORKER")


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in LAUNCHER_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def scripts(monkeypatch):
    """Makes each worker run a script of its own in place of `vanilla`, and gives the list to fill."""
    given: list[str] = []

    def start(words, environment):
        command = [sys.executable, "-c", given[int(environment["RANK"])]]
        return subprocess.Popen(command, env=environment, start_new_session=True)

    monkeypatch.setattr(workers, "start_worker", start)
    monkeypatch.setattr(workers, "GRACE", 0.5)
    return given


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        (None, {}, False),
        (1, {}, False),
        (2, {}, True),
        (None, {"LOCAL_RANK": "1", "WORLD_SIZE": "4"}, False),
        (4, {"LOCAL_RANK": "1", "WORLD_SIZE": "4"}, False),
        (4, {"SLURM_STEP_NUM_TASKS": "4"}, False),
        (2, {"SLURM_NTASKS": "4"}, True),
        (2, {"SLURM_STEP_NUM_TASKS": "1"}, True),
    ],
)
def test_processes_are_started_where_no_launcher_has(monkeypatch, given, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert workers.must_start(given) == expected


def test_a_launcher_with_another_number_is_a_mistake(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    message = "--num_processes 2: this process is already one of 4 that a launcher started; leave the option out"
    with pytest.raises(UsageError, match=message):
        workers.must_start(2)


def test_train_starts_the_same_command_in_each_process(monkeypatch):
    seen = []
    monkeypatch.setattr(commands, "run_workers", lambda words, number: seen.append((words, number)) or 7)
    words = ["train", "translation/toy", "--num_processes", "2", "seed=3", "--debug"]
    assert commands.train(parse(words)) == 7
    assert seen == [(["train", "--debug", "translation/toy", "seed=3"], 2)]


def test_number_of_processes_is_checked():
    with pytest.raises(UsageError, match="argument --num_processes: '0' is not a whole number of at least 1"):
        parse(["train", "translation/toy", "--num_processes", "0"])


def test_each_process_finds_the_others(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    first, second = workers.environments(2)
    assert (first["RANK"], second["RANK"], second["LOCAL_RANK"]) == ("0", "1", "1")
    assert first["WORLD_SIZE"] == second["LOCAL_WORLD_SIZE"] == "2"
    assert first["OMP_NUM_THREADS"] == "4"
    assert (first["MASTER_ADDR"], first["MASTER_PORT"]) == (second["MASTER_ADDR"], second["MASTER_PORT"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert next(workers.environments(2))["OMP_NUM_THREADS"] == "1"


SLEEP = "import time; time.sleep(60)"
STOP_WELL = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), sys.exit(0)))
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
time.sleep(60)
"""
KILLED = "process 1 was ended by SIGKILL (the system kills a process when memory runs out)"
RESUME = "resume=if_available goes on from the newest checkpoint"
HUNG = f"a process hung for longer than process_timeout; {RESUME}"


@pytest.mark.parametrize(
    ("first", "second", "status", "told"),
    [
        ("", "", 0, ""),
        (SLEEP, "import sys; sys.exit(3)", 3, ""),
        (f"import sys; sys.exit({CONTACT_LOST})", "import os; os.kill(os.getpid(), 9)", 1, f"{KILLED}; {RESUME}"),
        (f"import sys; sys.exit({CONTACT_LOST})", "import time, sys; time.sleep(0.3); sys.exit(1)", 1, ""),
        (f"import sys; sys.exit({CONTACT_LOST})", SLEEP, CONTACT_LOST, HUNG),
    ],
    ids=["all well", "one failed and said so", "one killed", "one failed later", "one hung"],
)  # fmt: skip
def test_one_message_and_no_process_left(scripts, capfd, first, second, status, told):
    scripts += [first, second]
    start = time.monotonic()
    assert workers.run_workers([], 2) == status
    assert time.monotonic() - start < 20
    assert capfd.readouterr().err == (f"vanilla: {told}\n" if told else "")
    assert not [child for child in psutil.Process().children() if "time" in " ".join(child.cmdline())]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)])
def test_signals_reach_all_processes_and_saving_may_take_its_time(scripts, capfd, number, status):
    scripts += [STOP_WELL, STOP_WELL]
    threading.Timer(2, os.kill, (os.getpid(), number)).start()
    assert workers.run_workers([], 2) == status
    assert capfd.readouterr().err == ""
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_before_the_training_begins_is_an_interruption(scripts, capfd):
    scripts += [SLEEP, SLEEP]
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert workers.run_workers([], 2) == 143
    assert capfd.readouterr().err == "vanilla: interrupted\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a service of Linux's kernel")
def test_a_killed_launcher_takes_its_processes_along(tmp_path):
    worker = (
        "import os, time\nfrom vanilla_recipes.cli.workers import end_with_launcher\n"
        "end_with_launcher(); time.sleep(60)"
    )
    launcher = (
        "import os, subprocess, sys, time\n"
        f"worker = subprocess.Popen([sys.executable, '-c', {worker!r}], env=os.environ | {{'VANILLA_WORKER': '1'}})\n"
        "time.sleep(1); print(worker.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", launcher], capture_output=True, text=True, check=False, timeout=30)
    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie, which waits only for whoever adopted it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("environment", "status", "expected"),
    [
        ({}, 1, True),
        ({"LOCAL_RANK": "1"}, 1, False),
        ({"SLURM_LOCALID": "1"}, 2, False),
        ({"LOCAL_RANK": "0", "VANILLA_WORKER": "1"}, 1, True),
        ({"LOCAL_RANK": "0", "VANILLA_WORKER": "1"}, CONTACT_LOST, False),
    ],
)
def test_one_process_tells_of_a_fault(monkeypatch, environment, status, expected):
    monkeypatch.delenv("SLURM_LOCALID", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tells(status) == expected
