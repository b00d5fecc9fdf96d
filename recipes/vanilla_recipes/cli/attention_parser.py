"""What can be typed after `vanilla attention`. Standard library only."""

import argparse

from vanilla_recipes.cli.option_types import kinds, numbers

ATTENTION_DESCRIPTION = """\
Show what a model attends to in a text, and how much its loss changes without each of its heads: any model that goes
through transformers' attention interface, such as all of this package, BERT, RoBERTa, GPT-2, Marian, BART and T5.
Written are attention.html, a page for the browser that needs no network, attention.png, and positions.png if the
model has a table of positions.

The loss is that of the text (decoders), of the target given the text (encoder-decoders), of 8 tokens masked in turn
(masked language models), or of what the whole model predicts (classifiers).
"""
ATTENTION_EXAMPLES = """\
examples:
  vanilla attention runs/translation-toy/best "The dog bites the man."
  vanilla attention runs/translation-toy/best "The dog bites the man." --target "Der Hund beißt den Mann." --kind cross
  vanilla attention openai-community/gpt2 "Once upon a time" --layers 0,11 --heads 3 --out maps/gpt2

Layers and heads count from 0. A text that is longer than the model reads is cut, which is told.
"""


def define_attention(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `vanilla attention`."""
    parser.add_argument("model", metavar="MODEL", help="a model folder, or the name of a model on the Hub")
    parser.add_argument("text", metavar="TEXT", help="what the model reads")
    parser.add_argument(
        "--target", metavar="TEXT", help="what an encoder-decoder writes (default: what it generates, as it was saved)"
    )
    parser.add_argument(
        "--kind", metavar="KINDS", type=kinds, help="encoder, decoder or cross, with commas between (default: all)"
    )
    parser.add_argument("--layers", metavar="N,N", type=numbers, help="only these layers (default: all)")
    parser.add_argument("--heads", metavar="N,N", type=numbers, help="only these heads (default: all)")
    parser.add_argument("--no-effects", action="store_true", help="leave the loss out, which takes most of the time")
    parser.add_argument("--out", metavar="FOLDER", default="attention", help="where to write (default: attention)")
    parser.add_argument("--overwrite", action="store_true", help="replace a folder of maps that exists")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps ... (default: the fastest there is)")
