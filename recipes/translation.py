"""Trains an encoder-decoder to translate.

    vanilla train translation/toy
    vanilla train translation/multi30k data.path=FOLDER output_dir=runs/multi30k
    accelerate launch recipes/translation.py configs/translation/multi30k.yaml optimizer.learning_rate=1e-3

The run folder then holds `best/` and `final/`, which `AutoModelForSeq2SeqLM.from_pretrained` loads, the scores of the
test rows in `results.json`, and the course of the training in `metrics.jsonl`.
"""

import dataclasses
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from vanilla_transformers import VanillaSeq2SeqConfig, VanillaSeq2SeqForConditionalGeneration
from vanilla_transformers.recipes.data.rows import Pair, TranslationDataConfig, translation_pairs
from vanilla_transformers.recipes.engine.config_files import load_experiment
from vanilla_transformers.recipes.engine.experiment import EvaluationConfig, Experiment, Problem
from vanilla_transformers.recipes.engine.folders import write_text
from vanilla_transformers.recipes.engine.plan import length_sorted_batches
from vanilla_transformers.recipes.errors import UserError
from vanilla_transformers.recipes.scoring.decoding import translate

if TYPE_CHECKING:  # these take seconds to import, and translating needs neither
    from accelerate import Accelerator

    from vanilla_transformers.recipes.engine.checkpoints import RunFolder
    from vanilla_transformers.recipes.engine.task import Task

logger = logging.getLogger(__name__)

# The tokenizer decides these; `model:` does not take them.
_FROM_TOKENIZER = ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
# Only these fields of the config can change when training goes on from a saved model.
_CHANGEABLE = ("hidden_dropout_prob", "attention_probs_dropout_prob", "label_smoothing")


@dataclass(frozen=True)
class TokenizerConfig:
    """The vocabulary shared by both languages, trained on the training rows.

    Attributes:
        vocab_size: tokens at most.
        max_source_length: tokens to which a source is cut, end token included.
        max_target_length: tokens to which a target is cut, end token included.
    """

    vocab_size: int = 8000
    max_source_length: int = 256
    max_target_length: int = 256

    def problems(self) -> Iterator[Problem]:
        for name in ("max_source_length", "max_target_length"):
            if getattr(self, name) < 2:
                yield name, "must be 2 or greater: the end token takes one"


@dataclass(frozen=True)
class GenerationSettings:
    """How translations are searched; saved with the model as its generation config."""

    num_beams: int = 4
    length_penalty: float = 1.0
    early_stopping: bool = True

    def problems(self) -> Iterator[Problem]:
        if self.num_beams < 1:
            yield "num_beams", "must be 1 or greater"


@dataclass(frozen=True)
class TranslationEvaluationConfig(EvaluationConfig):
    """How the validation rows are scored while the model trains.

    Attributes:
        metric: what decides which model is best.
        num_beams: beams of these translations; the test rows at the end get `generation.num_beams`.
    """

    metric: Literal["bleu", "loss"] = "bleu"
    num_beams: int = 1

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.num_beams < 1:
            yield "num_beams", "must be 1 or greater"


@dataclass(frozen=True)
class TranslationExperiment(Experiment):
    """Everything that decides a translation run."""

    recipe: str = "translation"
    data: TranslationDataConfig = field(default_factory=TranslationDataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    evaluation: TranslationEvaluationConfig = field(default_factory=TranslationEvaluationConfig)
    generation: GenerationSettings = field(default_factory=GenerationSettings)

    @classmethod
    def model_keys(cls) -> dict[str, Any]:
        fields = {f.name: f.type for f in dataclasses.fields(VanillaSeq2SeqConfig) if f.name not in _FROM_TOKENIZER}
        return super().model_keys() | fields


@dataclass(frozen=True)
class Corpus:
    """Rows with their token ids, in the order of the data."""

    pairs: list[Pair]
    features: list[Any]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of source and target, shape (rows, 2)."""
        return np.array([(len(row["input_ids"]), len(row["labels"])) for row in self.features], dtype=np.int64)


@dataclass(frozen=True)
class Setup:
    """What the training starts from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    train: Corpus
    validation: Corpus


def main(argv: Sequence[str]) -> int:
    """Trains and scores what the arguments describe: a configuration, then `key=value` overrides.

    Returns:
        0, also where a signal stopped the run and its state is saved.

    Raises:
        UserError: anything wrong with the configuration, the data, the run folder or the disk.
    """
    experiment = load_experiment(TranslationExperiment, argv[0], argv[1:])

    from vanilla_transformers.recipes.engine.checkpoints import RunFolder
    from vanilla_transformers.recipes.engine.launch import build_accelerator
    from vanilla_transformers.recipes.engine.loop import fit

    run_folder = RunFolder(experiment)
    accelerator = build_accelerator(experiment)
    with _no_library_bars():
        parts = setup(experiment)
        result = fit(build_task(experiment, parts, accelerator), experiment, run_folder, accelerator)
        if result.stopped_by is None:
            score_best(experiment, parts, run_folder, accelerator)
    accelerator.end_training()
    return 0


def setup(experiment: TranslationExperiment) -> Setup:
    """Rows, tokenizer and model."""
    train = translation_pairs(experiment.data, "train", experiment.seed)
    validation = translation_pairs(experiment.data, "validation", experiment.seed)[: experiment.evaluation.max_rows]
    torch.manual_seed(experiment.seed)
    model, tokenizer = _load_pretrained(experiment) if experiment.pretrained else _build_new(experiment, train)
    model.generation_config = _generation_config(experiment, model)
    return Setup(model, tokenizer, _encode(train, tokenizer, experiment), _encode(validation, tokenizer, experiment))


def build_task(experiment: TranslationExperiment, parts: Setup, accelerator: "Accelerator") -> "Task":
    """What the training loop needs to know about translation."""
    from vanilla_transformers.recipes.data.collators import TranslationCollator
    from vanilla_transformers.recipes.data.tokenizers import save_tokenizer
    from vanilla_transformers.recipes.engine.task import Task

    def save_model(model: PreTrainedModel, folder: Path) -> None:
        model.save_pretrained(folder)
        save_tokenizer(parts.tokenizer, folder)

    return Task(
        model=parts.model,
        rows=parts.train.features,
        lengths=parts.train.lengths,
        collate=TranslationCollator(parts.tokenizer.pad_token_id),
        evaluate=lambda model: validate(
            model, parts.tokenizer, parts.validation, experiment, accelerator, experiment.evaluation.num_beams
        ),
        score=experiment.evaluation.metric,
        greater_is_better=experiment.evaluation.metric == "bleu",
        save_model=save_model,
    )


def validate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    corpus: Corpus,
    experiment: TranslationExperiment,
    accelerator: "Accelerator",
    num_beams: int,
) -> dict[str, Any]:
    """Loss a target token and SacreBLEU of the rows, each counted once, on any number of processes."""
    from vanilla_transformers.recipes.scoring.bleu import Bleu

    batches = length_sorted_batches(corpus.lengths, experiment.evaluation.batch_tokens)
    batches = batches[accelerator.process_index :: accelerator.num_processes]
    losses = _gather([_summed_loss(model, tokenizer, corpus, rows) for rows in batches], accelerator)
    own = [int(row) for rows in batches for row in rows]
    translations = translate(model, tokenizer, [corpus.pairs[row].source for row in own], num_beams)
    by_row = dict(_gather(list(zip(own, translations, strict=True)), accelerator))
    bleu = Bleu().compute(
        predictions=[by_row[row] for row in range(len(corpus.pairs))],
        references=[pair.target for pair in corpus.pairs],
    )
    return {"loss": sum(loss for loss, _ in losses) / sum(count for _, count in losses), **bleu}


def score_best(
    experiment: TranslationExperiment, parts: Setup, run_folder: "RunFolder", accelerator: "Accelerator"
) -> None:
    """Scores the best model on the test rows and writes `results.json`."""
    if experiment.data.test_split is None:
        return
    test = _encode(translation_pairs(experiment.data, "test", experiment.seed), parts.tokenizer, experiment)
    folder = run_folder.path / "best"
    model = VanillaSeq2SeqForConditionalGeneration.from_pretrained(folder).eval()
    model.to(accelerator.device)
    scores = validate(model, parts.tokenizer, test, experiment, accelerator, experiment.generation.num_beams)
    if accelerator.is_main_process:
        results = {
            "model": "best",
            "test": {"rows": len(test.pairs), **scores},
            "generation": dataclasses.asdict(experiment.generation),
        }
        write_text(run_folder.path / "results.json", json.dumps(results, indent=2) + "\n")
        print(f"test: BLEU {scores['bleu']:.2f} ({scores['signature']}), loss {scores['loss']:.3f}, model in {folder}")


@torch.inference_mode()
def _summed_loss(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, corpus: Corpus, rows: Sequence[int]
) -> tuple[float, int]:
    """Loss summed over the targets of some rows, and the number of these."""
    from vanilla_transformers.recipes.data.collators import TranslationCollator
    from vanilla_transformers.recipes.engine.task import count_labels

    batch = TranslationCollator(tokenizer.pad_token_id)([corpus.features[row] for row in rows])
    inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
    return float(model(**inputs, num_items_in_batch=1).loss), count_labels(batch)


@contextmanager
def _no_library_bars() -> Iterator[None]:
    """Keeps transformers' own progress bars, of saving and loading, out of the run's."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _gather(items: list[Any], accelerator: "Accelerator") -> list[Any]:
    """The items of all processes."""
    if accelerator.num_processes == 1:
        return items
    from accelerate.utils import gather_object

    return gather_object(items)


def _encode(pairs: list[Pair], tokenizer: PreTrainedTokenizerFast, experiment: TranslationExperiment) -> Corpus:
    from vanilla_transformers.recipes.data.collators import encode_pairs

    limits = experiment.tokenizer
    return Corpus(pairs, encode_pairs(pairs, tokenizer, limits.max_source_length, limits.max_target_length))


def _build_new(experiment: TranslationExperiment, pairs: list[Pair]) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    from vanilla_transformers.recipes.data.tokenizers import train_translation_tokenizer

    limits = experiment.tokenizer
    texts = [text for pair in pairs for text in pair]
    tokenizer = train_translation_tokenizer(texts, limits.vocab_size, limits.max_source_length)
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    try:
        config = VanillaSeq2SeqConfig(
            vocab_size=len(tokenizer), decoder_start_token_id=tokenizer.bos_token_id, **ids, **experiment.model_settings
        )
    except StrictDataclassError as error:
        raise UserError(f"model: {error.__cause__ or error}") from error
    return VanillaSeq2SeqForConditionalGeneration(config), tokenizer


def _load_pretrained(experiment: TranslationExperiment) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    from transformers import AutoConfig, AutoTokenizer

    source = str(experiment.pretrained)
    try:
        config = AutoConfig.from_pretrained(source)
        if config.model_type != VanillaSeq2SeqConfig.model_type:
            raise UserError(f"model.pretrained={source}: is a {config.model_type} model; give a vanilla_seq2seq model")
        _apply_settings(config, experiment.model_settings)
        tokenizer: Any = AutoTokenizer.from_pretrained(source)
        model = VanillaSeq2SeqForConditionalGeneration.from_pretrained(source, config=config, dtype=torch.float32)
    except (OSError, ValueError, StrictDataclassError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"model.pretrained={source}: cannot be loaded: {str(error).splitlines()[0]}") from error
    return model, tokenizer


def _apply_settings(config: VanillaSeq2SeqConfig, settings: dict[str, Any]) -> None:
    """Changes what can change in a saved model and says what cannot."""
    for name, value in settings.items():
        if name in _CHANGEABLE:
            setattr(config, name, value)
        elif getattr(config, name) != value:
            logger.warning("model.%s=%s is ignored: the saved model has %s", name, value, getattr(config, name))


def _generation_config(experiment: TranslationExperiment, model: PreTrainedModel) -> GenerationConfig:
    config = model.config
    return GenerationConfig(
        **dataclasses.asdict(experiment.generation),
        max_length=experiment.tokenizer.max_target_length,
        decoder_start_token_id=config.decoder_start_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        bad_words_ids=[[config.pad_token_id]],
    )


if __name__ == "__main__":
    from vanilla_transformers.recipes.engine.launch import run

    sys.exit(run(main, usage="usage: python -m vanilla_transformers.recipes.translation CONFIG [key=value ...]"))
