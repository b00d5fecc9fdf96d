"""Runs of the recipes that are killed with kill -9 again and again, and go on each time.

A kill comes at a random time of the training, or before a random one of the operations on files: between the files of a
checkpoint, before and after a rename, while an old one is removed. The moments are random, spread over the run, and the
same in every test run.
"""

import dataclasses
import importlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from unittest import mock

import psutil
from two_processes import SERVER, free_port

FILE_EVENTS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
LONGEST_RUN = 240.0  # seconds; on a busy machine


def no_preparation(folder: Path) -> list[str]:
    return []


@dataclass(frozen=True)
class Kind:
    """Runs of one recipe with certain settings; `prepare` makes what they need in a folder, and names it."""

    recipe: str
    settings: Sequence[str] = ()
    prepare: Callable[[Path], list[str]] = no_preparation


@dataclass(frozen=True)
class Kill:
    """Which process dies when: after so many seconds of its own work, or before the file operation of this number.

    Its own seconds, because those on the wall depend on what else the machine does.
    """

    rank: int = 0
    seconds: float | None = None
    operation: int | None = None


@dataclass(frozen=True)
class Course:
    """When a run begins its first step and when it ends, in seconds of its own work, and its operations on files."""

    begins: float
    ends: float
    operations: int

    def moment(self, place: float, rank: int | None) -> Kill:
        """A kill at a place between 0 and 1 of the run, while that process trains, scores and saves.

        Without a process it is one of the first one's operations on files. A run that goes on has less to do and may be
        over by then.
        """
        if rank is None:
            return Kill(operation=1 + int(place * self.operations))
        return Kill(rank, seconds=self.begins + place * (self.ends - self.begins))


# In the processes that are killed


def on_file_operation(folder: str, act: Callable[[], None]) -> None:
    """Calls `act` before each file is opened in the folder, and before anything is renamed, removed or made."""

    def hook(event: str, arguments: tuple) -> None:
        if event in FILE_EVENTS or (event == "open" and folder in str(arguments[0])):
            act()

    sys.addaudithook(hook)


def work(recipe: str, arguments: list[str], folder: Path, environment: dict[str, str], operation: int | None) -> None:
    """One process of a run; leaves its output, the rows of its batches and its course beside the folder."""
    import torch

    from vanilla_recipes.engine import run as engine_run
    from vanilla_recipes.reports.metrics import MetricsLog

    torch.set_num_threads(1)
    os.environ |= environment
    name = f"{folder}.{environment.get('RANK', 0)}"
    log = os.open(f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    operations = count(1)
    begins: list[float] = []  # of the steps
    tasks: list = []

    def operate() -> None:
        if next(operations) == operation:
            os.kill(os.getpid(), signal.SIGKILL)

    module = importlib.import_module(f"vanilla_recipes.{recipe}")
    setup = module.setup

    def setup_with_log(experiment):
        task = setup(experiment)

        def logged(rows, epoch):
            begins.append(time.process_time())
            with open(f"{name}.rows", "a") as file:
                file.write(f"{rows.tolist()}\n")
            return task.make_batch(rows, epoch)

        tasks.append(task)
        return dataclasses.replace(task, make_batch=logged)

    certificates = engine_run.certificates  # whose batches are not those of steps
    on_file_operation(f"{folder}{os.sep}", operate)
    with (
        mock.patch.object(MetricsLog, "draw"),
        mock.patch.object(module, "setup", setup_with_log),
        mock.patch.object(engine_run, "certificates", lambda model, task, *rest: certificates(model, tasks[0], *rest)),
    ):
        module.main([*arguments, f"output_dir={folder}"])
    ends = time.process_time()
    Path(f"{name}.course").write_text(json.dumps([begins[0] if begins else ends, ends, next(operations) - 1]))


# In the test


def run(folder: Path, recipe: str, arguments: Sequence[str], num_processes: int = 1, kill: Kill = Kill()) -> bool:
    """Starts a run; whether it came to its end before it was killed."""
    started = []
    for rank, environment in enumerate(environments(num_processes)):
        operation = kill.operation if rank == kill.rank else None
        process = SERVER.Process(target=work, args=(recipe, list(arguments), folder, environment, operation))
        process.start()
        started.append(process)
    dying = started[kill.rank]
    if kill.seconds is not None:
        wait_for_work(dying.pid, kill.seconds)
        dying.kill()
    dying.join(LONGEST_RUN)
    killed = dying.exitcode == -signal.SIGKILL
    for process in started:
        if killed:
            process.kill()  # as a launcher does; on its own it would wait for the dead one
        process.join(LONGEST_RUN)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()  # one that hangs
    assert killed or codes == [0] * num_processes, (codes, Path(f"{folder}.0.log").read_text()[-3000:])
    return not killed


def wait_for_work(pid: int, seconds: float) -> None:
    """Waits until a process has worked for so many seconds, or has ended."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while sum(process.cpu_times()[:2]) < seconds:
            time.sleep(0.002)


def environments(num_processes: int) -> list[dict[str, str]]:
    if num_processes == 1:
        return [{}]
    shared = {"WORLD_SIZE": str(num_processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(num_processes)]


def course(folder: Path) -> Course:
    """How a run went that nothing killed."""
    return Course(*json.loads(Path(f"{folder}.0.course").read_text()))


def rows(folder: Path, rank: int = 0) -> list[list[int]]:
    """The rows of the batches that a process made, run after run."""
    return [json.loads(line) for line in Path(f"{folder}.{rank}.rows").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in records(folder) if "loss" in record]


def records(folder: Path) -> list[dict]:
    """What a run wrote down, but for times and memory."""
    timeless = ("second", "memory", "mfu")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not any(word in k for word in timeless)} for line in lines]


def outcome(folder: Path) -> dict:
    """All that a run leaves but times and the number of resumes: names of files, records, scores, samples, weights."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    results = json.loads((folder / "results.json").read_text())
    del results["run"], results["certificates"]["resume"]["times"]
    exact = [path for path in files if path.suffix == ".safetensors" or path.name == "samples.txt"]
    return {"files": files, "records": records(folder), "results": results} | {
        str(path): (folder / path).read_bytes() for path in exact
    }


def check_kills(folder: Path, kind: Kind, num_kills: int, num_processes: int = 1) -> None:
    """Kills runs so many times in all, and compares what they come to with a run that was left alone."""
    arguments = [*kind.settings, *kind.prepare(folder)]
    assert run(folder / "straight", kind.recipe, arguments, num_processes)
    expected, straight = outcome(folder / "straight"), course(folder / "straight")
    chance = random.Random(f"{kind.recipe} {num_processes}")
    places = spread(chance)
    num_killed = 0
    for number in count():
        again = folder / str(number)
        over = False
        while not over:
            kill = Kill()
            if num_killed < num_kills:
                kill = straight.moment(next(places), chance.choice([None, *range(num_processes)]))
            over = run(again, kind.recipe, arguments, num_processes, kill)
            num_killed += not over
        actual = outcome(again)
        assert actual.keys() == expected.keys()
        for name in expected:
            assert actual[name] == expected[name], f"run {number}: {name}"
        if num_killed == num_kills:
            return
        assert number < 2 * num_kills, "too many kills came when the run was over"


def spread(chance: random.Random) -> Iterator[float]:
    """Places between 0 and 1, from a random one on, of which any few lie apart: steps of the golden section."""
    start = chance.random()
    return ((start + number * 0.618034) % 1 for number in count())
