"""What `vanilla translate` does with a model."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vanilla_cli.models import load_for
from vanilla_transformers.pipelines import Text2TextPipeline
from vanilla_transformers.recipes.scoring.decoding import answers, beams

if TYPE_CHECKING:
    from vanilla_cli.inference import Answer, Fields


def load(arguments: argparse.Namespace) -> "Answer":
    """The translator that the arguments describe."""
    model, tokenizer = load_for("translate", arguments.model, arguments.device, arguments.dtype)
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
