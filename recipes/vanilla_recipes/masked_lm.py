"""Pretrains an encoder like BERT, by masked language modelling on texts.

    vanilla train masked_lm/toy
    vanilla train masked_lm/novels data.path=FOLDER output_dir=runs/novels
    vanilla train masked_lm/wikipedia masking.probability=0.3
    accelerate launch recipes/masked_lm.py configs/masked_lm/novels.yaml masking.whole_word=true

The run folder then contains the models `best/` and `final/`, which `AutoModelForMaskedLM.from_pretrained` and
`pipeline("fill-mask")` load. A classifier can start from them:

    vanilla train classification/sst2 model.pretrained=runs/masked_lm-novels/best

Measured runs: `docs/figures.md`.
"""

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from vanilla_recipes.data.masking import MaskedRow, Masker, MaskingConfig, collate_masked, pack_masked
from vanilla_recipes.data.records import Split
from vanilla_recipes.data.streams import by_segment, open_stream
from vanilla_recipes.data.text import TextDataConfig, text_problems, texts
from vanilla_recipes.data.token_rows import TokenRows, encode_texts
from vanilla_recipes.data.tokenizers import model_saver, saved_tokenizer, train_encoder_tokenizer
from vanilla_recipes.engine.forward import logits_of
from vanilla_recipes.engine.plan import Rows
from vanilla_recipes.engine.run import train
from vanilla_recipes.engine.task import Batch, Examples, Task, fingerprint_rows
from vanilla_recipes.errors import UserError
from vanilla_recipes.models.new_model import model_fields, new_config
from vanilla_recipes.models.positions import check_positions
from vanilla_recipes.models.pretrained import load_pretrained
from vanilla_recipes.processes.launch import program
from vanilla_recipes.scoring.masked_tokens import MaskedScore, masked_scores, score_rows
from vanilla_recipes.settings.experiment import EvaluationConfig, Experiment, Problem
from vanilla_transformers import VanillaEncoderConfig, VanillaEncoderForMaskedLM

# Seeds of the masks of validation and test rows, the same in every run and epoch, so that scores can be compared.
_VALIDATION_NOISE = (0, 0)


@dataclass(frozen=True)
class MaskedLMDataConfig(TextDataConfig):
    """The source of the texts; `block_size` counts `[CLS]` and `[SEP]`."""

    block_size: int = 128

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.block_size == 2:
            yield "block_size", "must be 3 or greater: [CLS] and [SEP] take two tokens"


@dataclass(frozen=True)
class TokenizerConfig:
    """The WordPiece tokenizer, trained on the training texts.

    Attributes:
        vocab_size: maximum number of tokens of the vocabulary.
        lowercase: lowercase texts.
        strip_accents: remove combining marks, which are accents in Latin scripts, but vowels and tones in others.
        num_texts: number of texts, from the first, that the tokenizer is trained on; they must fit into memory. Null
            for all texts or, with `data.streaming`, the first segment.
        name: folder or Hub repository of a saved tokenizer, which is used instead of training one.
    """

    vocab_size: int = 8000
    lowercase: bool = False
    strip_accents: bool = False
    num_texts: int | None = None
    name: str | None = None

    def problems(self) -> Iterator[Problem]:
        if self.num_texts is not None and self.num_texts < 1:
            yield "num_texts", "must be 1 or greater, or null for all texts"


@dataclass(frozen=True)
class MaskedLMEvaluationConfig(EvaluationConfig):
    """How the validation rows are scored during training; `metric` decides which model is the best."""

    metric: Literal["loss", "accuracy"] = "loss"


@dataclass(frozen=True)
class MaskedLMExperiment(Experiment):
    """The complete configuration of a pretraining run."""

    recipe: str = "masked_lm"
    data: MaskedLMDataConfig = field(default_factory=MaskedLMDataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    evaluation: MaskedLMEvaluationConfig = field(default_factory=MaskedLMEvaluationConfig)

    @classmethod
    def model_keys(cls) -> dict[str, Any]:
        return super().model_keys() | model_fields(VanillaEncoderConfig, unused=("use_cache",))

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from text_problems(self)


def setup(experiment: MaskedLMExperiment) -> Task:
    """Reads the rows, makes or loads tokenizer and model, and returns the task for the engine."""
    torch.manual_seed(experiment.seed)
    model, tokenizer = _model_and_tokenizer(experiment)
    _check_special_tokens(tokenizer)
    limits = {"data.block_size": experiment.data.block_size}
    check_positions(model.config, limits, is_saved=bool(experiment.pretrained))
    masker = Masker(tokenizer, experiment.masking)

    def encode(found: Iterable[str]) -> TokenRows:
        return encode_texts(found, tokenizer, experiment.data)

    def rows_of(split: Split) -> TokenRows:
        return encode(texts(experiment.data, split, experiment.seed))

    def masked(corpus: TokenRows, rows: Rows, noise: tuple[int, int]) -> list[MaskedRow]:
        return [masker(corpus[row], np.random.default_rng([*noise, row])) for row in rows.tolist()]

    def make_batch(rows: Rows, epoch: int) -> Batch:
        hidden = masked(corpora(epoch), rows, (experiment.seed, epoch))
        if experiment.batch.packing:
            return pack_masked(hidden, tokenizer.pad_token_id, experiment.batch.pack_length)
        return collate_masked(hidden, tokenizer.pad_token_id)

    def examples(corpus: TokenRows) -> Examples:
        def predict(model: PreTrainedModel, rows: Rows) -> list[MaskedScore]:
            return _predict(model, collate_masked(masked(corpus, rows, _VALIDATION_NOISE), tokenizer.pad_token_id))

        return Examples(corpus.lengths, predict, masked_scores)

    stream = open_stream(experiment.data, lambda: texts(experiment.data, "train", experiment.seed))
    corpus = rows_of("train") if stream is None else encode(stream.segment(0))
    corpora = by_segment(stream, corpus, encode)
    validation = rows_of("validation").first(experiment.evaluation.max_rows)
    return Task(
        model=model,
        lengths=corpus.lengths if stream is None else lambda segment: corpora(segment).lengths,
        make_batch=make_batch,
        fingerprint=fingerprint_rows(tokenizer.get_vocab(), (corpus.lengths, corpus), (validation.lengths, validation)),
        validation=examples(validation),
        metric=experiment.evaluation.metric,
        greater_is_better=experiment.evaluation.metric != "loss",
        save_model=model_saver(tokenizer),
        test=examples(rows_of("test")) if experiment.data.test_split else None,
        settings={"masking": dataclasses.asdict(experiment.masking)},
    )


def _predict(model: PreTrainedModel, batch: Batch) -> list[MaskedScore]:
    """Returns the score of each row of a masked batch."""
    batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
    labels = batch.pop("labels")
    num_rows, width = batch["input_ids"].shape
    return score_rows(logits_of(model, batch), labels, batch["masked_positions"] // width, num_rows)


def _model_and_tokenizer(
    experiment: MaskedLMExperiment,
) -> tuple[VanillaEncoderForMaskedLM, PreTrainedTokenizerFast]:
    if experiment.pretrained:
        return load_pretrained(VanillaEncoderForMaskedLM, experiment.pretrained, experiment.model_settings)
    tokenizer = _tokenizer(experiment)
    return VanillaEncoderForMaskedLM(
        new_config(VanillaEncoderConfig, tokenizer, **experiment.model_settings)
    ), tokenizer


def _tokenizer(experiment: MaskedLMExperiment) -> PreTrainedTokenizerFast:
    settings = experiment.tokenizer
    if settings.name:
        return saved_tokenizer(settings.name)
    training_texts = islice(
        texts(experiment.data, "train", experiment.seed), settings.num_texts or experiment.data.rows_at_once
    )
    return train_encoder_tokenizer(
        training_texts,
        settings.vocab_size,
        experiment.data.block_size,
        settings.lowercase,
        settings.strip_accents,
    )


def _check_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    """Refuses a saved tokenizer without the special tokens of an encoder."""
    names = ("pad_token", "cls_token", "sep_token", "mask_token")
    lacking = [name for name in names if getattr(tokenizer, f"{name}_id") is None]
    if lacking:
        raise UserError(
            f"the saved tokenizer has no {' and no '.join(lacking)}, which masked language modelling needs; give the"
            " tokenizer of an encoder such as BERT"
        )


def main(argv: Sequence[str]) -> int:
    """Trains and evaluates a model. The arguments are a configuration, then `key=value` overrides."""
    return train(MaskedLMExperiment, setup, argv)


if __name__ == "__main__":
    sys.exit(program(main, __file__))
