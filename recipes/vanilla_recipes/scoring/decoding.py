"""Translates sentences with beam search, as validation does and the command."""

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
    """How translations are searched; saved with the model as its generation config."""

    num_beams: int = 4
    length_penalty: float = 1.0
    early_stopping: bool = True

    def problems(self) -> Iterator[Problem]:
        if self.num_beams < 1:
            yield "num_beams", "must be 1 or greater"
        if not -100 <= self.length_penalty <= 100:
            yield "length_penalty", "must be between -100 and 100: lengths are raised to its power"


def generation_config(search: BeamSearchConfig, model: PreTrainedModel, max_length: int) -> GenerationConfig:
    """The settings as the model is saved with them.

    Args:
        search: how translations are searched.
        model: the ids of its special tokens are taken over; a stock model keeps what else it was saved with.
        max_length: tokens of a translation at most.
    """
    beam_settings = {"length_penalty": search.length_penalty, "early_stopping": search.early_stopping}
    settings: dict[str, Any] = {
        "num_beams": search.num_beams,
        **dict.fromkeys(beam_settings),
        **(beam_settings if search.num_beams > 1 else {}),  # greedy search refuses them
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
    """Translations of the sentences, in their order; a blank sentence stays blank.

    Args:
        model: an encoder-decoder; its generation config decides what is not given here. It is put into evaluation mode.
        tokenizer: its tokenizer.
        sentences: one a row; one that is too long for the model is split where a sentence ends in it.
        num_beams: 1 for greedy search; None for what the generation config says.
        batch_tokens: padded source tokens translated at once; None for what suits the device.

    Raises:
        UserError: a sentence is no Unicode text, or the generation settings of the model do not work.
    """
    translator = Text2TextPipeline(
        "translation", model, tokenizer, progress=False, batch_tokens=batch_tokens, **beams(num_beams)
    )
    return [record["translation_text"] for record in answers(translator, sentences)]


def beams(num_beams: int | None) -> dict[str, Any]:
    """Settings of `generate` for so many beams; none for what the generation config of the model says."""
    return {} if num_beams is None else {"num_beams": num_beams, "early_stopping": num_beams > 1}


def answers(pipeline: Text2TextPipeline, texts: Iterable[str], **options: Any) -> Iterator[Any]:
    """What the pipeline answers to each text, in their order.

    Args:
        pipeline: it reads some texts ahead.
        texts: text by text.
        options: for the pipeline.

    Raises:
        UserError: a text is no Unicode text, an option does not suit the model, or its generation settings do not work.
    """
    texts = (checked(number, text) for number, text in enumerate(texts, start=1))
    try:
        records = pipeline(texts, **options)
    except ValueError as error:
        raise UserError(f"{name_of(pipeline.model)}: {error}") from error
    with model_faults(pipeline.model, "translate" if pipeline.task == "translation" else "generate"):
        yield from records


def checked(number: int, text: str) -> str:
    """The text, which must be one."""
    if not is_unicode(text):
        raise UserError(f"sentence {number}, {text!r}: it is not UTF-8; convert it first, for instance with iconv")
    return text


def name_of(model: PreTrainedModel) -> str:
    """Where a model was loaded from, or else what it is."""
    return model.name_or_path or type(model).__name__


@contextmanager
def model_faults(
    model: PreTrainedModel, deed: str, cause: str = "the settings in its generation_config.json may be at fault"
) -> Iterator[None]:
    """Whatever a model stumbles over becomes one line that names it.

    Args:
        model: what is used inside.
        deed: what it is asked to do, such as "translate".
        cause: what may be at fault.
    """
    try:
        yield
    except UserError:
        raise
    except torch.OutOfMemoryError as error:
        raise UserError(f"out of memory: {one_line(str(error))}; lower the batch tokens or the beams") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{name_of(model)}: the model cannot {deed}: {one_line(str(error))}; {cause}") from error
