"""What can be typed after `vanilla push`. Standard library only."""

import argparse

from vanilla_recipes.cli.conversion_parser import SOURCES

PUSH_DESCRIPTION = """\
Put a model on the Hugging Face Hub, with its code, tokenizer, card, curves, settings and scores. Before anything is
sent, a fresh process without this package loads what would be pushed, and its outputs must equal those of the
model; nothing private may be in it. The access token is that of `hf auth login` or HF_TOKEN.
"""
PUSH_EXAMPLES = """\
examples:
  vanilla push runs/translation-toy me/toy-translator --dry-run      what would be sent
  vanilla push runs/translation-toy me/toy-translator --license apache-2.0
  vanilla push runs/translation-toy me/toy-translator --private --revision tried
  vanilla push runs/translation-toy me/toy-marian --to marian        as a stock model, without code
  vanilla push runs/translation-toy me/toy-translator --with marian  both, under one card
  vanilla push runs/translation-toy me/toy-translator --space        and the page of `vanilla demo` beside it
  vanilla push runs/translation-toy them/translator --create-pr      as a pull request
  vanilla push my/model me/model --card card.yaml                    any folder of save_pretrained()

CARD is YAML: summary, license, language, datasets, base_model, tags, data, terms, limits, energy, example. What is
not known is left out of the model card.
"""


def define_push(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or a model folder")
    parser.add_argument("name", metavar="USER/NAME", help="the repository, which is made if there is none")
    parser.add_argument("--model", choices=("best", "final"), default="best", help="of a run (default: best)")
    parser.add_argument("--to", metavar="TYPE", choices=SOURCES, help=f"push it as a stock model: {', '.join(SOURCES)}")
    parser.add_argument(
        "--with", dest="beside", metavar="TYPE", choices=SOURCES, help="push it as a stock model too, in a folder of it"
    )
    parser.add_argument(
        "--space", action="store_true", help="push a Space of the same name too, with the page of `vanilla demo`"
    )
    parser.add_argument("--card", metavar="FILE", help="YAML with what the run cannot know, for the model card")
    parser.add_argument("--license", metavar="NAME", help="its identifier on the Hub, such as apache-2.0")
    parser.add_argument("--private", action="store_true", help="a new repository is for you alone")
    parser.add_argument("--revision", metavar="BRANCH", default="main", help="made if there is none (default: main)")
    parser.add_argument("--create-pr", action="store_true", help="propose it as a pull request")
    parser.add_argument("--overwrite", action="store_true", help="replace a model of another type")
    parser.add_argument(
        "--message", metavar="TEXT", default="Upload a model of vanilla_transformers", help="of the commit"
    )
    parser.add_argument("--dry-run", action="store_true", help="do everything but the upload, and list the files")
