"""`python -m benchmarks decoding --model MODEL --sentences FILE`: translation, compared with Marian and CTranslate2.

All use the same weights. CTranslate2 runs in a separate process: in torch's process both libraries would share one pool
of OpenMP threads, and all other work in the process would be a third slower. FILE is a `.jsonl` file like those of
Multi30k, or has one text a line. The fastest batch size of each model is found first; then all models take turns. The
texts are tokenized before the measurement. The output states how many translations have the same tokens as ours.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel

from benchmarks.rounds import Apart, Comparison, Unavailable, best_batch_size, compare
from vanilla_transformers.interop import ctranslate2
from vanilla_transformers.interop.checks import InteropError
from vanilla_transformers.interop.conversion import to_stock

Rows = list[list[int]]
Search = Callable[[Rows, int], Rows]

BATCH_SIZES = (16, 32, 64, 128)
TRIED_ON = 200  # about how many sentences are used to compare batch sizes


def read_texts(path: Path, source: str) -> list[str]:
    """Returns the texts of a file.

    Args:
        path: JSON lines if the name ends in `.jsonl`, else a file with one text a line.
        source: the field of a JSON line, or of its `translation`, that holds the text.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.suffix != ".jsonl":
        return lines
    rows = [json.loads(line) for line in lines]
    return [row["translation"][source] if "translation" in row else row[source] for row in rows]


def by_length(rows: Rows, batch_size: int) -> Iterator[list[int]]:
    """Returns batches of row indices. The rows are sorted by length, longest first."""
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
    return (order[start : start + batch_size] for start in range(0, len(order), batch_size))


def generating(model: PreTrainedModel, pad: int, settings: dict[str, object]) -> Search:
    """Returns a search by `generate` of a transformers model. Its answers begin after the decoder's start token."""

    @torch.inference_mode()
    def search(rows: Rows, batch_size: int) -> Rows:
        found: Rows = [[] for _ in rows]
        for places in by_length(rows, batch_size):
            length = max(len(rows[place]) for place in places)
            ids = torch.tensor(
                [rows[place] + [pad] * (length - len(rows[place])) for place in places], device=model.device
            )
            output = model.generate(ids, attention_mask=ids.ne(pad).long(), **settings)  # type: ignore[operator]
            for place, tokens in zip(places, output.tolist(), strict=True):
                found[place] = tokens[1:]
        return found

    return search


def translating(folder: Path, tokenizer: object, num_beams: int, max_length: int, num_workers: int) -> Search:
    """Returns a search by CTranslate2. Its workers divide torch's number of threads among them."""
    import ctranslate2 as runtime

    threads = max(1, torch.get_num_threads() // num_workers)
    translator = runtime.Translator(
        str(folder), inter_threads=num_workers, intra_threads=threads, compute_type="float32"
    )
    convert = tokenizer.convert_ids_to_tokens, tokenizer.convert_tokens_to_ids  # type: ignore[attr-defined]

    def search(rows: Rows, batch_size: int) -> Rows:
        places = [place for batch in by_length(rows, batch_size) for place in batch]
        results = translator.translate_batch(
            [convert[0](rows[place]) for place in places],
            beam_size=num_beams,
            max_decoding_length=max_length,
            max_batch_size=batch_size,
        )
        found: Rows = [[] for _ in rows]
        for place, result in zip(places, results, strict=True):
            found[place] = convert[1](result.hypotheses[0])
        return found

    return search


def trimmed(rows: Rows, end: int) -> Rows:
    """Returns the rows without the end token and the tokens after it."""
    return [row[: row.index(end)] if end in row else row for row in rows]


def prepared(
    model: PreTrainedModel, tokenizer: object, folder: Path, num_beams: int, max_length: int, processes: ExitStack
) -> tuple[dict[str, Search], dict[str, str]]:
    """Returns the searches, with the same weights in fp32, and for each one that cannot run the reason."""
    marian = to_stock(model, "marian").to(model.device).eval()
    settings: dict[str, object] = {"num_beams": num_beams, "max_length": max_length}
    if num_beams > 1:
        settings |= {"early_stopping": True, "length_penalty": 1.0}
    marian.generation_config = model.generation_config
    pad = model.config.pad_token_id
    subjects: dict[str, Search] = {
        "ours": generating(model, pad, settings),
        "Marian": generating(marian, pad, settings),
    }
    try:
        ctranslate2.write(model, tokenizer, folder, "float32")
    except InteropError as error:
        return subjects, {"CTranslate2": str(error)}
    for num_workers in sorted({1, torch.get_num_threads()}):
        process = Apart(translating, folder, tokenizer, num_beams, max_length, num_workers)
        subjects[f"CTranslate2, workers: {num_workers}"] = processes.enter_context(process)
    return subjects, {}


def translations(arguments: argparse.Namespace, device: torch.device) -> list[Comparison]:
    """Compares the sentences per second of beam search and greedy search.

    Raises:
        Unavailable: If `--model` or `--sentences` is missing.
    """
    if arguments.model is None or arguments.sentences is None:
        raise Unavailable(
            "--model FOLDER (a trained encoder-decoder) and --sentences FILE (the texts to translate) are needed"
        )
    model = AutoModelForSeq2SeqLM.from_pretrained(arguments.model, dtype=torch.float32).to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    rows = tokenizer(read_texts(arguments.sentences, arguments.source))["input_ids"]
    results = []
    for num_beams in arguments.beams:
        with ExitStack() as processes:
            folder = Path(processes.enter_context(tempfile.TemporaryDirectory())) / "ct2"
            subjects, missing = prepared(model, tokenizer, folder, num_beams, arguments.max_length, processes)
            some = rows[:: max(1, len(rows) // TRIED_ON)]
            sizes = {name: best_batch_size(partial(search, some), BATCH_SIZES) for name, search in subjects.items()}
            tokens: dict[str, Rows] = {}
            works = {name: _kept(search, rows, sizes[name], tokens, name) for name, search in subjects.items()}
            found = compare(
                f"translation, fp32, {len(rows):,} sentences, {num_beams} beams",
                "sentences",
                works,
                dict.fromkeys(works, len(rows)),
                "fp32",
                arguments.rounds,
                device,
                missing=missing,
            )
        first, *_ = (trimmed(each, model.config.eos_token_id) for each in tokens.values())
        for name, figures in found.subjects.items():
            same = sum(
                one == other for one, other in zip(first, trimmed(tokens[name], model.config.eos_token_id), strict=True)
            )
            figures.note = f"batches of {sizes[name]}, {same:,} with the same tokens"
        results.append(found)
        print(found, flush=True)
    return results


def _kept(search: Search, rows: Rows, batch_size: int, tokens: dict[str, Rows], name: str) -> Callable[[], None]:
    def work() -> None:
        tokens[name] = search(rows, batch_size)

    return work
