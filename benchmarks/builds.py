"""`python -m benchmarks.builds FOLDER`: this build of the package beside another one, in alternating rounds.

FOLDER holds the other build as it lies in a wheel: `pip install --no-deps --target FOLDER .` in its checkout. Each
build has a process of its own, which waits while the other one works. Rounds go on until the interval of the ratio is
narrow or the time is up.

Prints, for each task, the speed of this build as a part of the other one's: the geometric mean over the rounds and its
95 % interval (bootstrap).
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
_NUM_RESAMPLES = 2000


def tasks() -> dict[str, Callable[[], object]]:
    """What is timed: steps of training and of decoding, in fp32."""
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
    """Those of one model: a small step of training, where calls weigh most, and four ways of decoding."""
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
        # What the searches here do not do: transformers' loop calls the model with a cache.
        "greedy, transformers' loop": lambda: generate(return_dict_in_generate=True),
    }


def work() -> None:
    """One build: prints its tasks, then for each line on standard input the rate of a turn."""
    found = tasks()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    for task in found.values():
        task()
    import vanilla_transformers

    print(vanilla_transformers.__file__, flush=True)
    for line in sys.stdin:
        task = found[line.strip()]
        task()
        start, count = time.perf_counter(), 0
        while (seconds := time.perf_counter() - start) < _SECONDS_OF_A_TURN:
            task()
            count += 1
        print(count / seconds, flush=True)


class Build:
    """A process with one build."""

    def __init__(self, path: str, num_threads: int) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [path, str(HERE)]))}
        environment |= {"OMP_NUM_THREADS": str(num_threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from benchmarks.builds import work; work()"],
            env=environment, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.place = self._read()

    def rate(self, task: str) -> float:
        """Times a second, over one turn."""
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
            raise RuntimeError("a build has ended; what it said stands above")
        return line


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean and its 95 % interval."""
    logs, draw = [log(ratio) for ratio in ratios], random.Random(0)
    means = sorted(statistics.fmean(draw.choices(logs, k=len(logs))) for _ in range(_NUM_RESAMPLES))
    low, high = means[int(0.025 * _NUM_RESAMPLES)], means[int(0.975 * _NUM_RESAMPLES)]
    return exp(statistics.fmean(logs)), exp(low), exp(high)


def compare(ours: Build, other: Build, task: str, width: float, seconds: float) -> str:
    """A line of the table, once the interval is no wider than `width` or the time is up."""
    ratios: list[float] = []
    start = time.perf_counter()
    while True:
        first, second = (ours, other) if len(ratios) % 2 == 0 else (other, ours)
        rates = {id(build): build.rate(task) for build in (first, second)}
        ratios.append(rates[id(ours)] / rates[id(other)])
        is_over = time.perf_counter() - start > seconds
        if len(ratios) >= 10 and (is_over or len(ratios) % 5 == 0):
            mean, low, high = interval(ratios)
            if is_over or high - low <= width:
                return f"| {task} | {mean:.3f} | {low:.3f} to {high:.3f} | {len(ratios)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.builds", description=__doc__)
    parser.add_argument("folder", help="of the other build")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=float, default=0.02, help="of the interval (%(default)s)")
    parser.add_argument("--seconds", type=float, default=240, help="for a task at most (%(default)s)")
    chosen = parser.parse_args(arguments)
    ours, other = Build("", chosen.threads), Build(str(Path(chosen.folder).resolve()), chosen.threads)
    try:
        print(f"this build: {ours.place}; other build: {other.place}")
        print(f"torch {torch.__version__}, transformers {transformers.__version__}, {chosen.threads} thread(s)\n")
        print(
            "| task | this build's speed, the other one's being 1 | 95 % interval | rounds |\n| --- | --- | --- | --- |"
        )
        for model in ("encoder-decoder", "decoder"):
            for task in ("training step", "greedy", "beams", "greedy, transformers' loop"):
                print(compare(ours, other, f"{model}: {task}", chosen.width, chosen.seconds), flush=True)
    finally:
        for build in (ours, other):
            build.end()


if __name__ == "__main__":
    main()
