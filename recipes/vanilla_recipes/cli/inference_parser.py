"""Arguments and help of `vanilla translate`, `classify` and `generate`. Imports the standard library only."""

import argparse

from vanilla_recipes.cli.option_types import positive, seed, share, temperature

DTYPES = ("float32", "bfloat16", "float16")

TRANSLATE_DESCRIPTION = """\
Translate sentences with an encoder-decoder: a model of this package or any other that AutoModelForSeq2SeqLM loads.
Sentences are arguments, or lines of a file or of standard input. Line N of the output is the translation of line N
of the input; a blank line stays blank. A line that is too long for the model is split into its sentences.
"""
TRANSLATE_EXAMPLES = """\
examples:
  vanilla translate runs/translation-toy/best "The dog bites the man." "The man bites the dog."
  vanilla translate runs/translation-toy/best < english.txt > german.txt
  vanilla translate runs/translation-toy/best --from english.txt --to german.txt --num-beams 4
  vanilla translate runs/translation-toy/best --from english.txt --scores | sort -g
  vanilla translate runs/translation-toy/best --from english.txt --to german.txt --dtype int8
  vanilla translate Helsinki-NLP/opus-mt-en-de "A sentence."
  vanilla translate facebook/nllb-200-distilled-600M "A sentence." --src-lang eng_Latn --tgt-lang deu_Latn
"""
CLASSIFY_DESCRIPTION = """\
Classify texts with any model that AutoModelForSequenceClassification loads. Texts are arguments, or lines of a file
or of standard input. Line N of the output has the class of line N of the input and its probability, separated by a
tab; a blank line stays blank. A text that is too long for the model is truncated.
"""
CLASSIFY_EXAMPLES = """\
examples:
  vanilla classify runs/classification-toy/best "A film of rare charm." "I want my money back."
  vanilla classify runs/classification-toy/best --from reviews.txt --to classes.tsv
  vanilla classify distilbert/distilbert-base-uncased-finetuned-sst-2-english "A film of rare charm." --all
"""
GENERATE_DESCRIPTION = """\
Continue prompts with any model that AutoModelForCausalLM loads, or answer prompts with any model that
AutoModelForSeq2SeqLM loads. Prompts are arguments, or lines of a file or of standard input. Without a sampling
option (--temperature, --top-p, --top-k) the search is greedy, or a beam search with --num-beams or saved beams.

If prompts are arguments, the texts are printed unchanged, separated by blank lines. If prompts are lines, every text
is one line of the output, with spaces instead of line breaks; a blank line stays blank.
"""
GENERATE_EXAMPLES = """\
examples:
  vanilla generate runs/generation-toy/best "Once upon a time" --temperature 0.8 --seed 7
  vanilla generate openai-community/gpt2 "The Transformer is" --max-new-tokens 40 --num-beams 4
  vanilla generate openai-community/gpt2 --from prompts.txt --to texts.txt --top-p 0.9 --num-return-sequences 3
  vanilla generate google/flan-t5-small "Answer: what is the capital of France?"
"""


def define_translate(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `vanilla translate`."""
    _define_texts(parser, "SENTENCE", "translate")
    parser.add_argument("--src-lang", metavar="CODE", help="language of the sentences, for a multilingual model")
    parser.add_argument("--tgt-lang", metavar="CODE", help="language of the translations, for a multilingual model")
    parser.add_argument(
        "--scores",
        action="store_true",
        help="print the mean log-probability of the tokens and a tab before each translation",
    )
    _define_beams(parser)
    _define_machine(parser, *DTYPES, "int8")


def define_classify(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `vanilla classify`."""
    _define_texts(parser, "TEXT", "classify")
    parser.add_argument(
        "--all",
        action="store_true",
        help="print all classes with their probabilities, the most likely class first",
    )
    _define_machine(parser, *DTYPES)


def define_generate(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `vanilla generate`."""
    _define_texts(parser, "PROMPT", "continue from")
    parser.add_argument(
        "--max-new-tokens",
        metavar="N",
        type=positive,
        help="maximum number of new tokens of a text (default: as saved with the model, or 100)",
    )
    parser.add_argument("--temperature", metavar="X", type=temperature, help="sample with this softmax temperature")
    parser.add_argument(
        "--top-p", metavar="X", type=share, help="sample from the most likely tokens of total probability X"
    )
    parser.add_argument("--top-k", metavar="N", type=positive, help="sample from the N most likely tokens")
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="random seed of sampling (default: 0)")
    parser.add_argument(
        "--num-return-sequences",
        metavar="N",
        type=positive,
        default=1,
        help="number of texts per prompt (default: 1)",
    )
    _define_beams(parser)
    _define_machine(parser, *DTYPES)


def _define_texts(parser: argparse.ArgumentParser, name: str, deed: str) -> None:
    parser.set_defaults(rest="texts")
    parser.add_argument("model", metavar="MODEL", help="a model folder, or the name of a model on the Hub")
    parser.add_argument(
        "texts", metavar=name, nargs="*", default=[], help="`-` or no argument: lines of standard input"
    )
    parser.add_argument("--from", dest="source", metavar="FILE", help=f"{deed} the lines of this file (UTF-8)")
    parser.add_argument(
        "--to", dest="target", metavar="FILE", help="write to this file, which is created only when all lines are done"
    )
    parser.add_argument("--overwrite", action="store_true", help="allow --to to replace an existing file")


def _define_beams(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--num-beams", metavar="N", type=positive, help="number of beams (default: as saved with the model)"
    )


def _define_machine(parser: argparse.ArgumentParser, *dtypes: str) -> None:
    parser.add_argument(
        "--batch-tokens",
        metavar="N",
        type=positive,
        help="number of input tokens of a batch, padding included (default: depends on the device)",
    )
    parser.add_argument(
        "--dtype",
        choices=dtypes,
        help="type of the weights (default: as saved); bfloat16 is faster on hardware that supports it"
        + (", int8 uses CTranslate2 and is the fastest on a CPU" if "int8" in dtypes else ""),
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps ... (default: the fastest available)")
