"""Runs of the recipes that are killed by `kill -9` several times and resumed each time.

A run is killed at a random time of the training, or before a random file operation: between the files of a checkpoint,
before or after a rename, or while an old checkpoint is removed. The random moments are spread over the run. Every test
run uses the same moments.
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
LONGEST_RUN = 240.0  # seconds; enough on a busy machine


def no_preparation(folder: Path) -> list[str]:
    return []


@dataclass(frozen=True)
class Kind:
    """A recipe with settings that is run and killed.

    Attributes:
        recipe: name of the recipe's module.
        settings: command-line overrides of the run.
        prepare: writes files that the run needs into a folder; returns further overrides, which name the files.
    """

    recipe: str
    settings: Sequence[str] = ()
    prepare: Callable[[Path], list[str]] = no_preparation


@dataclass(frozen=True)
class Kill:
    """Which process of a run is killed, and when. Without `seconds` and `operation` no process is killed.

    Attributes:
        rank: rank of the process.
        seconds: kill after this much CPU time of the process. Wall-clock time would depend on the load of the machine.
        operation: kill before the file operation with this number, counted from 1.
    """

    rank: int = 0
    seconds: float | None = None
    operation: int | None = None


@dataclass(frozen=True)
class Course:
    """The course of an undisturbed run, from which the moments of the kills are derived.

    Attributes:
        begins: CPU time of the process before the first step, in seconds.
        ends: CPU time of the process at its end, in seconds.
        operations: number of file operations.
    """

    begins: float
    ends: float
    operations: int

    def moment(self, place: float, rank: int | None) -> Kill:
        """Returns when to kill the run: after the fraction `place` (0 to 1) of an undisturbed run.

        The fraction is one of the time in which process `rank` trains, scores and saves or, if `rank` is None, of the
        file operations of process 0. A resumed run is shorter, so it may end before the kill.
        """
        if rank is None:
            return Kill(operation=1 + int(place * self.operations))
        return Kill(rank, seconds=self.begins + place * (self.ends - self.begins))


# In the processes that are killed


def on_file_operation(folder: str, act: Callable[[], None]) -> None:
    """Calls `act` before a file in `folder` is opened, and before any file or folder is renamed, removed or made."""

    def hook(event: str, arguments: tuple) -> None:
        if event in FILE_EVENTS or (event == "open" and folder in str(arguments[0])):
            act()

    sys.addaudithook(hook)


def work(recipe: str, arguments: list[str], folder: Path, environment: dict[str, str], operation: int | None) -> None:
    """The main function of one process of a run.

    Writes three files next to `folder`, whose names begin with the folder's name and the rank: the output (.log), the
    row numbers of the batches (.rows) and the course (.course).
    """
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
    begins: list[float] = []  # CPU times at which batches are made
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

    # The certificates make batches too, which are not batches of steps: they get the task that does not log.
    certificates = engine_run.certificates
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
    """Starts a run; returns whether it ended before it was killed."""
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
            process.kill()  # as a launcher does: the process would wait for the dead process
        process.join(LONGEST_RUN)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()  # in case it hangs
    assert killed or codes == [0] * num_processes, (codes, Path(f"{folder}.0.log").read_text()[-3000:])
    return not killed


def wait_for_work(pid: int, seconds: float) -> None:
    """Waits until a process has used `seconds` of CPU time, or has ended."""
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
    """Returns the course of a run that was not killed."""
    return Course(*json.loads(Path(f"{folder}.0.course").read_text()))


def rows(folder: Path, rank: int = 0) -> list[list[int]]:
    """Returns the row numbers of the batches that a process made, in all its runs."""
    return [json.loads(line) for line in Path(f"{folder}.{rank}.rows").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in records(folder) if "loss" in record]


def records(folder: Path) -> list[dict]:
    """Returns the records of `metrics.jsonl` without times, speeds and memory."""
    timeless = ("second", "memory", "mfu")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not any(word in k for word in timeless)} for line in lines]


def outcome(folder: Path) -> dict:
    """Returns the results of a run: file names, records, scores, samples, weights. Times and resumes are left out."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    results = json.loads((folder / "results.json").read_text())
    del results["run"], results["certificates"]["resume"]["times"]
    exact = [path for path in files if path.suffix == ".safetensors" or path.name == "samples.txt"]
    return {"files": files, "records": records(folder), "results": results} | {
        str(path): (folder / path).read_bytes() for path in exact
    }


def check_kills(folder: Path, kind: Kind, num_kills: int, num_processes: int = 1) -> None:
    """Kills and resumes runs until there were `num_kills` kills; compares each outcome with that of a straight run."""
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
        assert number < 2 * num_kills, "too many runs ended before their kill"


def spread(chance: random.Random) -> Iterator[float]:
    """Yields numbers between 0 and 1. Steps of the golden ratio from a random start keep successive numbers apart."""
    start = chance.random()
    return ((start + number * 0.618034) % 1 for number in count())
