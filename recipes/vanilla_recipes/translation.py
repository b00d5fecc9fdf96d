"""Trains an encoder-decoder to translate.

    vanilla train translation/toy
    vanilla train translation/multi30k data.path=FOLDER output_dir=runs/multi30k
    accelerate launch recipes/translation.py configs/translation/multi30k.yaml optimizer.learning_rate=1e-3
    vanilla train translation/multi30k augmentation.word_dropout=0.1 augmentation.reversal=0.2
    vanilla train translation/multi30k data.path=FOLDER model.pretrained=runs/multi30k/best peft.r=8

The run folder then contains the models `best/` and `final/`, which `AutoModelForSeq2SeqLM.from_pretrained` loads, the
scores of the test split in `results.json`, and the training curve in `metrics.jsonl`. With `peft.r` only LoRA adapters
are trained. They are merged into the weights of `best/` and `final/`; the subfolder `adapter/` has them for PEFT.

Measured runs: `docs/figures.md`.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from vanilla_recipes.data.collators import (
    PackedTranslationCollator,
    PairFeatures,
    TranslationCollator,
    encode_pairs,
)
from vanilla_recipes.data.pair_augmentation import PairAugmentationConfig, PairAugmenter
from vanilla_recipes.data.pairs import Pair, TranslationDataConfig, read_translation_pairs, translation_pairs
from vanilla_recipes.data.streams import by_segment, open_stream, stream_problems
from vanilla_recipes.data.tokenizers import model_saver, train_translation_tokenizer
from vanilla_recipes.engine.forward import logits_of
from vanilla_recipes.engine.plan import Rows
from vanilla_recipes.engine.run import train
from vanilla_recipes.engine.task import EncodedRows, Examples, Scores, Task, fingerprint_rows
from vanilla_recipes.models.new_model import model_fields, new_config
from vanilla_recipes.models.positions import check_positions
from vanilla_recipes.models.pretrained import load_pretrained
from vanilla_recipes.processes.launch import program
from vanilla_recipes.scoring.decoding import BeamSearchConfig, generation_config, translate
from vanilla_recipes.scoring.losses import RowLoss, mean_loss, row_losses
from vanilla_recipes.settings.experiment import BatchConfig, EvaluationConfig, Experiment, Problem
from vanilla_transformers import VanillaSeq2SeqConfig, VanillaSeq2SeqForConditionalGeneration


@dataclass(frozen=True)
class TokenizerConfig:
    """The tokenizer shared by source and target, trained on the training rows.

    Attributes:
        vocab_size: maximum number of tokens of the vocabulary.
        max_source_length: number of tokens to which a source is truncated, end token included.
        max_target_length: number of tokens to which a target is truncated, end token included; also the maximum length
            of a generated translation.
    """

    vocab_size: int = 8000
    max_source_length: int = 256
    max_target_length: int = 256

    def problems(self) -> Iterator[Problem]:
        for name in ("max_source_length", "max_target_length"):
            if getattr(self, name) < 2:
                yield name, "must be 2 or greater: the end token takes one token"


@dataclass(frozen=True)
class TranslationEvaluationConfig(EvaluationConfig):
    """How the validation rows are scored during training.

    Attributes:
        metric: the score that decides which model is the best.
        num_beams: number of beams for the validation rows. The test rows use `generation.num_beams`.
    """

    metric: Literal["bleu", "chrf", "loss"] = "bleu"
    num_beams: int = 1

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.num_beams < 1:
            yield "num_beams", "must be 1 or greater"


@dataclass(frozen=True)
class TranslationExperiment(Experiment):
    """The complete configuration of a translation run."""

    recipe: str = "translation"
    data: TranslationDataConfig = field(default_factory=TranslationDataConfig)
    augmentation: PairAugmentationConfig = field(default_factory=PairAugmentationConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    evaluation: TranslationEvaluationConfig = field(default_factory=TranslationEvaluationConfig)
    generation: BeamSearchConfig = field(default_factory=BeamSearchConfig)

    @classmethod
    def model_keys(cls) -> dict[str, Any]:
        unused = ("decoder_start_token_id", "is_encoder_decoder")
        return super().model_keys() | model_fields(VanillaSeq2SeqConfig, unused)

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from stream_problems(self.data, self.max_duration)


@dataclass(frozen=True)
class Corpus:
    """Sentence pairs with their token ids, in the order of the data."""

    pairs: list[Pair]
    features: list[PairFeatures]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of source and target tokens of each row, shape (rows, 2)."""
        return np.array([(len(row["input_ids"]), len(row["labels"])) for row in self.features], dtype=np.int64)

    @property
    def rows(self) -> EncodedRows:
        """The rows as the argument of `fingerprint_rows`."""
        return self.lengths, (ids for row in self.features for ids in (row["input_ids"], row["labels"]))


def setup(experiment: TranslationExperiment) -> Task:
    """Reads the rows, makes or loads tokenizer and model, and returns the task for the engine."""
    data, seed = experiment.data, experiment.seed
    stream = open_stream(data, lambda: read_translation_pairs(data, "train", seed))
    pairs = translation_pairs(data, "train", seed) if stream is None else stream.segment(0)
    validation_pairs = translation_pairs(data, "validation", seed)[: experiment.evaluation.max_rows]
    test_pairs = None if data.test_split is None else translation_pairs(data, "test", seed)
    torch.manual_seed(seed)
    model, tokenizer = _model_and_tokenizer(experiment, pairs)
    corpus = _encode(pairs, tokenizer, experiment)
    corpora = by_segment(stream, corpus, lambda pairs: _encode(pairs, tokenizer, experiment))
    validation = _encode(validation_pairs, tokenizer, experiment)
    test = None if test_pairs is None else _encode(test_pairs, tokenizer, experiment)
    features = _training_features(experiment, tokenizer, model.config.decoder_start_token_id)
    collate = _training_collator(experiment.batch, tokenizer.pad_token_id, model.config.decoder_start_token_id)

    return Task(
        model=model,
        lengths=corpus.lengths if stream is None else lambda segment: corpora(segment).lengths,
        make_batch=lambda rows, epoch: collate(features(corpora(epoch), rows, epoch)),
        fingerprint=fingerprint_rows(tokenizer.get_vocab(), corpus.rows, validation.rows),
        validation=_examples(validation, tokenizer, experiment.evaluation.num_beams),
        metric=experiment.evaluation.metric,
        greater_is_better=experiment.evaluation.metric != "loss",
        save_model=model_saver(tokenizer),
        test=_examples(test, tokenizer, experiment.generation.num_beams) if test else None,
        settings={"generation": dataclasses.asdict(experiment.generation)},
    )


def _training_features(
    experiment: TranslationExperiment, tokenizer: PreTrainedTokenizerFast, decoder_start_token_id: int
) -> Callable[[Corpus, Rows, int], list[PairFeatures]]:
    """Returns a function that gives the token ids of rows of a corpus in an epoch, augmented if augmentation is on."""
    limits, seed = experiment.tokenizer, experiment.seed
    if not experiment.augmentation.is_on:
        return lambda corpus, rows, epoch: [corpus.features[row] for row in rows]
    augment = PairAugmenter(
        experiment.augmentation, tokenizer, decoder_start_token_id, limits.max_source_length, limits.max_target_length
    )
    return lambda corpus, rows, epoch: [
        augment(corpus.features[row], np.random.default_rng([seed, epoch, row])) for row in rows.tolist()
    ]


def _training_collator(
    batch: BatchConfig, pad_token_id: int, decoder_start_token_id: int
) -> TranslationCollator | PackedTranslationCollator:
    if batch.packing:
        return PackedTranslationCollator(pad_token_id, decoder_start_token_id, batch.pack_length)
    return TranslationCollator(pad_token_id)


def _examples(corpus: Corpus, tokenizer: PreTrainedTokenizerFast, num_beams: int) -> Examples:
    """Returns rows that are scored by loss, and by BLEU and chrF of their translations."""
    collate = TranslationCollator(tokenizer.pad_token_id)

    def predict(model: PreTrainedModel, rows: Rows) -> list[tuple[RowLoss, str]]:
        batch = {
            name: tensor.to(model.device) for name, tensor in collate([corpus.features[row] for row in rows]).items()
        }
        losses = row_losses(logits_of(model, batch), batch["labels"])
        texts = translate(model, tokenizer, [corpus.pairs[row].source for row in rows], num_beams)
        return list(zip(losses, texts, strict=True))

    def score(records: list[tuple[RowLoss, str]]) -> Scores:
        from vanilla_recipes.scoring.translations import translation_scores

        losses, texts = zip(*records, strict=True)
        return {"loss": mean_loss(losses), **translation_scores(texts, [pair.target for pair in corpus.pairs])}

    return Examples(corpus.lengths, predict, score)


def _model_and_tokenizer(
    experiment: TranslationExperiment, pairs: list[Pair]
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    model_class = VanillaSeq2SeqForConditionalGeneration
    if experiment.pretrained:
        model, tokenizer = load_pretrained(model_class, experiment.pretrained, experiment.model_settings)
    else:
        model, tokenizer = _build_new(experiment, pairs)
    max_length = experiment.tokenizer.max_target_length
    limits = {
        "tokenizer.max_source_length": experiment.tokenizer.max_source_length,
        "tokenizer.max_target_length": max_length,
    }
    check_positions(model.config, limits, is_saved=bool(experiment.pretrained))
    model.generation_config = generation_config(experiment.generation, model, max_length)
    return model, tokenizer


def _encode(pairs: list[Pair], tokenizer: PreTrainedTokenizerFast, experiment: TranslationExperiment) -> Corpus:
    limits = experiment.tokenizer
    return Corpus(pairs, encode_pairs(pairs, tokenizer, limits.max_source_length, limits.max_target_length))


def _build_new(
    experiment: TranslationExperiment, pairs: list[Pair]
) -> tuple[VanillaSeq2SeqForConditionalGeneration, PreTrainedTokenizerFast]:
    limits = experiment.tokenizer
    texts = [text for pair in pairs for text in pair]
    tokenizer = train_translation_tokenizer(texts, limits.vocab_size, limits.max_source_length)
    settings = {"decoder_start_token_id": tokenizer.bos_token_id} | experiment.model_settings
    config = new_config(VanillaSeq2SeqConfig, tokenizer, **settings)
    return VanillaSeq2SeqForConditionalGeneration(config), tokenizer


def main(argv: Sequence[str]) -> int:
    """Trains and evaluates a model. The arguments are a configuration, then `key=value` overrides."""
    return train(TranslationExperiment, setup, argv)


if __name__ == "__main__":
    sys.exit(program(main, __file__))
