"""Translates sentences with beam search, for evaluation and for `vanilla translate`."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from vanilla_recipes.data.readers import is_unicode
from vanilla_recipes.errors import UserError, one_line
from vanilla_recipes.models.stock import is_stock
from vanilla_recipes.settings.experiment import Problem
from vanilla_transformers.text.pipelines import Text2TextPipeline


@dataclass(frozen=True)
class BeamSearchConfig:
    """Settings of the beam search; saved with the model as its generation config.

    Attributes:
        num_beams: number of beams; 1 for greedy search.
        length_penalty: exponent of the length by which the score of a beam is divided.
        early_stopping: whether the search ends when `num_beams` complete translations are found.
    """

    num_beams: int = 4
    length_penalty: float = 1.0
    early_stopping: bool = True

    def problems(self) -> Iterator[Problem]:
        if self.num_beams < 1:
            yield "num_beams", "must be 1 or greater"
        if not -100 <= self.length_penalty <= 100:
            yield "length_penalty", "must be between -100 and 100: it is the exponent of the length"


def generation_config(search: BeamSearchConfig, model: PreTrainedModel, max_length: int) -> GenerationConfig:
    """Returns the generation config that is saved with the model.

    Args:
        search: settings of the beam search.
        model: the model, whose special token ids are used. The other saved generation settings
            of transformers' own models are kept.
        max_length: maximum number of tokens of a translation.
    """
    beam_settings = {"length_penalty": search.length_penalty, "early_stopping": search.early_stopping}
    settings: dict[str, Any] = {
        "num_beams": search.num_beams,
        **dict.fromkeys(beam_settings),
        **(beam_settings if search.num_beams > 1 else {}),  # transformers does not save beam settings for one beam
        "max_length": max_length,
    }
    config = model.config
    if is_stock(model):
        saved = copy.deepcopy(model.generation_config)
        saved.update(**settings, do_sample=False, max_new_tokens=None)
        return saved
    ids = {name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    start = config.decoder_start_token_id
    return GenerationConfig(**settings, **ids, decoder_start_token_id=start, bad_words_ids=[[config.pad_token_id]])


def translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    num_beams: int | None = None,
    batch_tokens: int | None = None,
) -> list[str]:
    """Translates sentences, in their order; the translation of a blank sentence is blank.

    Args:
        model: an encoder-decoder, which is set to evaluation mode. Its generation config has the search settings that
            are not arguments here.
        tokenizer: its tokenizer.
        sentences: texts of one or more sentences. A text that is too long for the model is split at sentence ends.
        num_beams: number of beams, 1 for greedy search; None for the value in the generation config.
        batch_tokens: number of padded source tokens of a batch; None for the default of the device.

    Raises:
        UserError: If a text is not valid Unicode, or the generation settings of the model do not work.
    """
    translator = Text2TextPipeline(
        "translation", model, tokenizer, progress=False, batch_tokens=batch_tokens, **beams(num_beams)
    )
    return [record["translation_text"] for record in answers(translator, sentences)]


def beams(num_beams: int | None) -> dict[str, Any]:
    """Returns the settings of `generate` for a number of beams; for None no settings: the generation config decides."""
    return {} if num_beams is None else {"num_beams": num_beams, "early_stopping": num_beams > 1}


def answers(pipeline: Text2TextPipeline, texts: Iterable[str], **options: Any) -> Iterator[Any]:
    """Yields the pipeline's answer to each text, in order.

    Args:
        pipeline: the pipeline, which reads several texts ahead to batch them.
        texts: the texts.
        options: options of the pipeline call.

    Raises:
        UserError: If a text is not valid Unicode, an option does not suit the model, or the generation settings of the
            model do not work.
    """
    texts = (checked(number, text) for number, text in enumerate(texts, start=1))
    try:
        records = pipeline(texts, **options)
    except ValueError as error:
        raise UserError(f"{name_of(pipeline.model)}: {error}") from error
    with model_faults(pipeline.model, "translate" if pipeline.task == "translation" else "generate"):
        yield from records


def checked(number: int, text: str) -> str:
    """Returns the text unchanged, after checking it.

    Args:
        number: number of the text, from 1, for the message.
        text: the text to check.

    Raises:
        UserError: If the text is not valid Unicode: it has lone surrogates, which stand for bytes that are not UTF-8.
    """
    if not is_unicode(text):
        raise UserError(f"sentence {number}, {text!r}: it is not UTF-8; convert it first, for instance with iconv")
    return text


def name_of(model: PreTrainedModel) -> str:
    """Returns the folder or Hub name that a model was loaded from, or the name of its class."""
    return model.name_or_path or type(model).__name__


@contextmanager
def model_faults(
    model: PreTrainedModel, deed: str, cause: str = "the settings in its generation_config.json may be wrong"
) -> Iterator[None]:
    """Turns exceptions of a model into a `UserError` of one line that names the model.

    Args:
        model: the model that is used in the block.
        deed: verb for the task of the model, such as "translate".
        cause: the likely cause, which ends the message.
    """
    try:
        yield
    except UserError:
        raise
    except torch.OutOfMemoryError as error:
        raise UserError(f"out of memory: {one_line(str(error))}; lower the batch tokens or the beams") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{name_of(model)}: the model cannot {deed}: {one_line(str(error))}; {cause}") from error
