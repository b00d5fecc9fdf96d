"""`python -m benchmarks recipe --data FOLDER`: a complete training with our recipe, compared with its peer.

The peer is what a careful user of transformers would run (`benchmarks.peers`). Recipe and peer take turns. Each trains
from scratch, in a separate process as its users would start it, for the same time. The time excludes tokenizing and
scoring. Both are scored in the same way. Our recipe is also trained for shorter times. The shortest time in which it
reaches the peer's score is reported.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.rounds import Apart, Unavailable


@dataclass(frozen=True)
class Recipe:
    """A recipe and its peer.

    Attributes:
        config: name of our recipe's configuration.
        peer: trainer and model of the peer, for the output.
        metric: name of the score that is compared.
        split: split of the data on which the score is computed.
        seconds: default training time.
    """

    config: str
    peer: str
    metric: str
    split: str
    seconds: int


RECIPES = {
    "multi30k": Recipe("translation/multi30k", "Seq2SeqTrainer and Marian", "bleu", "test", 600),
    "sst2": Recipe("classification/sst2", "Trainer and BERT", "accuracy", "validation", 240),
}


@dataclass
class Run:
    """A training run.

    Attributes:
        seconds: training time.
        score: score at the end, in the unit of the metric.
        tokens_per_second: real tokens a second, without padding.
        padding: share of padding among the tokens of the batches.
    """

    seconds: float
    score: float
    tokens_per_second: float
    padding: float


@dataclass
class Race:
    """The runs of a recipe and its peer.

    Attributes:
        task: what is trained.
        metric: name of the score.
        runs: runs by name, our recipe first; each list has one run for each race.
        speed_ratio: our real tokens a second divided by the peer's, for equal training times: minimum, median and
            maximum of the races.
        seconds_to_peer_score: our shortest training time whose score was at least the peer's in every race. None if no
            time was long enough.
    """

    task: str
    metric: str
    runs: dict[str, list[Run]] = field(default_factory=dict)
    speed_ratio: tuple[float, float, float] = (0.0, 0.0, 0.0)
    seconds_to_peer_score: float | None = None

    def __str__(self) -> str:
        lines = [f"{self.task}, {self.metric}, real tokens/s and padding of each run"]
        for name, runs in self.runs.items():
            figures = (f"{run.score:.4g} ({run.tokens_per_second:,.0f}/s, {run.padding:.1%})" for run in runs)
            lines.append(f"  {name:40} {', '.join(figures)}")
        low, median, high = self.speed_ratio
        lines.append(f"  ours is {median:.2f} times as fast ({low:.2f} to {high:.2f})")
        needed = self.seconds_to_peer_score
        lines.append(f"  the peer's score takes ours {'longer' if needed is None else f'{needed:g} s at most'}")
        return "\n".join(lines)


def races(arguments: argparse.Namespace, device: torch.device) -> list[Race]:
    """Trains the recipe and its peer `--races` times.

    Raises:
        Unavailable: If `--data` is missing.
    """
    if arguments.data is None:
        raise Unavailable("--data FOLDER is needed: the data set of the recipe that --recipe names")
    recipe = RECIPES[arguments.recipe]
    seconds = arguments.seconds or recipe.seconds
    times = sorted({round(seconds * share) for share in (*arguments.shares, 1.0)})
    peer = f"{recipe.peer}, {arguments.peer_attention[0]}, {seconds:g} s"
    race = Race(f"{recipe.config} from nothing", recipe.metric)
    for number in range(arguments.races):
        for time in reversed(times):
            race.runs.setdefault(f"ours, {time} s", []).append(ours(recipe, arguments.data, time, number + 1))
        race.runs.setdefault(peer, []).append(theirs(recipe, arguments, seconds))
        _compare(race, times, peer)
        print(race, flush=True)
    return [race]


def _compare(race: Race, times: list[int], peer: str) -> None:
    runs = {time: race.runs[f"ours, {time} s"] for time in times}
    pairs = list(zip(runs[times[-1]], race.runs[peer], strict=True))
    ratios = sorted(own.tokens_per_second / other.tokens_per_second for own, other in pairs)
    race.speed_ratio = (round(ratios[0], 3), round(statistics.median(ratios), 3), round(ratios[-1], 3))
    enough = [
        time
        for time in times
        if all(own.score >= other.score for own, other in zip(runs[time], race.runs[peer], strict=True))
    ]
    race.seconds_to_peer_score = min(enough, default=None)


def ours(recipe: Recipe, data: Path, seconds: float, seed: int) -> Run:
    """Trains our recipe by `vanilla train`; the model is scored at the end only."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        settings = {
            "data.path": data.resolve(),
            "max_duration": f"{seconds} seconds",
            "seed": seed,
            "evaluation.every": "null",
            "checkpoint.every": "null",
            "output_dir": output,
        }
        words = [f"{name}={value}" for name, value in settings.items()]
        _run(["train", recipe.config, *words])
        results = json.loads((output / "results.json").read_text())
    training = results["run"]
    score = results[recipe.split][recipe.metric]
    return Run(training["seconds"], score, training["tokens_per_second"], training["padding"])


def theirs(recipe: Recipe, arguments: argparse.Namespace, seconds: float) -> Run:
    """Trains the peer by `benchmarks.peers`, with the first kernel of `--peer-attention`."""
    with Apart(_peer, arguments.recipe) as train:
        figures = train(arguments.data, seconds, arguments.peer_attention[0], arguments.peer_batch_size)
    score = figures[recipe.metric]
    return Run(figures["seconds"], score, figures["real_tokens_per_second"], figures["padding_share"])


def _peer(name: str) -> Callable[..., dict[str, Any]]:
    from benchmarks import peers

    return getattr(peers, name)


def _run(words: list[str]) -> None:
    """Runs a `vanilla` command in a separate process.

    Raises:
        SystemExit: If the command fails.
    """
    found = subprocess.run(
        [sys.executable, "-m", "vanilla_recipes.cli", *words], stdout=subprocess.PIPE, text=True, check=False
    )
    if found.returncode:
        raise SystemExit(f"vanilla {' '.join(words)} failed with exit code {found.returncode}:\n{found.stdout}")
