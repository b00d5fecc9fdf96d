"""What a user gets wrong, in every recipe: one clear line each, before anything is trained or written over."""

import importlib
import json
import re
from pathlib import Path

import pytest

from vanilla_recipes.errors import UserError
from vanilla_recipes.settings.config_files import load_experiment

TINY = [
    "max_duration=2 steps",
    "evaluation.every=null",
    "checkpoint.every=1 steps",
    "precision=fp32",
    "batch.tokens=400",
    "tokenizer.vocab_size=500",
    "model.hidden_size=16",
    "model.num_attention_heads=2",
    "model.intermediate_size=16",
    "data.test_split=null",
]
LAYERS = ["model.num_hidden_layers=1"]
OWN = {
    "translation": ["model.encoder_layers=1", "model.decoder_layers=1"],
    "classification": LAYERS,
    "generation": [*LAYERS, "data.block_size=16", "generation.max_new_tokens=1", "generation.prompts=[]"],
    "masked_lm": [*LAYERS, "data.block_size=16"],
}
RECIPES = list(OWN)
ROWS = {
    "translation": lambda n: {"de": f"Ein Hund sieht {n} Katzen.", "en": f"A dog sees {n} cats."},
    "classification": lambda n: {"text": f"A film of {n} hours.", "label": n % 2},
    "generation": lambda n: {"text": f"A dog saw {n} cats, and went home."},
    "masked_lm": lambda n: {"text": f"A dog saw {n} cats, and went home."},
}
TEXT_KEYS = {"translation": "data.target_lang"}  # that of the others is data.text_field


def write(folder: Path, recipe: str, split: str, change: dict | None = None) -> None:
    """Rows of a recipe, of which the fifth may differ."""
    rows = [ROWS[recipe](n) for n in range(40)]
    rows[4] |= change or {}
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def data(tmp_path, recipe) -> Path:
    """A folder with good rows."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "validation"):
        write(folder, recipe, split)
    return folder


def arguments(recipe: str, data: Path, *overrides: str) -> list[str]:
    return [f"{recipe}/toy", *TINY, *OWN[recipe], f"data.path={data}", *overrides]


def module(recipe: str):
    return importlib.import_module(f"vanilla_recipes.{recipe}")


def set_up(recipe: str, data: Path, *overrides: str) -> None:
    experiment_class = next(
        kind for name, kind in vars(module(recipe)).items() if name.endswith("Experiment") and name != "Experiment"
    )
    config, *settings = arguments(recipe, data, *overrides)
    module(recipe).setup(load_experiment(experiment_class, config, settings))


def fault(recipe: str, data: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        set_up(recipe, data, *overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{data}/", "").replace(str(data), "DATA")


@pytest.mark.parametrize("recipe", RECIPES)
def test_data_that_cannot_be_read(recipe, data):
    lines = (data / "train.jsonl").read_text().splitlines(keepends=True)
    (data / "train.jsonl").write_text("".join([*lines[:16], '{"text": \n', *lines[16:]]))
    assert fault(recipe, data).startswith("train.jsonl:17: broken JSON at character 10: Expecting value")
    (data / "train.jsonl").write_bytes("".join(lines).encode("utf-16"))
    assert fault(recipe, data) == "train.jsonl:1: not UTF-8: byte 0xff at byte 1 of the line; save the file as UTF-8"
    (data / "train.jsonl").unlink()
    assert fault(recipe, data).startswith(
        "DATA: no file for the train split, train.jsonl for example; the folder has: v"
    )
    assert fault(recipe, Path("nowhere")).startswith("data.path=DATA: no such file or folder (looked for /")


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_without_rows(recipe, data, split):
    (data / f"{split}.jsonl").write_text("\n")
    assert fault(recipe, data) == f"{split}.jsonl: the {split} split is empty: it has no row to read"


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_bad_row(recipe, data, split, caplog):
    name = next(iter(ROWS[recipe](0)))
    write(data, recipe, split, {name: 5})
    assert fault(recipe, data) == f"{split}.jsonl:5: the number 5 in '{name}', where text belongs; mend the row"
    write(data, recipe, split, {name: " "})
    assert re.match(
        rf"{split}\.jsonl:5: .* is empty, .*; 1 of 40 rows .* data\.skip_bad_rows=true", fault(recipe, data)
    )
    set_up(recipe, data, "data.skip_bad_rows=true")
    assert "left out 1 of 40 rows that " in caplog.text


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_column_that_is_not_there(recipe, data):
    key, columns = TEXT_KEYS.get(recipe, "data.text_field"), ", ".join(ROWS[recipe](0))
    message = f"train.jsonl:1: no 'body' in this row, which has {columns}; name one of these with {key}="
    assert fault(recipe, data, f"{key}=body") == message


@pytest.mark.parametrize("recipe", ["translation", "classification"])
def test_a_table_with_other_separators(recipe, data):
    rows = [ROWS[recipe](n) for n in range(9)]
    (data / "train.jsonl").unlink()
    header = ";".join(rows[0])
    (data / "train.csv").write_text("\n".join([header, *(";".join(map(str, row.values())) for row in rows)]))
    assert fault(recipe, data) == (
        f"train.csv:1: the header is a single name, '{header}': the file seems to have a semicolon between its values, "
        "but a comma is read; write it as .csv with commas or as .tsv with tabs"
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_validation_on_the_training_rows_is_told(recipe, data, caplog):
    set_up(recipe, data)
    assert "is the train split" not in caplog.text
    set_up(recipe, data / "train.jsonl", "data.validation_split=train.jsonl")
    assert f"the validation split is the train split, {data / 'train.jsonl'}: its scores measure" in caplog.text


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_that_is_not_this_one(recipe, data, tmp_path):
    """It is refused with what differs, nothing of it changes, and once the input is mended it goes on."""
    run = tmp_path / "run"
    main, folder = module(recipe).main, f"output_dir={run}"
    assert main(arguments(recipe, data, folder)) == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    goes_on = [folder, "resume=always", "max_duration=3 steps"]

    def refused(message: str, *overrides: str) -> None:
        with pytest.raises(UserError, match=message):
            main(arguments(recipe, data, *goes_on, *overrides))
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    refused(r"another experiment, which differs in seed: 1 -> 2; give another output_dir, or the same", "seed=2")
    name = next(iter(ROWS[recipe](0)))
    for split in ("train", "validation"):
        write(data, recipe, split, {name: "Another dog."})
        refused(
            r"^resume: the training data, the validation data or the tokenizer differ from those that .* bring them"
        )
        write(data, recipe, split)
    other = RECIPES[RECIPES.index(recipe) - 1]
    message = rf"recipe='{recipe}' \(config\.yaml:2\): must be {other}: [^\n]*; give another output_dir or"
    with pytest.raises(UserError, match=message):
        module(other).main(arguments(other, data, *goes_on))
    assert main(arguments(recipe, data, *goes_on)) == 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_saved_model_may_ask_for_tuples(recipe, data, tmp_path):
    """Such as `return_dict: false`, which is for whoever calls a model to choose."""
    assert module(recipe).main(arguments(recipe, data, f"output_dir={tmp_path / 'base'}")) == 0
    config = tmp_path / "base" / "best" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"return_dict": False, "output_attentions": True}))
    base, run = f"model.pretrained={config.parent}", tmp_path / "run"
    assert module(recipe).main(arguments(recipe, data, base, f"output_dir={run}")) == 0
    assert "return_dict" not in (run / "best" / "config.json").read_text()
