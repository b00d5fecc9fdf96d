"""Measures subjects in alternating rounds and saves the results.

A subject is a model, or a program with a model, whose speed is compared. A speed depends on the machine as much as on
the model. So all subjects of a comparison do the same work in turns. The result states for each subject how many times
as fast the first subject is (a ratio for each round), and how close the subject comes to the speed of large matrix
products on this machine, which is measured just before.
"""

import json
import multiprocessing
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import transformers

from vanilla_transformers.fast.linear import linear

RESULTS = Path(__file__).parent / "results"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Work = Callable[[], object]


class Unavailable(Exception):  # noqa: N818
    """A subject or task cannot run here. The message names what is missing."""


@dataclass
class Figures:
    """The results of one subject.

    Attributes:
        rate: units a second, the median of the rounds.
        first_is_faster: speed of the first subject divided by that of this one: minimum, median and maximum of the
            rounds.
        matrix_share: operations of the subject's matrix products, divided by the operations that large matrix products
            would do on this machine in the same time.
        note: further information, such as the batch size.
    """

    rate: float
    first_is_faster: tuple[float, float, float]
    matrix_share: float | None = None
    note: str = ""


@dataclass
class Comparison:
    """The results of subjects that did the same work.

    Attributes:
        task: description of the work.
        unit: the unit that the rates count, such as "tokens".
        matrix_tflops: speed of a large matrix product at this precision, in 10**12 operations a second.
        subjects: results by name; our model comes first.
        missing: for each subject that did not run, the reason.
    """

    task: str
    unit: str
    matrix_tflops: float
    subjects: dict[str, Figures] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.task}; large matrices here: {self.matrix_tflops:.3f} TFLOP/s"]
        for number, (name, figures) in enumerate(self.subjects.items()):
            low, median, high = figures.first_is_faster
            share = "" if figures.matrix_share is None else f", {figures.matrix_share:4.0%} of the matrix rate"
            ratio = f"ours is {median:5.2f} times as fast ({low:.2f} to {high:.2f})" if number else " " * 38
            note = f"; {figures.note}" if figures.note else ""
            lines.append(f"  {name:28} {figures.rate:10,.1f} {self.unit}/s, {ratio}{share}{note}")
        lines += [f"  {name:28} did not run: {reason}" for name, reason in self.missing.items()]
        return "\n".join(lines)


def compare(
    task: str,
    unit: str,
    subjects: Mapping[str, Work],
    units: Mapping[str, float],
    precision: str,
    rounds: int,
    device: torch.device,
    flops: Mapping[str, float] | None = None,
    missing: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
) -> Comparison:
    """Calls each subject once a round and compares the speeds.

    Args:
        task: description of the work.
        unit: the unit that the rates count, such as "tokens".
        subjects: functions that do the work once, by name; our model comes first.
        units: number of units in one call of each subject.
        precision: "fp32" or "bf16".
        rounds: number of rounds. One round before is not counted.
        device: device of the subjects.
        flops: operations of the matrix products in one call of each subject.
        missing: for each subject that does not run, the reason.
        notes: further information on each subject.
    """
    rate = matrix_rate(device, DTYPES[precision])
    seconds = alternate(subjects, rounds, device)
    rates = {name: [units[name] / value for value in values] for name, values in seconds.items()}
    first = next(iter(rates.values()))
    result = Comparison(task, unit, round(rate / 1e12, 4), missing=dict(missing or {}))
    for name, values in rates.items():
        ratios = sorted(own / theirs for theirs, own in zip(values, first, strict=True))
        busy = statistics.median(seconds[name]) * rate
        result.subjects[name] = Figures(
            rate=round(statistics.median(values), 2),
            first_is_faster=(round(ratios[0], 3), round(statistics.median(ratios), 3), round(ratios[-1], 3)),
            matrix_share=round(flops[name] / busy, 4) if flops and name in flops else None,
            note=(notes or {}).get(name, ""),
        )
    return result


def alternate(subjects: Mapping[str, Work], rounds: int, device: torch.device | None = None) -> dict[str, list[float]]:
    """Returns the seconds of each subject in each round. One round before is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds + 1):
        for name, work in subjects.items():
            start = time.perf_counter()
            work()
            if device is not None and device.type != "cpu":
                torch.accelerator.synchronize(device)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def best_batch_size(run: Callable[[int], object], batch_sizes: Sequence[int]) -> int:
    """Returns the batch size with which `run` is fastest: the better of two runs counts. A first run is not counted."""

    def seconds(batch_size: int) -> float:
        start = time.perf_counter()
        run(batch_size)
        return time.perf_counter() - start

    seconds(batch_sizes[0])
    return min(batch_sizes, key=lambda size: min(seconds(size), seconds(size)))


def peak_memory() -> float:
    """Returns the peak memory of this process so far, in megabytes (2**20 bytes)."""
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux, `ru_maxrss` begins with the memory of the parent process
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


class Apart:
    """A subject in a separate process, which works when this object is called and idles otherwise.

    Args:
        build: returns the function to call; runs in the new process, so it must be a module-level function.
        arguments: arguments of `build`; they are pickled.
    """

    def __init__(self, build: Callable[..., Callable[..., Any]], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, build, arguments), daemon=True)

    def __enter__(self) -> "Apart":
        self.process.start()
        self.connection.recv()
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.send(None)
        self.process.join()

    def __call__(self, *arguments: object) -> Any:
        self.connection.send(arguments)
        return self.connection.recv()


def _serve(connection: Connection, build: Callable[..., Callable[..., Any]], arguments: tuple[object, ...]) -> None:
    """Calls the work with each received tuple of arguments, until None is received."""
    work = build(*arguments)
    connection.send(None)  # signals that the process is ready
    while (wanted := connection.recv()) is not None:
        connection.send(work(*wanted))


def repeated(work: Work, times: int) -> Work:
    """Returns a function that does the work `times` times."""

    def works() -> None:
        for _ in range(times):
            work()

    return works


def matrix_rate(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Returns the operations a second of a product of large matrices: the fastest run of torch's or our function."""
    size = 1024 if device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for product in (torch.nn.functional.linear, linear):
        end = time.perf_counter() + seconds / 2
        with torch.inference_mode():
            while time.perf_counter() < end:
                start = time.perf_counter()
                product(left, right)[0, 0].item()  # waits until a GPU has finished
                best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def write(task: str, settings: Mapping[str, object], results: list[object]) -> None:
    """Saves results under today's date, with the machine and the versions."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{task}_{date.today()}.json"
    report = {**surroundings(), "settings": settings, "results": results}
    path.write_text(json.dumps(report, indent=1, default=str) + "\n", encoding="utf-8")
    print(f"written to {path}")


def surroundings() -> dict[str, object]:
    """Returns the date, the machine and the versions."""
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    if torch.cuda.is_available():
        machine += f"; {torch.cuda.get_device_name()}"
    return {
        "date": str(date.today()),
        "machine": machine,
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }
