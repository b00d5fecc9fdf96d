"""Every command in the documentation is one that the parser takes, on a configuration and with keys that there are."""

import argparse
import importlib
import itertools
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator

import pytest
import yaml
from doc_pages import DOCS, PAGES, blocks, code_spans, name_of
from project import ROOT, environment_outside_make

from vanilla_recipes.cli.faults import UsageError
from vanilla_recipes.cli.parser import parse
from vanilla_recipes.errors import UserError
from vanilla_recipes.packaged import packaged_configs
from vanilla_recipes.publishing.details import checked_details
from vanilla_recipes.settings.config_files import leaf_types, load_experiment
from vanilla_recipes.settings.experiment import Experiment

EXPERIMENTS = {
    "translation": "TranslationExperiment",
    "classification": "ClassificationExperiment",
    "generation": "GenerationExperiment",
    "masked_lm": "MaskedLMExperiment",
}
CONFIG = re.compile(rf"(?:{'|'.join(EXPERIMENTS)})/\w+")
KEY = re.compile(r"([a-z_]+(?:\.[a-z_]+)+)=")
OPERATORS = {"|", "||", "&&", "&", ";", "<", ">", ">>"}


def experiment_class(recipe: str) -> type[Experiment]:
    return getattr(importlib.import_module(f"vanilla_recipes.{recipe}"), EXPERIMENTS[recipe])


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command in the shell blocks of a page; comments, pipes and redirections divide or end one."""
    for block in blocks(text, "sh", "bash", "shell"):
        for line in block.text.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in lexer:
                if word in OPERATORS:
                    yield words
                    words = []
                else:
                    words.append(word)
            if words:
                yield words


def check_training(config: str, overrides: list[str]) -> None:
    """Refuses a packaged configuration that does not exist or take these keys; a file may be the reader's own."""
    if not config.endswith((".yaml", ".yml")):
        assert config in packaged_configs(), config
        load_experiment(experiment_class(config.partition("/")[0]), config, overrides)


def check(words: list[str]) -> None:
    """Refuses a command of this project that would be refused before it does anything."""
    name, *arguments = words
    if name == "vanilla":
        parsed: argparse.Namespace = parse(arguments)
        if parsed.command == "train":
            check_training(parsed.config, parsed.overrides)
    elif name in ("accelerate", "torchrun", "sbatch"):
        script = next(word for word in arguments if word.endswith((".py", ".sh")))
        assert (ROOT / script).is_file(), script
        config, *overrides = arguments[arguments.index(script) + 1 :]
        check_training(config, overrides)
        for option, value in itertools.pairwise(arguments):
            assert option != "--config_file" or (ROOT / value).is_file(), value
    elif name == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()  # type: ignore[index]
        assert [word for word in arguments if "=" not in word and word not in targets] == []
    elif words[:2] == ["pip", "install"]:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        asked = {
            extra for word in arguments for extras in re.findall(r"^\.\[(.*)\]$", word) for extra in extras.split(",")
        }
        assert asked <= project["optional-dependencies"].keys()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_is_taken(page):
    faults = []
    for words in commands(page.read_text(encoding="utf-8")):
        try:
            check(words)
        except (AssertionError, UsageError, UserError) as error:
            faults.append(f"{shlex.join(words)}: {error}")
    assert faults == []


def test_there_are_commands_of_each_kind():
    first = [words[0] for page in DOCS for words in commands(page.read_text(encoding="utf-8")) if words]
    assert first.count("vanilla") > 40
    assert {"accelerate", "torchrun", "sbatch", "pip"} <= set(first)


@pytest.mark.parametrize(
    "line",
    [
        "vanilla trian translation/toy",
        "vanilla translate runs/x/best --num-beans 4",
        "vanilla train translation/multi31k",
        "vanilla train translation/toy batch.token=4  # a comment",
        "echo text | vanilla translate runs/x/best --colour",
        "accelerate launch --config_file configs/accelerate/none.yaml recipes/translation.py translation/toy",
        "torchrun --nproc_per_node 2 recipes/nothing.py translation/toy",
        "make dmo",
        "pip install -e '.[everything]'",
    ],
)
def test_what_is_wrong_is_found(line):
    (words,) = [words for words in commands(f"```sh\n{line}\n```\n") if words[0] != "echo"]
    with pytest.raises((AssertionError, UsageError, UserError)):
        check(words)


@pytest.mark.parametrize("page", DOCS, ids=name_of)
def test_the_package_is_installed_from_a_checkout(page):
    """It is on no index."""
    lines = [" ".join(words) for words in commands(page.read_text(encoding="utf-8"))]
    assert [line for line in lines if re.search(r"install.*vanilla_transformers", line)] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_configurations_and_keys_in_the_text_exist(page):
    spans = code_spans(page.read_text(encoding="utf-8"))
    names = {span for span in spans if CONFIG.fullmatch(span)}
    names |= {found[1] for span in spans if (found := re.match(r"vanilla train (\w+/\w+)(?: |$)", span))}
    assert names - packaged_configs().keys() == set()
    known = {key for recipe in EXPERIMENTS for key in leaf_types(experiment_class(recipe))}
    assert {key for span in spans for key in KEY.findall(span)} - known == set()


@pytest.mark.parametrize("page", DOCS, ids=name_of)
def test_every_yaml_block_is_a_configuration_or_a_card(page, tmp_path):
    for block in blocks(page.read_text(encoding="utf-8"), "yaml"):
        found = yaml.safe_load(block.text)
        if "recipe" in found:
            file = tmp_path / "own.yaml"
            file.write_text(block.text, encoding="utf-8")
            assert load_experiment(experiment_class(found["recipe"]), str(file)).recipe == found["recipe"]
        else:
            assert checked_details(found, "card.yaml")


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_docs_installs_its_extra_and_builds_strictly(tmp_path):
    words = ["make", "-n", "-C", str(ROOT), "docs", f"VENV={tmp_path / 'venv'}", "TORCH_BACKEND="]
    environment = environment_outside_make()
    lines = subprocess.run(words, env=environment, text=True, capture_output=True, check=True).stdout.splitlines()
    assert any("-c constraints.txt" in line and line.endswith("-e '.[docs]'") for line in lines), lines
    assert any(line.endswith("zensical build --clean --strict") for line in lines), lines
