"""`python -m benchmarks.decoding MODEL SENTENCES`: sentences a second of ours, and of others on the same weights.

These are transformers' Marian and CTranslate2. SENTENCES is a JSON-lines file like Multi30k's, or one text a line.
Each subject first looks for its best batch size, then all take turns. Text is tokenized beforehand for all; the tokens
that come out are compared.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel

from benchmarks.__main__ import RESULTS, surroundings
from vanilla_transformers.interop import ctranslate2
from vanilla_transformers.interop.conversion import to_stock
from vanilla_transformers.recipes.engine.cpu import keep_memory_and_kernels

Rows = list[list[int]]
Search = Callable[[Rows, int], Rows]

BATCH_SIZES = (16, 32, 64, 128)
TRIED_ON = 200  # sentences on which a batch size is tried


def read_texts(path: Path, source: str) -> list[str]:
    """The texts of a file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.suffix != ".jsonl":
        return lines
    rows = [json.loads(line) for line in lines]
    return [row["translation"][source] if "translation" in row else row[source] for row in rows]


def by_length(rows: Rows, batch_size: int) -> Iterator[list[int]]:
    """The places of rows of like length, longest first."""
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
    return (order[start : start + batch_size] for start in range(0, len(order), batch_size))


def generating(model: PreTrainedModel, pad: int, settings: dict[str, object]) -> Search:
    """`generate` of a model of transformers' kind."""

    @torch.inference_mode()
    def search(rows: Rows, batch_size: int) -> Rows:
        found: Rows = [[] for _ in rows]
        for places in by_length(rows, batch_size):
            length = max(len(rows[place]) for place in places)
            ids = torch.tensor([rows[place] + [pad] * (length - len(rows[place])) for place in places])
            output = model.generate(ids, attention_mask=ids.ne(pad).long(), **settings)  # type: ignore[operator]
            for place, tokens in zip(places, output.tolist(), strict=True):
                found[place] = tokens[1:]
        return found

    return search


def translating(folder: Path, tokenizer: object, num_beams: int, max_length: int) -> Search:
    """CTranslate2 on two threads."""
    import ctranslate2 as runtime

    translator = runtime.Translator(str(folder), intra_threads=torch.get_num_threads(), compute_type="float32")
    convert = tokenizer.convert_ids_to_tokens, tokenizer.convert_tokens_to_ids  # type: ignore[attr-defined]

    def search(rows: Rows, batch_size: int) -> Rows:
        found: Rows = [[] for _ in rows]
        for places in by_length(rows, batch_size):
            results = translator.translate_batch(
                [convert[0](rows[place]) for place in places],
                beam_size=num_beams,
                max_decoding_length=max_length,
                max_batch_size=0,
            )
            for place, result in zip(places, results, strict=True):
                found[place] = convert[1](result.hypotheses[0])
        return found

    return search


def best_batch_size(search: Search, rows: Rows) -> int:
    """The fastest of some, on every n-th of the rows."""
    some = rows[:: max(1, len(rows) // TRIED_ON)]

    def seconds(batch_size: int) -> float:
        start = time.perf_counter()
        search(some, batch_size)
        return time.perf_counter() - start

    seconds(BATCH_SIZES[0])
    return min(BATCH_SIZES, key=lambda size: min(seconds(size), seconds(size)))


def trimmed(rows: Rows, end: int) -> Rows:
    """Without the end token and what stands behind it."""
    return [row[: row.index(end)] if end in row else row for row in rows]


def compare(subjects: dict[str, Search], rows: Rows, rounds: int, end: int) -> dict[str, object]:
    """Sentences a second of each, and how often it is as fast as the first."""
    sizes = {name: best_batch_size(search, rows) for name, search in subjects.items()}
    rates: dict[str, list[float]] = {name: [] for name in subjects}
    tokens: dict[str, Rows] = {}
    for _ in range(rounds):
        for name, search in subjects.items():
            start = time.perf_counter()
            tokens[name] = trimmed(search(rows, sizes[name]), end)
            rates[name].append(len(rows) / (time.perf_counter() - start))
    first, *_ = subjects
    return {
        name: {
            "batch_size": sizes[name],
            "sentences_per_second": round(statistics.median(rates[name]), 1),
            "first_is_faster": sorted(
                round(own / theirs, 3) for own, theirs in zip(rates[first], rates[name], strict=True)
            ),
            "same_tokens": sum(one == other for one, other in zip(tokens[first], tokens[name], strict=True)),
        }
        for name in subjects
    }


def prepared(
    model: PreTrainedModel, tokenizer: object, folder: Path, num_beams: int, max_length: int
) -> dict[str, Search]:
    """The subjects, on the same weights and in fp32."""
    marian = to_stock(model, "marian").eval()
    settings = {
        "num_beams": num_beams,
        "early_stopping": num_beams > 1,
        "max_length": max_length,
        "length_penalty": 1.0,
    }
    marian.generation_config = model.generation_config
    pad = model.config.pad_token_id
    ctranslate2.write(model, tokenizer, folder, "float32")
    return {
        "ours": generating(model, pad, settings),
        "Marian": generating(marian, pad, settings),
        "CTranslate2": translating(folder, tokenizer, num_beams, max_length),
    }


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decoding",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("model", help="a trained encoder-decoder")
    parser.add_argument("sentences", type=Path, help="the file")
    parser.add_argument("--source", default="en", help="the language to translate from")
    parser.add_argument("--beams", type=int, nargs="+", default=[4, 1])
    parser.add_argument("--max-length", type=int, default=64, help="tokens of a translation")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(words)
    keep_memory_and_kernels()
    model = AutoModelForSeq2SeqLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    rows = tokenizer(read_texts(arguments.sentences, arguments.source))["input_ids"]
    results = {}
    for num_beams in arguments.beams:
        with tempfile.TemporaryDirectory() as folder:
            subjects = prepared(model, tokenizer, Path(folder) / "ct2", num_beams, arguments.max_length)
            results[f"beam-{num_beams}"] = compare(subjects, rows, arguments.rounds, model.config.eos_token_id)
        print(f"beam-{num_beams}, {len(rows):,} sentences")
        for name, result in results[f"beam-{num_beams}"].items():  # type: ignore[attr-defined]
            low, *_, high = result["first_is_faster"]
            print(
                f"  {name:12} {result['sentences_per_second']:8.1f} sentences/s, batches of {result['batch_size']:3}; "
                f"ours is {low:.2f} to {high:.2f} times as fast; {result['same_tokens']:,} with the same tokens"
            )
    report = {"task": "translation, fp32", "sentences": len(rows), **surroundings(), "results": results}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"decoding_{date.today()}.json"
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
