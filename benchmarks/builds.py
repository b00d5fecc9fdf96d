"""`python -m benchmarks.builds FOLDER`: compares the speed of this build of the package with that of another build.

FOLDER holds the other build, installed by `pip install --no-deps --target FOLDER .` in the checkout of that build.

Each build runs in a separate process. The two processes take turns of about a second. The speed in a turn is that of
the fastest run, because other work on the machine can only make a run slower. With pages of 4 kB, the physical memory
that a process was given makes it up to 10 % faster or slower until it ends. So both processes use huge pages (glibc on
Linux), and a new pair of processes is started every few rounds. The measurement of a task ends when the confidence
interval is narrow enough (`--width`) or the time is up (`--seconds`), but not before five pairs of processes.

Prints for each task the speed of this build divided by the speed of the other build: the geometric mean over the pairs
of processes, and its 95 % confidence interval (bootstrap).
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from math import exp, log
from pathlib import Path

import torch
import transformers

HERE = Path(__file__).resolve().parents[1]
_SECONDS_OF_A_TURN = 1.0
_ROUNDS_OF_A_PROCESS = 6
_NUM_RESAMPLES = 2000
_HUGE_PAGES = "glibc.malloc.hugetlb=1"


def tasks() -> dict[str, Callable[[], object]]:
    """Returns the tasks that are timed, by name: training steps and searches of two models, in fp32."""
    import vanilla_transformers as vanilla

    torch.manual_seed(0)
    sizes = dict(vocab_size=8000, hidden_size=256, num_attention_heads=4, intermediate_size=1024)
    ids = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
    translator = vanilla.VanillaSeq2SeqForConditionalGeneration(
        vanilla.VanillaSeq2SeqConfig(**sizes, **ids, encoder_layers=3, decoder_layers=3)
    )
    writer = vanilla.VanillaDecoderForCausalLM(vanilla.VanillaDecoderConfig(**sizes, **ids, num_hidden_layers=4))
    found: dict[str, Callable[[], object]] = {}
    for name, model in (("encoder-decoder", translator), ("decoder", writer)):
        found |= {f"{name}: {task}": work for task, work in tasks_of(model).items()}
    return found


def tasks_of(model: torch.nn.Module) -> dict[str, Callable[[], object]]:
    """Returns the tasks of one model: a training step and three searches.

    The batch is small, so that the overhead of Python calls is a large part of the time.
    """
    source = torch.randint(3, 8000, (8, 16))
    batch = {"input_ids": source, "labels": torch.randint(3, 8000, (8, 16))}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def train() -> None:
        model.train()
        model(**batch, return_logits=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def generate(**settings: object) -> object:
        model.eval()
        return model.generate(source, max_new_tokens=24, min_new_tokens=24, **settings)  # type: ignore[operator]

    return {
        "training step": train,
        "greedy": generate,
        "beams": lambda: generate(num_beams=4),
        # Our fast search does not return a dict, so transformers' own loop runs and calls the model with a cache.
        "greedy, transformers' loop": lambda: generate(return_dict_in_generate=True),
    }


def work() -> None:
    """The main function of a build's process.

    Prints the path of the imported package. Then reads task names from standard input, one a line, and prints for each
    the runs per second, computed from the fastest run of the turn.
    """
    found = tasks()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    import vanilla_transformers

    print(vanilla_transformers.__file__, flush=True)
    for line in sys.stdin:
        task = found[line.strip()]
        task(), task()
        end, fastest = time.perf_counter() + _SECONDS_OF_A_TURN, float("inf")
        while (start := time.perf_counter()) < end:
            task()
            fastest = min(fastest, time.perf_counter() - start)
        print(1 / fastest, flush=True)


class Build:
    """A process that runs one build.

    Args:
        path: folder of the build; empty for this build.
        num_threads: torch's number of threads.
    """

    def __init__(self, path: str, num_threads: int) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [path, str(HERE)]))}
        environment |= {"OMP_NUM_THREADS": str(num_threads), "GLIBC_TUNABLES": _HUGE_PAGES}
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from benchmarks.builds import work; work()"],
            env=environment, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.place = self._read()

    def rate(self, task: str) -> float:
        """Returns the runs per second, computed from the fastest run of one turn."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{task}\n")
        self._process.stdin.flush()
        return float(self._read())

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise RuntimeError("the process of a build has ended; its error message is printed above")
        return line


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Returns the geometric mean of independent ratios, and the ends of its 95 % bootstrap interval."""
    logs, draw = [log(ratio) for ratio in ratios], random.Random(0)
    means = sorted(statistics.fmean(draw.choices(logs, k=len(logs))) for _ in range(_NUM_RESAMPLES))
    low, high = means[int(0.025 * _NUM_RESAMPLES)], means[int(0.975 * _NUM_RESAMPLES)]
    return exp(statistics.fmean(logs)), exp(low), exp(high)


def compare(start: Callable[[], tuple[Build, Build]], task: str, width: float, seconds: float) -> str:
    """Measures a task until the interval is at most `width` wide or `seconds` are over; returns the row of the table.

    The rounds of one pair of processes are not independent, because they use the same memory. So each pair of processes
    gives one ratio: the geometric mean of its rounds.
    """
    ratios: list[float] = []
    begin = time.perf_counter()
    while True:
        ratios.append(exp(statistics.fmean(log(ratio) for ratio in rounds(*start(), task))))
        is_over = time.perf_counter() - begin > seconds
        if len(ratios) >= 5:
            mean, low, high = interval(ratios)
            if is_over or high - low <= width:
                return f"| {task} | {mean:.3f} | {low:.3f} to {high:.3f} | {len(ratios)} x {_ROUNDS_OF_A_PROCESS} |"


def rounds(ours: Build, other: Build, task: str) -> list[float]:
    """Returns the speed of our build divided by that of the other one, for each round; ends both processes.

    The build that runs first alternates from round to round.
    """
    try:
        found = []
        for number in range(_ROUNDS_OF_A_PROCESS):
            order = (ours, other) if number % 2 == 0 else (other, ours)
            rates = {id(build): build.rate(task) for build in order}
            found.append(rates[id(ours)] / rates[id(other)])
        return found
    finally:
        for build in (ours, other):
            build.end()


def main(arguments: Sequence[str] | None = None) -> None:
    models, works = ("encoder-decoder", "decoder"), ("training step", "greedy", "beams", "greedy, transformers' loop")
    known = [f"{model}: {work}" for model in models for work in works]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.builds", description=__doc__)
    parser.add_argument("folder", help="folder of the other build")
    parser.add_argument("--task", nargs="+", default=known, choices=known, metavar="TASK", help="; ".join(known))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--width", type=float, default=0.02, help="end a task when its interval is this narrow (%(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=240,
        help="end a task after this time, but not before five pairs of processes (%(default)s)",
    )
    chosen = parser.parse_args(arguments)

    def start() -> tuple[Build, Build]:
        return Build("", chosen.threads), Build(str(Path(chosen.folder).resolve()), chosen.threads)

    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {chosen.threads} thread(s)\n")
    print("| task | this build's speed, the other one's being 1 | 95 % interval | processes x rounds |")
    print("| --- | --- | --- | --- |")
    for task in chosen.task:
        print(compare(start, task, chosen.width, chosen.seconds), flush=True)


if __name__ == "__main__":
    main()
