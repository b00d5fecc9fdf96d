"""The command-line parser of `vanilla` and its help. Imports the standard library only."""

import argparse
import difflib
import functools
import importlib.metadata
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from vanilla_recipes.cli.attention_parser import ATTENTION_DESCRIPTION, ATTENTION_EXAMPLES, define_attention
from vanilla_recipes.cli.conversion_parser import (
    EXPORT_DESCRIPTION,
    EXPORT_EXAMPLES,
    IMPORT_DESCRIPTION,
    IMPORT_EXAMPLES,
    define_export,
    define_import,
)
from vanilla_recipes.cli.demo_parser import DEMO_DESCRIPTION, DEMO_EXAMPLES, define_demo
from vanilla_recipes.cli.faults import UsageError
from vanilla_recipes.cli.inference_parser import (
    CLASSIFY_DESCRIPTION,
    CLASSIFY_EXAMPLES,
    GENERATE_DESCRIPTION,
    GENERATE_EXAMPLES,
    TRANSLATE_DESCRIPTION,
    TRANSLATE_EXAMPLES,
    define_classify,
    define_generate,
    define_translate,
)
from vanilla_recipes.cli.option_types import port, positive
from vanilla_recipes.cli.push_parser import PUSH_DESCRIPTION, PUSH_EXAMPLES, define_push
from vanilla_recipes.cli.update_parser import UPDATE_DESCRIPTION, UPDATE_EXAMPLES, define_update

DESCRIPTION = """\
Train and use the Transformer of 2017 and its BERT- and GPT-style descendants as Hugging Face models.
"""
EXAMPLES = """\
examples:
  vanilla configs                                        list the packaged configurations
  vanilla train translation/toy                          train on the built-in English-German corpus
  vanilla translate runs/translation-toy/best "The dog bites the man."
"""
TRAIN_DESCRIPTION = """\
Train the model that a configuration describes. All output is written to one run folder (output_dir): the resolved
configuration, the metrics, the checkpoints, and the best and the final model as complete folders for
from_pretrained().
"""
TRAIN_EXAMPLES = """\
examples:
  vanilla train translation/toy
  vanilla train translation/toy output_dir=runs/first seed=7 max_duration="2 epochs"
  vanilla train translation/multi30k data.path=my/folder optimizer.learning_rate=5e-4
  vanilla train translation/toy output_dir=runs/first resume=if_available
  vanilla train translation/toy --num_processes 2        on two GPUs, or two parts of the CPU
  vanilla train my/own.yaml                              its line `recipe: translation` names the recipe

`vanilla configs` lists the names. Examples of durations: 60steps, 5 epochs, 2B tokens, 10 minutes.
"""
SERVE_DESCRIPTION = """\
Serve a decoder, a model of this package or any other that AutoModelForCausalLM loads, with transformers' server and
OpenAI's interface: /v1/chat/completions, /v1/completions, /v1/responses and /v1/models. Ctrl-C ends the server.
Needs the packages of the extra `serving`.
"""
SERVE_EXAMPLES = """\
examples:
  vanilla serve runs/generation-toy/best
  vanilla serve openai-community/gpt2 --host 0.0.0.0 --port 8080 --device cuda
  curl localhost:8000/v1/completions -H "Content-Type: application/json" \\
    -d '{"prompt": "Once upon a time", "max_tokens": 40}'
"""
CONFIGS_DESCRIPTION = """\
List the configurations that come with the package, with their descriptions.
"""
COMMANDS = (
    ("train", "train a model", TRAIN_DESCRIPTION, TRAIN_EXAMPLES),
    ("translate", "translate sentences", TRANSLATE_DESCRIPTION, TRANSLATE_EXAMPLES),
    ("classify", "classify texts", CLASSIFY_DESCRIPTION, CLASSIFY_EXAMPLES),
    ("generate", "continue or answer prompts", GENERATE_DESCRIPTION, GENERATE_EXAMPLES),
    ("demo", "show models on a web page", DEMO_DESCRIPTION, DEMO_EXAMPLES),
    ("serve", "serve a decoder over HTTP", SERVE_DESCRIPTION, SERVE_EXAMPLES),
    ("attention", "show the attention maps of a model", ATTENTION_DESCRIPTION, ATTENTION_EXAMPLES),
    ("import", "convert a model of transformers to a model of this package", IMPORT_DESCRIPTION, IMPORT_EXAMPLES),
    (
        "export",
        "convert a model of this package to another format",
        EXPORT_DESCRIPTION,
        EXPORT_EXAMPLES,
    ),
    ("push", "push a model to the Hugging Face Hub", PUSH_DESCRIPTION, PUSH_EXAMPLES),
    ("update", "renew the code in a saved folder", UPDATE_DESCRIPTION, UPDATE_EXAMPLES),
    ("configs", "list the packaged configurations", CONFIGS_DESCRIPTION, ""),
)
LAYOUT: dict[str, Any] = {
    "formatter_class": functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=28, width=100),
    "allow_abbrev": False,
}


class Parser(argparse.ArgumentParser):
    """A parser that raises a `UsageError` of one line instead of printing the usage and exiting."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`)")


class ShowVersion(argparse.Action):
    """Prints the version. It is looked up only when requested, because reading package metadata takes time."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print("vanilla_transformers", importlib.metadata.version("vanilla_transformers"))
        parser.exit()


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command and its options.

    Args:
        argv: the command-line arguments after the program name; None for the arguments of this process.

    Raises:
        UsageError: If a command or option is unknown (the message names the most similar one), or if a value is missing
            or wrong.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser, commands = build_parser()
    if not words:
        raise UsageError(f"a command is needed: {', '.join(commands)} (see `vanilla --help`)")
    if not words[0].startswith("-") and words[0] not in commands:
        raise UsageError(f"there is no command {words[0]!r}{nearest(words[0], commands)} (see `vanilla --help`)")
    arguments, rest = parser.parse_known_args(words)
    take_rest(arguments, rest, commands[arguments.command])
    return arguments


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """Returns the parser of all commands, and the parser of each command by name."""
    parser = Parser("vanilla", description=DESCRIPTION, epilog=EXAMPLES, **LAYOUT)
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="show the version and exit")
    parser.set_defaults(debug=False)
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    commands = {
        name: subparsers.add_parser(name, help=summary, description=description, epilog=examples, **LAYOUT)
        for name, summary, description, examples in COMMANDS
    }
    define_train(commands["train"])
    define_import(commands["import"])
    define_export(commands["export"])
    define_translate(commands["translate"])
    define_classify(commands["classify"])
    define_generate(commands["generate"])
    define_demo(commands["demo"])
    define_serve(commands["serve"])
    define_attention(commands["attention"])
    define_push(commands["push"])
    define_update(commands["update"])
    for each in (parser, *commands.values()):
        each.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show the complete traceback of an error"
        )
    return parser, commands


def define_train(parser: Parser) -> None:
    parser.set_defaults(rest="overrides")
    parser.add_argument("config", metavar="CONFIG", help="a name that `vanilla configs` lists, or a YAML file")
    parser.add_argument(
        "overrides", metavar="KEY=VALUE", nargs="*", default=[], help="settings that override the configuration"
    )
    parser.add_argument(
        "--num_processes",
        metavar="N",
        type=positive,
        help="number of processes on this machine that train together, one for each GPU (default: 1)",
    )


def define_serve(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model folder, or the name of a model on the Hub")
    parser.add_argument("--host", metavar="NAME", default="localhost", help="address to listen on (default: localhost)")
    parser.add_argument("--port", metavar="N", type=port, default=8000, help="port to listen on (default: 8000)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps ... (default: the fastest available)")


def take_rest(arguments: argparse.Namespace, rest: list[str], parser: Parser) -> None:
    """Adds positional arguments that stand after an option to the list that a command takes, such as texts.

    argparse ends such a list at the first option, so that in `MODEL --num-beams 2 "A sentence."` it would be empty.

    Raises:
        UsageError: If `rest` has an unknown option, or arguments for a command that has no such list.
    """
    options = [word for word in rest if word.startswith("-") and word != "-" and " " not in word]
    if options:
        known = [option for action in getattr(parser, "_actions", []) for option in action.option_strings]
        parser.error(f"there is no option {options[0]!r}{nearest(options[0].split('=')[0], known)}")
    if rest and not hasattr(arguments, "rest"):
        parser.error(f"{rest[0]!r} is an unexpected argument")
    if rest:
        getattr(arguments, arguments.rest).extend(rest)


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns `"; did you mean ...?"` with the most similar known word, or "" if no known word is similar."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
