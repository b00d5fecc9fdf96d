"""Trains a classifier of texts, or of text pairs, with any number of classes.

    vanilla train classification/toy
    vanilla train classification/sst2 data.path=FOLDER output_dir=runs/sst2
    vanilla train classification/sst2 model.pretrained=runs/masked_lm-novels/best
    accelerate launch recipes/classification.py configs/classification/imdb.yaml optimizer.learning_rate=5e-4

The run folder then contains the models `best/` and `final/`, which `AutoModelForSequenceClassification.from_pretrained`
and `pipeline("text-classification")` load, and the training curve in `metrics.jsonl`. The scores of the test split, if
the data has one, are in `results.json`.

Measured runs: `docs/figures.md`.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from vanilla_recipes.data.augmentation import AugmentationConfig, AugmentedRows, Augmenter
from vanilla_recipes.data.labelled import Classes, LabelledDataConfig, LabelledRow, classes_of, labelled_rows
from vanilla_recipes.data.labelled_features import Tokens, collate, encode_rows
from vanilla_recipes.data.tokenizers import model_saver, train_decoder_tokenizer, train_encoder_tokenizer
from vanilla_recipes.engine.forward import logits_of
from vanilla_recipes.engine.plan import Lengths, Rows
from vanilla_recipes.engine.run import train
from vanilla_recipes.engine.task import Batch, EncodedRows, Examples, Scores, Task, fingerprint_rows
from vanilla_recipes.errors import UserError
from vanilla_recipes.models.new_model import model_fields, new_config
from vanilla_recipes.models.positions import check_positions
from vanilla_recipes.models.pretrained import load_pretrained
from vanilla_recipes.processes.launch import program
from vanilla_recipes.scoring.losses import RowLoss, mean_loss, row_losses
from vanilla_recipes.settings.experiment import EvaluationConfig, Experiment, Problem
from vanilla_transformers import (
    VanillaConfig,
    VanillaDecoderConfig,
    VanillaDecoderForSequenceClassification,
    VanillaEncoderConfig,
    VanillaEncoderForSequenceClassification,
)

HEAD = ("classifier", "pre_classifier", "classification_head", "score", "pooler")
"""Names of the modules on top of the layers of a classifier: the classification head and the pooler."""


class Family(NamedTuple):
    """Configuration class, model class and tokenizer trainer of a model family."""

    config: type[VanillaConfig]
    model: type[PreTrainedModel]
    train_tokenizer: Callable[[list[str], "TokenizerConfig"], PreTrainedTokenizerFast]


FAMILIES = {
    "encoder": Family(
        VanillaEncoderConfig,
        VanillaEncoderForSequenceClassification,
        lambda texts, settings: train_encoder_tokenizer(
            texts, settings.vocab_size, settings.max_length, settings.lowercase, settings.strip_accents
        ),
    ),
    "decoder": Family(
        VanillaDecoderConfig,
        VanillaDecoderForSequenceClassification,
        lambda texts, settings: train_decoder_tokenizer(texts, settings.vocab_size, settings.max_length),
    ),
}


@dataclass(frozen=True)
class TokenizerConfig:
    """The tokenizer, trained on the training rows: WordPiece for an encoder, byte-level BPE for a decoder.

    Attributes:
        vocab_size: maximum number of tokens of the vocabulary.
        max_length: number of tokens to which a row is truncated, special tokens included.
        lowercase: lowercase texts. Only WordPiece does so.
        strip_accents: remove combining marks, which are accents in Latin scripts, but vowels and tones in others. Only
            WordPiece does so.
    """

    vocab_size: int = 8000
    max_length: int = 256
    lowercase: bool = False
    strip_accents: bool = False

    def problems(self) -> Iterator[Problem]:
        if self.max_length < 5:
            yield "max_length", "must be 5 or greater: a text pair has three special tokens"


@dataclass(frozen=True)
class ClassificationEvaluationConfig(EvaluationConfig):
    """How the validation rows are scored during training; `metric` decides which model is the best."""

    metric: Literal["accuracy", "f1", "matthews", "loss"] = "accuracy"


@dataclass(frozen=True)
class ClassificationExperiment(Experiment):
    """The complete configuration of a classification run; `model.family` is encoder or decoder."""

    recipe: str = "classification"
    data: LabelledDataConfig = field(default_factory=LabelledDataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    evaluation: ClassificationEvaluationConfig = field(default_factory=ClassificationEvaluationConfig)

    @classmethod
    def model_keys(cls) -> dict[str, Any]:
        return (
            super().model_keys()
            | {"family": Literal["encoder", "decoder"]}
            | model_fields(VanillaEncoderConfig, unused=("use_cache",))
        )

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.data.pair_field is not None and self.model.get("family") == "decoder":
            yield "data.pair_field", "must be null with model.family=decoder, whose tokenizer does not join text pairs"
        for name in ("lowercase", "strip_accents"):
            if getattr(self.tokenizer, name) and self.model.get("family") == "decoder":
                yield f"tokenizer.{name}", "must be false with model.family=decoder, whose tokenizer keeps every byte"
        if self.batch.packing:
            yield "batch.packing", "must be false: a classifier pools one vector a line, so a line cannot pack rows"

    @property
    def family(self) -> Family:
        """The model family that is trained."""
        return FAMILIES[self.model.get("family", "encoder")]

    @property
    def model_settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().model_settings.items() if name != "family"}


@dataclass(frozen=True)
class Corpus:
    """Rows with their token ids and class numbers, in the order of the data."""

    tokens: list[Tokens]
    labels: list[int]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each row, shape (rows,)."""
        return np.array([len(row.input_ids) for row in self.tokens], dtype=np.int64)

    @property
    def rows(self) -> EncodedRows:
        """The rows as the argument of `fingerprint_rows`; the label of a row follows its tokens."""
        ids = ([*row.input_ids, label] for row, label in zip(self.tokens, self.labels, strict=True))
        return self.lengths + 1, ids

    def batch(self, rows: Rows, pad_token_id: int) -> Batch:
        """Makes a padded batch of rows, without augmentation."""
        return collate([self.tokens[row] for row in rows], [self.labels[row] for row in rows], pad_token_id)


def setup(experiment: ClassificationExperiment) -> Task:
    """Reads the rows, makes or loads tokenizer and model, and returns the task for the engine."""
    data, seed = experiment.data, experiment.seed
    rows = labelled_rows(data, "train", seed)
    classes = classes_of(data, rows)
    validation_rows = labelled_rows(data, "validation", seed)[: experiment.evaluation.max_rows]
    test_rows = None if data.test_split is None else labelled_rows(data, "test", seed)
    torch.manual_seed(seed)
    model, tokenizer = _model_and_tokenizer(experiment, rows, classes)

    def encoded(rows: list[LabelledRow], with_words: bool = False) -> Corpus:
        tokens = encode_rows(rows, tokenizer, experiment.tokenizer.max_length, with_words)
        return Corpus(tokens, classes.numbers(rows))

    corpus = encoded(rows, with_words=experiment.augmentation.is_on)
    validation = encoded(validation_rows)
    pad_token_id = tokenizer.pad_token_id
    lengths, make_batch = _training_rows(corpus, tokenizer, experiment)
    return Task(
        model=model,
        lengths=lengths,
        make_batch=make_batch,
        fingerprint=_fingerprint(corpus, validation, tokenizer, classes),
        validation=_examples(validation, pad_token_id, len(classes.names)),
        metric=experiment.evaluation.metric,
        greater_is_better=experiment.evaluation.metric != "loss",
        save_model=model_saver(tokenizer),
        test=_examples(encoded(test_rows), pad_token_id, len(classes.names)) if test_rows else None,
        head=HEAD,
    )


def _fingerprint(corpus: Corpus, validation: Corpus, tokenizer: PreTrainedTokenizerFast, classes: Classes) -> str:
    """Returns the fingerprint of rows, class names and vocabulary, with which a resumed run checks its data."""
    marks = {f"label {number}: {name}": number for number, name in enumerate(classes.names)}
    return fingerprint_rows(tokenizer.get_vocab() | marks, corpus.rows, validation.rows)


def _training_rows(
    corpus: Corpus, tokenizer: PreTrainedTokenizerFast, experiment: ClassificationExperiment
) -> tuple[Lengths, Callable[[Rows, int], Batch]]:
    """Returns lengths and a batch function of the training rows, augmented if augmentation is on."""
    settings, pad_token_id = experiment.augmentation, tokenizer.pad_token_id
    if not settings.is_on:
        return corpus.lengths, lambda rows, epoch: corpus.batch(rows, pad_token_id)
    augmented = AugmentedRows(
        corpus.tokens, Augmenter(settings, tokenizer, experiment.tokenizer.max_length), experiment.seed
    )

    def make_batch(rows: Rows, epoch: int) -> Batch:
        tokens = [augmented.row(row, epoch) for row in rows.tolist()]
        return collate(tokens, [corpus.labels[row] for row in rows], pad_token_id)

    return augmented.lengths if settings.changes_lengths else corpus.lengths, make_batch


def _examples(corpus: Corpus, pad_token_id: int, num_classes: int) -> Examples:
    """Returns rows that are scored by loss and by the predicted classes."""

    def predict(model: PreTrainedModel, rows: Rows) -> list[tuple[RowLoss, int]]:
        batch = {name: tensor.to(model.device) for name, tensor in corpus.batch(rows, pad_token_id).items()}
        labels = batch.pop("labels")
        logits = logits_of(model, batch)
        losses = row_losses(logits[:, None], labels[:, None])
        return list(zip(losses, logits.argmax(-1).tolist(), strict=True))

    def score(records: list[tuple[RowLoss, int]]) -> Scores:
        from vanilla_recipes.scoring.classification import classification_scores

        losses, predictions = zip(*records, strict=True)
        return {"loss": mean_loss(losses), **classification_scores(list(predictions), corpus.labels, num_classes)}

    return Examples(corpus.lengths, predict, score)


def _model_and_tokenizer(
    experiment: ClassificationExperiment, rows: list[LabelledRow], classes: Classes
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    head = {
        "id2label": dict(enumerate(classes.names)),
        "label2id": {name: number for number, name in enumerate(classes.names)},
        "problem_type": "single_label_classification",
    }
    if experiment.pretrained:
        model, tokenizer = load_pretrained(
            experiment.family.model, experiment.pretrained, experiment.model_settings, head
        )
    else:
        model, tokenizer = _build_new(experiment, rows, head)
    limits = {"tokenizer.max_length": experiment.tokenizer.max_length}
    check_positions(model.config, limits, is_saved=bool(experiment.pretrained))
    if tokenizer.pad_token_id is None or model.config.pad_token_id is None:
        raise UserError(
            f"model.pretrained={experiment.pretrained}: the tokenizer has no padding token; save it with one"
        )
    return model, tokenizer


def _build_new(
    experiment: ClassificationExperiment, rows: list[LabelledRow], head: dict[str, Any]
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    family, limits = experiment.family, experiment.tokenizer
    texts = [text for row in rows for text in (row.text, row.pair) if text is not None]
    tokenizer = family.train_tokenizer(texts, limits)
    config = new_config(family.config, tokenizer, **head, **experiment.model_settings)
    return family.model(config), tokenizer


def main(argv: Sequence[str]) -> int:
    """Trains and evaluates a model. The arguments are a configuration, then `key=value` overrides."""
    return train(ClassificationExperiment, setup, argv)


if __name__ == "__main__":
    sys.exit(program(main, __file__))
