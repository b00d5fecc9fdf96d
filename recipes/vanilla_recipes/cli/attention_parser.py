"""Arguments and help of `vanilla attention`. Imports the standard library only."""

import argparse

from vanilla_recipes.cli.option_types import kinds, numbers

ATTENTION_DESCRIPTION = """\
Show the attention maps of a model for a text, and how much its loss changes without each head. Works with every model
that uses transformers' attention interface: all models of this package, BERT, RoBERTa, GPT-2, Marian, BART, T5 ...
Writes attention.html (a page for the browser that needs no network), attention.png and, if the model has a position
table, positions.png.

The loss is the loss of the text (decoders), of the target given the text (encoder-decoders), of 8 tokens that are
masked one after another (masked language models), or of the class predicted with all heads (classifiers).
"""
ATTENTION_EXAMPLES = """\
examples:
  vanilla attention runs/translation-toy/best "The dog bites the man."
  vanilla attention runs/translation-toy/best "The dog bites the man." --target "Der Hund beißt den Mann." --kind cross
  vanilla attention openai-community/gpt2 "Once upon a time" --layers 0,11 --heads 3 --out maps/gpt2

Layers and heads are counted from 0. A text that is too long for the model is truncated, with a note.
"""


def define_attention(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `vanilla attention`."""
    parser.add_argument("model", metavar="MODEL", help="a model folder, or the name of a model on the Hub")
    parser.add_argument("text", metavar="TEXT", help="the input text")
    parser.add_argument(
        "--target", metavar="TEXT", help="the target of an encoder-decoder (default: the text that it generates)"
    )
    parser.add_argument(
        "--kind", metavar="KINDS", type=kinds, help="encoder, decoder or cross, separated by commas (default: all)"
    )
    parser.add_argument("--layers", metavar="N,N", type=numbers, help="only these layers (default: all)")
    parser.add_argument("--heads", metavar="N,N", type=numbers, help="only these heads (default: all)")
    parser.add_argument(
        "--no-effects", action="store_true", help="do not measure the effects on the loss, which takes most of the time"
    )
    parser.add_argument("--out", metavar="FOLDER", default="attention", help="folder to write (default: attention)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder of attention maps")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps ... (default: the fastest available)")
