"""Arguments and help of `vanilla demo`. Imports the standard library only."""

import argparse

from vanilla_recipes.cli.option_types import port

DEMO_DESCRIPTION = """\
Show models on a web page: translate, classify, fill in or continue a text, with the candidates and their
probabilities, the attention maps of the answer, and the speed. Works with every model that AutoModelForSeq2SeqLM,
AutoModelForSequenceClassification, AutoModelForCausalLM or AutoModelForMaskedLM loads. The page loads nothing from
other servers. Ctrl-C ends the demo. Needs the packages of the extra `demo`.
"""
DEMO_EXAMPLES = """\
examples:
  vanilla demo runs/translation-toy/best
  vanilla demo runs/translation-toy/best runs/classification-toy/best openai-community/gpt2
  vanilla demo runs/translation-toy/best --host 0.0.0.0 --port 8080 --device cuda
  vanilla push runs/translation-toy me/toy-translator --space       the same page on the Hub
"""


def define_demo(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `vanilla demo`."""
    parser.set_defaults(rest="models")
    parser.add_argument("models", metavar="MODEL", nargs="+", help="a model folder, or the name of a model on the Hub")
    parser.add_argument("--host", metavar="NAME", default="localhost", help="address to listen on (default: localhost)")
    parser.add_argument("--port", metavar="N", type=port, default=7860, help="port to listen on (default: 7860)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps ... (default: the fastest available)")
