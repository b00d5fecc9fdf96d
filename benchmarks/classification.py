"""`python -m benchmarks classification`: classification of sentences, compared with BERT in transformers' `pipeline`.

Our model runs as in `vanilla classify`: the sentences of a batch have similar lengths, and a batch has a maximum number
of tokens. BERT has the same weights and uses the fastest of several batch sizes. `--texts` names the file with the
sentences, such as the validation rows of SST-2. Without `--texts` the sentences are random words; their lengths are
like those of SST-2.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import TextClassificationPipeline

from benchmarks.decoding import read_texts
from benchmarks.models import SHAPES, sizes
from benchmarks.rounds import Comparison, best_batch_size, compare
from vanilla_recipes.cli.classifier import classified
from vanilla_recipes.data.tokenizers import train_encoder_tokenizer
from vanilla_transformers import VanillaEncoderConfig, VanillaEncoderForSequenceClassification
from vanilla_transformers.interop.conversion import to_stock
from vanilla_transformers.text.answers import default_batch_tokens

BATCH_SIZES = (1, 8, 16, 32, 64, 128)
TRIED_ON = 256  # number of sentences on which batch sizes are compared


def classifications(arguments: argparse.Namespace, device: torch.device) -> list[Comparison]:
    """Compares the sentences per second in fp32."""
    shape = SHAPES["masked_lm"]
    texts = read_texts(arguments.texts, "sentence") if arguments.texts else random_sentences(872)
    tokenizer = train_encoder_tokenizer(texts, shape.vocab_size, shape.length)
    torch.manual_seed(0)
    config = VanillaEncoderConfig(**sizes(replace(shape, vocab_size=len(tokenizer))), num_hidden_layers=shape.layers)
    ours = VanillaEncoderForSequenceClassification(config).to(device).eval()
    works: dict[str, Callable[[], list[Any]]] = {"ours": _ours(ours, tokenizer, texts)}
    notes = {}
    for kernel in arguments.peer_attention:
        bert = to_stock(ours, "bert").to(device).eval()
        bert.set_attn_implementation(kernel)
        name = f"BERT through pipeline, {kernel}"
        size = best_batch_size(lambda size: _pipeline(bert, tokenizer, texts[:TRIED_ON], size)(), BATCH_SIZES)  # noqa: B023
        notes[name] = f"batches of {size}"
        works[name] = _pipeline(bert, tokenizer, texts, size)
    answers = {name: work() for name, work in works.items()}
    for name, each in answers.items():
        same = sum(one == other for one, other in zip(answers["ours"], each, strict=True))
        notes[name] = "; ".join(filter(None, (notes.get(name), f"{same:,} of {len(texts):,} classes equal")))
    result = compare(
        f"classification, fp32, {len(texts):,} sentences",
        "sentences",
        works,
        dict.fromkeys(works, len(texts)),
        "fp32",
        arguments.rounds,
        device,
        notes=notes,
    )
    print(result, flush=True)
    return [result]


def random_sentences(count: int) -> list[str]:
    """Returns sentences of random four-letter words, with lengths distributed as in the validation rows of SST-2."""
    generator = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlu"))
    words = ["".join(word) for word in generator.choice(letters, (8000, 4))]
    lengths = generator.lognormal(3.0, 0.48, count).round().clip(2, 60).astype(int)
    return [" ".join(generator.choice(words, length)) for length in lengths]


def _ours(model: Any, tokenizer: Any, texts: list[str]) -> Callable[[], list[Any]]:
    pipeline = TextClassificationPipeline(model=model, tokenizer=tokenizer, device=model.device, top_k=1)
    budget = default_batch_tokens(model)

    def work() -> list[Any]:
        with tqdm(disable=True) as bar:
            return [fields[0] for fields in classified(pipeline, texts, budget, bar)]

    return work


def _pipeline(model: Any, tokenizer: Any, texts: list[str], batch_size: int) -> Callable[[], list[Any]]:
    pipeline: Any = TextClassificationPipeline(model=model, tokenizer=tokenizer, device=model.device)
    return lambda: [found["label"] for found in pipeline(texts, batch_size=batch_size, truncation=True)]
