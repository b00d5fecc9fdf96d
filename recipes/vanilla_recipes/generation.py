"""Trains a causal language model on texts, or on prompts with completions.

    vanilla train generation/toy
    vanilla train generation/tinyshakespeare_char data.path=input.txt
    vanilla train generation/toy data.path=FOLDER data.prompt_field=question data.completion_field=answer \
        data.layout=documents model.pretrained=runs/generation-toy/best
    accelerate launch recipes/generation.py configs/generation/novels.yaml optimizer.learning_rate=1e-3

The run folder then contains the models `best/` and `final/`, which `AutoModelForCausalLM.from_pretrained` and
`pipeline("text-generation")` load, samples of the best model in `samples.txt`, and the training curve in
`metrics.jsonl`. The scores of the test split, if the data has one, are in `results.json`.

Measured runs: `docs/figures.md`.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from vanilla_recipes.data.causal import read_pairs, scored_spans, training_batch, training_spans
from vanilla_recipes.data.streams import by_segment, open_stream
from vanilla_recipes.data.text import PromptDataConfig, PromptPair, text_problems
from vanilla_recipes.data.tokenizers import (
    character_tokenizer,
    model_saver,
    saved_tokenizer,
    train_decoder_tokenizer,
)
from vanilla_recipes.data.tokens import Spans, begin_with_end_of_text, pieces
from vanilla_recipes.engine.plan import Rows
from vanilla_recipes.engine.run import train
from vanilla_recipes.engine.task import EncodedRows, Examples, Scores, Task, fingerprint_rows
from vanilla_recipes.errors import UserError
from vanilla_recipes.folders import write_text
from vanilla_recipes.models.new_model import model_fields, new_config
from vanilla_recipes.models.positions import check_positions
from vanilla_recipes.models.pretrained import load_pretrained
from vanilla_recipes.processes.launch import program
from vanilla_recipes.scoring.losses import RowLoss, row_losses
from vanilla_recipes.scoring.sampling import SamplingConfig, draw_samples, encode_prompts, generation_config
from vanilla_recipes.settings.experiment import Experiment, Problem
from vanilla_transformers import VanillaDecoderConfig, VanillaDecoderForCausalLM
from vanilla_transformers.model.losses import IGNORE_INDEX

NUM_SAMPLES = 4
"""Number of samples at the end of a run without `generation.prompts`."""

PROMPT_TOKENS = 16
"""Number of tokens of a validation row that are the prompt of a sample at the end of a run without prompts."""

FINGERPRINT_TOKENS = 10_000_000
"""Number of tokens that are copied at a time to compute the fingerprint of the rows."""


@dataclass(frozen=True)
class TokenizerConfig:
    """The tokenizer.

    Attributes:
        kind: byte-level BPE or characters; trained on the training rows.
        vocab_size: maximum number of tokens of the BPE vocabulary.
        name: folder or Hub repository of a saved tokenizer, which is used instead of training one.
    """

    kind: Literal["bpe", "characters"] = "bpe"
    vocab_size: int = 8000
    name: str | None = None


@dataclass(frozen=True)
class GenerationExperiment(Experiment):
    """The complete configuration of a causal language modelling run."""

    recipe: str = "generation"
    data: PromptDataConfig = field(default_factory=PromptDataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    generation: SamplingConfig = field(default_factory=SamplingConfig)

    @classmethod
    def model_keys(cls) -> dict[str, Any]:
        return super().model_keys() | model_fields(VanillaDecoderConfig, unused=("is_encoder_decoder",))

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from text_problems(self)

    @property
    def trains_tokenizer(self) -> bool:
        """Whether a tokenizer is trained on the training rows."""
        return self.pretrained is None and self.tokenizer.name is None


def setup(experiment: GenerationExperiment) -> Task:
    """Reads the rows, makes or loads tokenizer and model, and returns the task for the engine."""
    data, seed = experiment.data, experiment.seed
    stream = open_stream(data, lambda: read_pairs(data, "train", seed))
    pairs: Iterable[PromptPair] = read_pairs(data, "train", seed) if stream is None else stream.segment(0)
    if experiment.trains_tokenizer:
        pairs = list(pairs)  # kept in memory, because the tokenizer trainer and the encoder both read the pairs
    torch.manual_seed(seed)
    model, tokenizer = _model_and_tokenizer(experiment, pairs)
    spans = training_spans(data, pairs, tokenizer)
    corpora = by_segment(stream, spans, lambda pairs: training_spans(data, pairs, tokenizer))
    validation = scored_spans(data, "validation", seed, tokenizer).first(experiment.evaluation.max_rows)
    test = None if data.test_split is None else scored_spans(data, "test", seed, tokenizer)
    given = encode_prompts(experiment.generation.prompts, tokenizer, data.block_size)
    prompts = given or validation.beginnings(NUM_SAMPLES, PROMPT_TOKENS)

    return Task(
        model=model,
        lengths=spans.lengths if stream is None else lambda segment: corpora(segment).lengths,
        make_batch=lambda rows, epoch: training_batch(corpora(epoch), data, experiment.batch, seed, rows, epoch),
        fingerprint=fingerprint_rows(tokenizer.get_vocab(), _rows(spans), _rows(validation)),
        validation=_examples(validation, tokenizer),
        metric="loss",
        greater_is_better=False,
        save_model=model_saver(tokenizer),
        test=None if test is None else _examples(test, tokenizer),
        settings={"context": {"layout": data.layout, "block_size": data.block_size}},
        num_targets=lambda batch: int((batch["shift_labels"] != IGNORE_INDEX).sum()),
        show=lambda model, folder: _show(model, folder, tokenizer, prompts, experiment),
    )


def _rows(spans: Spans) -> EncodedRows:
    """Returns the rows as the argument of `fingerprint_rows`."""
    starts = range(0, len(spans.ids), FINGERPRINT_TOKENS)
    parts = (spans.ids[start : start + FINGERPRINT_TOKENS] for start in starts)
    return np.stack((spans.lengths, spans.num_prompt)), parts


def _examples(spans: Spans, tokenizer: PreTrainedTokenizerFast) -> Examples:
    """Returns rows that are scored by loss and perplexity."""

    def predict(model: PreTrainedModel, rows: Rows) -> list[RowLoss]:
        batch = {name: tensor.to(model.device) for name, tensor in spans.batch(rows).items()}
        return row_losses(model(batch["input_ids"], use_cache=False).logits, batch["shift_labels"])

    def score(records: list[RowLoss]) -> Scores:
        from vanilla_recipes.scoring.perplexity import Perplexity

        totals, counts = zip(*records, strict=True)
        return Perplexity().compute(losses=list(totals), num_targets=list(counts), text=text)

    text = tokenizer.decode(spans.targets(), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Examples(spans.lengths, predict, score)


def _show(
    model: PreTrainedModel,
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[list[int]],
    experiment: GenerationExperiment,
) -> None:
    """Samples continuations of the prompts, writes them to `samples.txt` and prints the first."""
    max_new_tokens, context = experiment.generation.max_new_tokens, experiment.data.block_size
    samples = draw_samples(model, tokenizer, prompts, max_new_tokens, context, experiment.seed)
    write_text(folder / "samples.txt", "\n".join(samples))
    print(f"{len(samples)} samples in {folder / 'samples.txt'}; the first:\n{samples[0]}")


def _model_and_tokenizer(
    experiment: GenerationExperiment, pairs: Iterable[PromptPair]
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    if experiment.pretrained:
        model_class, settings = VanillaDecoderForCausalLM, experiment.model_settings
        model, tokenizer = load_pretrained(model_class, experiment.pretrained, settings)
    else:
        tokenizer = _tokenizer(experiment, pairs)
        model = _build_new(experiment, tokenizer)
    limits = {"data.block_size": experiment.data.block_size}
    check_positions(model.config, limits, is_saved=bool(experiment.pretrained))
    if experiment.data.rows_are == "documents" and tokenizer.eos_token_id is None:
        raise UserError(
            "the tokenizer has no end-of-text token: set eos_token in its tokenizer_config.json, or join the rows "
            "without it with data.rows_are=pieces"
        )
    model.generation_config = generation_config(
        experiment.generation, model.config, tokenizer, ends=experiment.data.rows_are == "documents"
    )
    return model, tokenizer


def _tokenizer(experiment: GenerationExperiment, pairs: Iterable[PromptPair]) -> PreTrainedTokenizerFast:
    settings, data = experiment.tokenizer, experiment.data
    if settings.name is not None:
        return saved_tokenizer(settings.name)
    found = (piece for pair in pairs for text in pair for piece, _ in pieces(text))
    if settings.kind == "characters":
        tokenizer = character_tokenizer(found, data.block_size)
    else:
        tokenizer = train_decoder_tokenizer(found, settings.vocab_size, data.block_size)
    if data.rows_are == "documents":
        begin_with_end_of_text(tokenizer)
    return tokenizer


def _build_new(experiment: GenerationExperiment, tokenizer: PreTrainedTokenizerFast) -> VanillaDecoderForCausalLM:
    settings = {"max_position_embeddings": experiment.data.block_size} | experiment.model_settings
    return VanillaDecoderForCausalLM(new_config(VanillaDecoderConfig, tokenizer, **settings))


def main(argv: Sequence[str]) -> int:
    """Trains and evaluates a model. The arguments are a configuration, then `key=value` overrides."""
    return train(GenerationExperiment, setup, argv)


if __name__ == "__main__":
    sys.exit(program(main, __file__))
