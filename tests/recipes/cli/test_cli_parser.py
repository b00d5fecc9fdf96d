"""What is typed, and what is answered when it is misspelt."""

import subprocess
import sys
import time

import pytest

import vanilla_recipes.cli
from vanilla_recipes.cli.faults import UsageError
from vanilla_recipes.cli.parser import parse

SLOW_MODULES = {"torch", "transformers", "numpy", "vanilla_transformers", "yaml"}


@pytest.mark.parametrize("command", ["", "train", "translate", "classify", "generate", "push", "update", "configs"])
def test_help_names_the_options_and_gives_examples(command, capsys):
    arguments = command.split()
    with pytest.raises(SystemExit) as exit_:
        parse([*arguments, "--help"])
    text = capsys.readouterr().out
    assert exit_.value.code == 0
    assert text.startswith(" ".join(["usage: vanilla", *arguments]))
    assert "--debug" in text
    assert "vanilla " in text.split("options:")[1] or arguments == ["configs"]


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["translate", "--help"], ["--version"]])
def test_help_answers_without_loading_anything_slow(arguments):
    code = (
        "import sys, vanilla_recipes.cli\n"
        f"try: vanilla_recipes.cli.main({arguments})\n"
        f"finally: print('LOADED', sorted({SLOW_MODULES} & set(sys.modules)))"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("LOADED []\n")
    assert time.monotonic() - start < 5  # about 0.1 s on an idle machine; torch alone takes longer than this bound


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit):
        parse(["--version"])
    assert capsys.readouterr().out == "vanilla_transformers 0.1.0\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "a command is needed: train, translate, classify, generate, "),
        (["trian", "translation/toy"], "there is no command 'trian'; did you mean 'train'?"),
        (["zzz"], "there is no command 'zzz' (see `vanilla --help`)"),
        (["train"], "the following arguments are required: CONFIG (see `vanilla train --help`)"),
        (["translate", "m", "--num-beam", "3"], "there is no option '--num-beam'; did you mean '--num-beams'?"),
        (["translate", "m", "--num-beam=3"], "did you mean '--num-beams'?"),
        (["translate", "m", "--num-beams", "0"], "argument --num-beams: '0' is not a whole number of at least 1"),
        (["translate", "m", "--num-beams", "four"], "argument --num-beams: 'four' is not a whole number"),
        (["translate", "m", "--from"], "argument --from: expected one argument"),
        (["generate", "m", "--temperature", "0"], "'0' is not a number above 0 and up to 100; leave it out for"),
        (["generate", "m", "--temperature", "nan"], "argument --temperature: 'nan' is not a number above 0"),
        (["generate", "m", "--top-p", "1.5"], "argument --top-p: '1.5' is not a number above 0 and up to 1"),
        (["generate", "m", "--top-k", "-1"], "argument --top-k: "),
        (["generate", "m", "--seed", "-3"], "argument --seed: "),
        (["generate", "m", "--seed", "1.5"], "argument --seed: '1.5' is not a whole number from 0 to 2^63 - 1"),
        (["generate", "m", "--max-new-tokens", "0"], "'0' is not a whole number of at least 1"),
        (["classify", "m", "--num-beams", "2"], "there is no option '--num-beams'"),
        (["configs", "all"], "'all' is an unexpected argument (see `vanilla configs --help`)"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_status_2(words, text, capsys):
    with pytest.raises(UsageError) as fault:
        parse(words)
    assert text in str(fault.value)
    assert vanilla_recipes.cli.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("vanilla: ")
    assert printed.err.count("\n") == 1


def test_words_may_stand_before_and_behind_options():
    parsed = parse(["translate", "m", "--num-beams", "2", "A sentence.", "--to", "f", "- Another one.", "--debug"])
    assert parsed.texts == ["A sentence.", "- Another one."]
    assert (parsed.num_beams, parsed.target, parsed.debug) == (2, "f", True)
    parsed = parse(["train", "translation/toy", "seed=1", "--debug", "resume=always"])
    assert parsed.overrides == ["seed=1", "resume=always"]


def test_debug_may_stand_before_the_command():
    assert parse(["--debug", "configs"]).debug
    assert not parse(["configs"]).debug
