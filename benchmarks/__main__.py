"""`python -m benchmarks`: a training step of ours and of transformers' Marian, on the same batch.

Prints the time of each, the ratio with its spread, and writes them with machine and versions to `benchmarks/results/`.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
import transformers
from transformers import MarianConfig, MarianMTModel

from vanilla_transformers import VanillaSeq2SeqConfig, VanillaSeq2SeqForConditionalGeneration

RESULTS = Path(__file__).parent / "results"
VOCAB_SIZE, WIDTH, HEADS, INNER, LAYERS = 8000, 256, 8, 1024, 3
BATCH_SIZE, LENGTH = 32, 16


def ours() -> torch.nn.Module:
    """Our encoder-decoder of the Multi30k recipe's size, 7.6 million parameters."""
    return VanillaSeq2SeqForConditionalGeneration(
        VanillaSeq2SeqConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=WIDTH,
            num_attention_heads=HEADS,
            intermediate_size=INNER,
            encoder_layers=LAYERS,
            decoder_layers=LAYERS,
        )
    )


def marian() -> torch.nn.Module:
    """transformers' Marian of the same size and activation."""
    return MarianMTModel(
        MarianConfig(
            vocab_size=VOCAB_SIZE,
            d_model=WIDTH,
            encoder_attention_heads=HEADS,
            decoder_attention_heads=HEADS,
            encoder_ffn_dim=INNER,
            decoder_ffn_dim=INNER,
            encoder_layers=LAYERS,
            decoder_layers=LAYERS,
            activation_function="relu",
            scale_embedding=True,
            pad_token_id=0,
            eos_token_id=3,
            decoder_start_token_id=2,
        )
    )


def training_step(model: torch.nn.Module, precision: str) -> Callable[[], None]:
    """Forward, backward and fused AdamW on one full batch of random ids."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(4, VOCAB_SIZE, (BATCH_SIZE, LENGTH), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def alternate(subjects: dict[str, Callable[[], None]], rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds a step of each subject, round by round, after a warm-up that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds + 1):
        for name, step in subjects.items():
            start = time.perf_counter()
            for _ in range(steps):
                step()
            if number:
                seconds[name].append((time.perf_counter() - start) / steps)
    return seconds


def compare(precision: str, rounds: int, steps: int) -> dict[str, object]:
    """Medians in milliseconds and the peer's time over ours, round by round: minimum, median and maximum."""
    seconds = alternate(
        {"ours": training_step(ours(), precision), "marian": training_step(marian(), precision)}, rounds, steps
    )
    ratios = sorted(theirs / own for theirs, own in zip(seconds["marian"], seconds["ours"], strict=True))
    return {
        "precision": precision,
        "milliseconds": {name: round(1000 * statistics.median(values), 2) for name, values in seconds.items()},
        "marian_over_ours": [round(value, 3) for value in (ratios[0], statistics.median(ratios), ratios[-1])],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="steps of each subject in a round")
    arguments = parser.parse_args()
    results = [compare(precision, arguments.rounds, arguments.steps) for precision in ("fp32", "bf16")]
    for result in results:
        low, median, high = result["marian_over_ours"]
        figures = f"{result['milliseconds']} ms a step; Marian's time is {median} of ours ({low}-{high})"
        print(f"{result['precision']}: {figures}")
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    versions = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
    report = {
        "task": "seq2seq training step",
        "date": str(date.today()),
        "machine": machine,
        "versions": versions,
        "results": results,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"training_step_{date.today()}.json"
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
