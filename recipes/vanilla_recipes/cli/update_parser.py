"""What can be typed after `vanilla update`. Standard library only."""

import argparse

UPDATE_DESCRIPTION = """\
Renew the code in a folder that an older version of this package saved. With this package a folder needs no code; where
it is loaded without, with trust_remote_code=True, that code must fit the installed transformers. Weights, settings,
tokenizer and card stay as they are. Before anything is replaced, a fresh process without this package loads a copy of
the folder with the new code, and its outputs and generated tokens must equal those of the model exactly.
"""
UPDATE_EXAMPLES = """\
examples:
  vanilla update runs/translation-toy --dry-run           what would change
  vanilla update runs/translation-toy                     runs/translation-toy/best
  vanilla update runs/translation-toy --model final
  vanilla update my/model                                 any folder of save_pretrained()

Files of your own stay, but changes that you made to the model's code are lost. `vanilla push` then renews a copy on
the Hub.
"""


def define_update(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `vanilla update`."""
    parser.add_argument("run", metavar="FOLDER", help="a run folder, or a model folder")
    parser.add_argument("--model", choices=("best", "final"), default="best", help="of a run (default: best)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would change")
