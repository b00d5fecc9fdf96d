"""Arguments and help of `vanilla push`. Imports the standard library only."""

import argparse

from vanilla_recipes.cli.conversion_parser import SOURCES

PUSH_DESCRIPTION = """\
Push a model to the Hugging Face Hub, with its code, tokenizer, model card, training curves, settings and scores.
Before the upload, a fresh process without this package loads the files, and its outputs must equal the outputs of
the model. Files with private data (tokens, local paths, names) are refused. The access token comes from
`hf auth login` or HF_TOKEN.
"""
PUSH_EXAMPLES = """\
examples:
  vanilla push runs/translation-toy me/toy-translator --dry-run      list the files to upload
  vanilla push runs/translation-toy me/toy-translator --license apache-2.0
  vanilla push runs/translation-toy me/toy-translator --private --revision tried
  vanilla push runs/translation-toy me/toy-marian --to marian        as a Marian model, without code
  vanilla push runs/translation-toy me/toy-translator --with marian  with a copy as a Marian model
  vanilla push runs/translation-toy me/toy-translator --space        with a Space: the page of `vanilla demo`
  vanilla push runs/translation-toy them/translator --create-pr      as a pull request
  vanilla push my/model me/model --card card.yaml                    any folder of save_pretrained()

The YAML file of --card has the keys summary, license, language, datasets, base_model, tags, data, terms, limits,
energy, example. Keys without a value do not appear in the model card.
"""


def define_push(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or a model folder")
    parser.add_argument("name", metavar="USER/NAME", help="the repository; created if it does not exist")
    parser.add_argument("--model", choices=("best", "final"), default="best", help="model of the run (default: best)")
    parser.add_argument(
        "--to", metavar="TYPE", choices=SOURCES, help=f"convert it to a type of transformers: {', '.join(SOURCES)}"
    )
    parser.add_argument(
        "--with",
        dest="beside",
        metavar="TYPE",
        choices=SOURCES,
        help="add a copy converted to this type, in the folder TYPE",
    )
    parser.add_argument(
        "--space", action="store_true", help="also push a Space of the same name, with the page of `vanilla demo`"
    )
    parser.add_argument("--card", metavar="FILE", help="YAML file with text and metadata for the model card")
    parser.add_argument("--license", metavar="NAME", help="identifier of the license on the Hub, such as apache-2.0")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument(
        "--revision", metavar="BRANCH", default="main", help="branch; created if missing (default: main)"
    )
    parser.add_argument("--create-pr", action="store_true", help="open a pull request")
    parser.add_argument("--overwrite", action="store_true", help="replace a model of another type, or another Space")
    parser.add_argument(
        "--message", metavar="TEXT", default="Upload a model of vanilla_transformers", help="commit message"
    )
    parser.add_argument("--dry-run", action="store_true", help="do everything except the upload, and list the files")
