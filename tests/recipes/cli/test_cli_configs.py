"""Finding configurations and the recipe that each belongs to."""

import dataclasses
import sys
import types

import pytest
from project import ROOT

import vanilla_recipes.cli
from vanilla_recipes.classification import ClassificationExperiment
from vanilla_recipes.cli.configurations import description, recipe_of
from vanilla_recipes.cli.faults import UsageError
from vanilla_recipes.errors import UserError
from vanilla_recipes.packaged import packaged, packaged_configs
from vanilla_recipes.settings.config_files import load_experiment
from vanilla_recipes.translation import TranslationExperiment

CONFIGS = ROOT / "configs"


def test_every_experiment_of_the_tree_is_found():
    names = {f"{file.parent.name}/{file.stem}" for file in CONFIGS.glob("*/*.yaml")}
    assert set(packaged_configs()) == {name for name in names if name.split("/")[0] != "accelerate"}
    assert "translation/toy" in packaged_configs()
    assert packaged("configs") == CONFIGS


def test_configs_lists_each_name_with_what_it_is(capsys):
    assert vanilla_recipes.cli.main(["configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(packaged_configs())
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# vanilla train translation/x\n# What it is.\nseed: 1\n", "What it is."),
        ("# What it is.\n# vanilla train translation/x\n", "What it is."),
        ("seed: 1\n# Too late.\n", ""),
        ("", ""),
    ],
)
def test_the_description_is_the_first_comment_that_is_no_command(text, expected, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(text, encoding="utf-8")
    assert description(file) == expected


def test_the_recipe_of_a_configuration(tmp_path):
    assert recipe_of("translation/toy") == "translation"
    own = tmp_path / "own.yaml"
    own.write_text("seed: 1\nrecipe: 'translation'  # with a comment\n", encoding="utf-8")
    assert recipe_of(str(own)) == "translation"
    by_folder = tmp_path / "translation" / "own.yaml"
    by_folder.parent.mkdir()
    by_folder.write_text("seed: 1\n", encoding="utf-8")
    assert recipe_of(str(by_folder)) == "translation"


def test_an_older_name_goes_on_working(tmp_path):
    """Of the recipe, its configurations and its run folders; also in a file that a run has saved."""
    assert recipe_of("sentiment/toy") == "classification"
    own = tmp_path / "sentiment" / "own.yaml"
    own.parent.mkdir()
    own.write_text("seed: 7\n", encoding="utf-8")
    assert recipe_of(str(own)) == "classification"
    own.write_text("recipe: sentiment\nseed: 7\n", encoding="utf-8")
    assert recipe_of(str(own)) == "classification"
    assert load_experiment(ClassificationExperiment, str(own)).output_dir == "runs/sentiment-own"
    by_old, by_new = (
        load_experiment(ClassificationExperiment, f"{name}/toy") for name in ("sentiment", "classification")
    )
    assert (by_old.output_dir, by_new.output_dir) == ("runs/sentiment-toy", "runs/classification-toy")
    assert dataclasses.replace(by_old, output_dir=by_new.output_dir) == by_new
    for folder in (ROOT / "recipes", ROOT / "recipes" / "vanilla_recipes"):
        assert (folder / "sentiment.py").is_file()


def test_a_configuration_that_is_not_there_names_the_nearest():
    with pytest.raises(UsageError, match=r"no configuration 'translation/toi'; did you mean 'translation/toy'\?"):
        recipe_of("translation/toi")


def test_a_file_that_names_no_recipe_is_told_how(tmp_path, capsys):
    own = tmp_path / "own.yaml"
    own.write_text("seed: 1\n", encoding="utf-8")
    assert vanilla_recipes.cli.main(["train", str(own)]) == 1
    assert f"vanilla: {own}: it needs a line `recipe: NAME`; the recipes are: " in capsys.readouterr().err
    assert vanilla_recipes.cli.main(["train", str(tmp_path / "gone.yaml")]) == 1
    assert f"vanilla: {tmp_path / 'gone.yaml'}: No such file or directory\n" == capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "hint"),
    [("tranlation", "; did you mean 'translation'?; the recipes are: "), ("cooking", "; the recipes are: ")],
)
def test_a_recipe_that_is_not_there_names_the_nearest(name, hint, tmp_path, capsys):
    own = tmp_path / "translation" / "own.yaml"
    own.parent.mkdir()
    own.write_text(f"seed: 1\nrecipe: {name}\n", encoding="utf-8")
    assert vanilla_recipes.cli.main(["train", str(own)]) == 1
    expected = f"vanilla: {own}: recipe={name} (own.yaml:2): there is no such recipe{hint}"
    assert capsys.readouterr().err.startswith(expected)


def test_a_section_on_the_command_line_lists_its_keys():
    with pytest.raises(UserError) as caught:
        load_experiment(TranslationExperiment, "translation/toy", ["model=3", "--optimizer=adam"])
    _, *faults = str(caught.value).splitlines()
    assert [fault.partition(": model.")[0].partition(": optimizer.")[0] for fault in faults] == [
        "  model (command line): is a section, not a value; set its keys one by one",
        "  optimizer (command line): is a section, not a value; set its keys one by one",
    ]
    assert "model.hidden_size=..., " in faults[0]
    assert "optimizer.learning_rate=..., " in faults[1]


def test_train_hands_configuration_and_overrides_to_the_recipe(monkeypatch):
    seen = []
    recipe = types.SimpleNamespace(main=lambda argv: seen.append(argv) or 3)
    monkeypatch.setitem(sys.modules, "vanilla_recipes.translation", recipe)
    assert vanilla_recipes.cli.main(["train", "translation/toy", "seed=7", "resume=always"]) == 3
    assert seen == [["translation/toy", "seed=7", "resume=always"]]
