"""Translates lines for `vanilla translate`."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vanilla_recipes.cli.models import load_for
from vanilla_recipes.errors import UserError
from vanilla_recipes.scoring.decoding import answers, beams
from vanilla_transformers.text.pipelines import Text2TextPipeline

if TYPE_CHECKING:
    from vanilla_recipes.cli.inference import Answer, Fields


def load(arguments: argparse.Namespace) -> "Answer":
    """Loads the model; returns the function that translates lines."""
    is_int8 = arguments.dtype == "int8"
    model, tokenizer = load_for("translate", arguments.model, arguments.device, None if is_int8 else arguments.dtype)
    if is_int8:
        model = in_int8(model, tokenizer)
    pipeline = Text2TextPipeline(
        "translation",
        model,
        tokenizer,
        batch_tokens=arguments.batch_tokens,
        return_scores=arguments.scores,
        src_lang=arguments.src_lang,
        tgt_lang=arguments.tgt_lang,
        **beams(arguments.num_beams),
    )

    def translate(lines: Iterator[str], progress: bool) -> Iterator["Fields"]:
        for record in answers(pipeline, lines, progress=progress):
            text = record["translation_text"]
            yield (f"{record['score']:.4f}", text) if arguments.scores and text else (text,)

    return translate


def in_int8(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Returns the model with a `generate` that uses CTranslate2 and 8-bit weights.

    Raises:
        UserError: If CTranslate2 cannot represent the model or is not installed.
    """
    from vanilla_transformers.interop.checks import InteropError
    from vanilla_transformers.interop.ctranslate2_search import generate_with_ctranslate2

    try:
        return generate_with_ctranslate2(model, tokenizer)
    except InteropError as error:
        raise UserError(f"--dtype int8: {error}") from error
