"""Arguments and help of `vanilla update`. Imports the standard library only."""

import argparse

UPDATE_DESCRIPTION = """\
Renew the code in a folder that an older version of this package saved. This package does not use the code in a folder.
Without this package, trust_remote_code=True runs that code, and it must fit the installed transformers. Weights,
settings, tokenizer and model card do not change. Before files are replaced, a fresh process without this package
loads a copy of the folder with the new code. Its outputs must equal the outputs of the model (fp32, 1e-5), and its
generated tokens must be the same.
"""
UPDATE_EXAMPLES = """\
examples:
  vanilla update runs/translation-toy --dry-run           list the changes
  vanilla update runs/translation-toy                     runs/translation-toy/best
  vanilla update runs/translation-toy --model final
  vanilla update my/model                                 any folder of save_pretrained()

Your own files are kept, but your changes to the model's code are lost. To renew a copy on the Hub, run `vanilla push`
afterwards.
"""


def define_update(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `vanilla update`."""
    parser.add_argument("run", metavar="FOLDER", help="a run folder, or a model folder")
    parser.add_argument("--model", choices=("best", "final"), default="best", help="model of the run (default: best)")
    parser.add_argument("--dry-run", action="store_true", help="only list the changes")
