"""`python -m benchmarks`: a training step of ours and of transformers' Marian, on the same batch.

Prints the time of each and its ratio to ours, and writes them with machine and versions to `benchmarks/results/`.
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

from vanilla_transformers import VanillaPreTrainedModel, VanillaSeq2SeqConfig, VanillaSeq2SeqForConditionalGeneration

RESULTS = Path(__file__).parent / "results"
VOCAB_SIZE, WIDTH, HEADS, INNER, LAYERS = 8000, 256, 8, 1024, 3


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


def training_step(model: torch.nn.Module, precision: str, batch_size: int, length: int) -> Callable[[], None]:
    """Forward, backward and fused AdamW on one full batch of random ids; of ours the loss alone, as recipes take it."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(4, VOCAB_SIZE, (batch_size, length), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    options = {"return_logits": False} if isinstance(model, VanillaPreTrainedModel) else {}

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(**batch, **options).loss
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


def compare(precision: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Of each subject the median in milliseconds, and its time over the first one's: minimum, median and maximum."""
    subjects = {}
    for kernel in arguments.attention:
        for name, build in (("ours", ours), ("marian", marian)):
            model = build()
            model.set_attn_implementation(kernel)  # type: ignore[operator]
            subjects[f"{name} {kernel}"] = training_step(model, precision, arguments.batch_size, arguments.length)
    seconds = alternate(subjects, arguments.rounds, arguments.steps)
    first = next(iter(seconds.values()))
    ratios = {
        name: sorted(theirs / own for theirs, own in zip(values, first, strict=True))
        for name, values in seconds.items()
    }
    return {
        "precision": precision,
        "milliseconds": {name: round(1000 * statistics.median(values), 2) for name, values in seconds.items()},
        "over_first": {
            name: [round(value, 3) for value in (values[0], statistics.median(values), values[-1])]
            for name, values in ratios.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--attention", nargs="+", default=["eager", "sdpa"], metavar="KERNEL", help="kernels of both")
    parser.add_argument("--batch-size", type=int, default=32, help="rows")
    parser.add_argument("--length", type=int, default=16, help="tokens of a source and of a target")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="steps of each subject in a round")
    arguments = parser.parse_args()
    results = [compare(precision, arguments) for precision in ("fp32", "bf16")]
    for result in results:
        print(result["precision"])
        for name, milliseconds in result["milliseconds"].items():  # type: ignore[attr-defined]
            low, median, high = result["over_first"][name]  # type: ignore[index]
            print(f"  {name:15} {milliseconds:8.1f} ms a step, {median:.2f} of the first ({low:.2f}-{high:.2f})")
    report = {"task": "seq2seq training step", "settings": vars(arguments), **surroundings(), "results": results}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"training_step_{arguments.batch_size}x{arguments.length}_{date.today()}.json"
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


def surroundings() -> dict[str, object]:
    """Date, machine and versions, without which a time means nothing."""
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "date": str(date.today()),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {capability}",
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }


if __name__ == "__main__":
    main()
