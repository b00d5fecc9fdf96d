"""Arguments and help of `vanilla import` and `vanilla export`. Imports the standard library only."""

import argparse

SOURCES = ("bert", "roberta", "distilbert", "gpt2", "opt", "marian", "bart", "mbart", "m2m_100", "fsmt")
TARGETS = (*SOURCES, "ctranslate2", "onnx")
# Types of the weights that CTranslate2 can store.
QUANTIZATIONS = (
    "float32",
    "float16",
    "bfloat16",
    "int8",
    "int8_float32",
    "int8_float16",
    "int8_bfloat16",
    "int16",
)

IMPORT_DESCRIPTION = f"""\
Convert one of transformers' own models to a model of this package: {", ".join(SOURCES)}.
The written folder is loaded again and compared with the original: every weight, the tokenizer, logits, hidden states,
tokens of greedy and beam search (4 beams), and the generation settings. If a comparison fails, nothing is written.
"""
IMPORT_EXAMPLES = """\
examples:
  vanilla import google-bert/bert-base-uncased models/bert
  vanilla import google-bert/bert-base-uncased models/bert --head base       without the language-model head
  vanilla import Helsinki-NLP/opus-mt-en-de models/opus
  vanilla import my/folder models/mine --overwrite
"""
EXPORT_DESCRIPTION = """\
Convert a model of this package to one of transformers' own models, which loads without this package and without remote
code, or to the format of another library. The library loads the written folder again, and the result is compared with
the original. If a comparison fails, nothing is written. If the target cannot represent a setting of the model, an error
names the setting.
"""
EXPORT_EXAMPLES = """\
examples:
  vanilla export runs/translation-toy/best models/marian --to marian
  vanilla export runs/translation-toy/best models/ct2 --to ctranslate2 --quantization int8
  vanilla export runs/generation-toy/best models/gpt2 --to gpt2
  vanilla export runs/classification-toy/best models/onnx --to onnx

For llama.cpp export to gpt2, and give that folder to its convert_hf_to_gguf.py.
"""


def define_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="a folder of save_pretrained(), or the name of a model on the Hub"
    )
    parser.add_argument("out", metavar="OUT", help="the folder to write")
    parser.add_argument(
        "--head", metavar="TASK", help="load the model with this head: base, masked-lm ... (default: the saved head)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing model folder")


def define_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a folder with a model of this package, or its name on the Hub")
    parser.add_argument("out", metavar="OUT", help="the folder to write")
    parser.add_argument("--to", metavar="TARGET", required=True, type=target, help=", ".join(TARGETS))
    parser.add_argument(
        "--quantization", metavar="TYPE", choices=QUANTIZATIONS, help=f"for ctranslate2: {', '.join(QUANTIZATIONS)}"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing model folder")


def target(name: str) -> str:
    """Returns the target name.

    Raises:
        ArgumentTypeError: If the target is unknown, or another tool writes it (the message says how).
    """
    if name == "gguf":
        raise argparse.ArgumentTypeError(
            "gguf is made from a gpt2 model: export with --to gpt2, and give that folder to llama.cpp's "
            "convert_hf_to_gguf.py"
        )
    if name not in TARGETS:
        raise argparse.ArgumentTypeError(f"{name!r} is no target; choose one of {', '.join(TARGETS)}")
    return name
