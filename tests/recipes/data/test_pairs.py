"""Pairs of sentences from each kind of source, and what happens to bad ones."""

import ast
import logging
import sys
from pathlib import Path

import datasets
import pytest
from project import SHARED

from vanilla_recipes.data import pairs, readers, splits
from vanilla_recipes.data import records as records_module
from vanilla_recipes.data.pairs import Pair, TranslationDataConfig, translation_pairs
from vanilla_recipes.data.records import DataConfig, records
from vanilla_recipes.errors import UserError

REAL_DATA = SHARED / "data/translation/multi30k/en-de"

NESTED = '{"translation": {"en": "A dog.", "de": "Ein Hund."}}\n'
FLAT = '{"de": "Eine Katze.", "id": 7, "en": "A cat."}\n'
PAIRS = [Pair("A dog.", "Ein Hund."), Pair("A cat.", "Eine Katze.")]


def read(folder: Path, text: str, **settings) -> list[Pair]:
    (folder / "train.jsonl").write_text(text, encoding="utf-8")
    return translation_pairs(TranslationDataConfig(path=str(folder), **settings), "train")


def test_both_shapes_of_a_row_are_read(tmp_path):
    assert read(tmp_path, NESTED + FLAT) == PAIRS


def test_languages_are_chosen_by_name(tmp_path):
    pairs = read(tmp_path, NESTED, source_lang="de", target_lang="en")
    assert pairs == [Pair("Ein Hund.", "A dog.")]


def test_text_is_kept_as_it_stands(tmp_path):
    pairs = read(tmp_path, '{"en": " a\\u2028b\\t", "de": "c\\u0308  "}\n')
    assert pairs == [Pair(" a\u2028b\t", "c\u0308  ")]


def test_num_rows_caps_the_rows(tmp_path):
    assert read(tmp_path, NESTED + FLAT + "broken, but never reached", num_train_rows=2) == PAIRS


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"en": "a", "fr": "b"}', r"train.jsonl:2: no 'de' in this row, which has en, fr; .* data.target_lang="),
        ('{"translation": {"de": "b"}}', r"train.jsonl:2: no 'en' in this row, which has de; .* data.source_lang="),
        ("{}", r"train.jsonl:2: no 'en' in this row, which has nothing"),
        ('{"en": "a", "de": 42}', r"train.jsonl:2: the number 42 in 'de', where text belongs"),
        ('{"en": NaN, "de": "b"}', r"train.jsonl:2: the number NaN in 'en', where text belongs"),
        ('{"en": true, "de": "b"}', r"train.jsonl:2: the truth value true in 'en', where text belongs"),
        ('{"en": null, "de": "b"}', r"train.jsonl:2: 'en' is empty, .* both sides; 1 of 2 rows .*skip_bad_rows=true"),
        ('{"en": ["ä"], "de": "b"}', r"""train.jsonl:2: the list \["ä"\] in 'en', where text belongs"""),
        ('{"en": "a", "de": "\\ud800"}', r"train.jsonl:2: half a surrogate pair in 'de', the text \"\\ud800\""),
        ('{"en": "a", "de": " \\t"}', r"train.jsonl:2: 'de' is empty, .* both sides; 1 of 2 rows .*skip_bad_rows=true"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, FLAT + row + "\n")


@pytest.mark.parametrize(("name", "text"), [("train.jsonl", ""), ("train.json", "[]"), ("train.csv", "en,de\n\n")])
def test_an_empty_file_is_named(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=f"{name}: the train split is empty: it has no row to read"):
        translation_pairs(TranslationDataConfig(path=str(tmp_path)), "train")


def test_empty_sides_are_skipped_and_counted_when_asked(tmp_path, caplog):
    lines = FLAT + '{"en": "", "de": "b"}\n' + '{"en": "a", "de": " "}\n' + '{"en": "a", "de": null}\n' + NESTED
    with caplog.at_level(logging.WARNING):
        pairs = read(tmp_path, lines, skip_bad_rows=True)
    assert pairs == PAIRS[::-1]
    assert [record.getMessage() for record in caplog.records] == [
        f"left out 3 of 5 rows that lack text on a side, first {tmp_path}/train.jsonl:2: 'en' is empty"
    ]


def test_skipping_does_not_hide_other_faults(tmp_path):
    with pytest.raises(UserError, match="the number 1 in 'de'"):
        read(tmp_path, NESTED + '{"en": "a", "de": 1}', skip_bad_rows=True)


def test_skipping_is_no_way_out_when_every_row_is_empty(tmp_path):
    with pytest.raises(UserError, match=r"'en' is empty; all 1 of 1 rows lack text .* mend them$"):
        read(tmp_path, '{"en": "", "de": "b"}')


def test_skipping_every_row_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"'en' is empty; all 1 of 1 rows lack text .* leaves no row"):
        read(tmp_path, '{"en": "", "de": "b"}', skip_bad_rows=True)


def test_toy_rows_are_the_default(monkeypatch):
    asked = []

    def toy_rows(task, split, num_rows, seed):
        asked.append((task, split, num_rows, seed))
        return [{"translation": {"en": "A dog.", "de": "Ein Hund."}}]

    monkeypatch.setattr("vanilla_recipes.data.toy.toy_rows", toy_rows, raising=False)
    assert translation_pairs(TranslationDataConfig(), "train", seed=3) == PAIRS[:1]
    assert translation_pairs(TranslationDataConfig(num_test_rows=9), "test") == PAIRS[:1]
    assert asked == [("translation", "train", 20_000, 3), ("translation", "test", 9, 0)]


def test_hub_rows(monkeypatch):
    asked = []

    def load_dataset(name, config_name, split, revision, streaming):
        asked.append((name, config_name, split, revision, streaming))
        return datasets.Dataset.from_list([{"translation": {"en": "A dog.", "de": "Ein Hund."}}, {"translation": None}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    config = TranslationDataConfig(name="some/corpus", config_name="de-en", revision="v1", validation_split="dev")
    assert next(records(config, "translation", "validation")).fields["translation"]["de"] == "Ein Hund."
    assert asked == [("some/corpus", "de-en", "dev", "v1", False)]
    with pytest.raises(UserError, match=r"some/corpus dev row 1: no 'en' in this row, which has translation"):
        translation_pairs(config, "validation")


def test_hub_split_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "train.jsonl").write_text(FLAT)
    config = TranslationDataConfig(name=str(tmp_path), test_split="dev")
    with pytest.raises(
        UserError, match=r"the split 'dev' could not be loaded .* Should be one of \['train'\].*data.test"
    ):
        translation_pairs(config, "test")


def test_hub_that_refuses(monkeypatch):
    def load_dataset(name, *args, **kwargs):
        raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{name}' is a gated dataset on the Hub.")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    message = (
        r"^data.name=some/corpus: the Hub gives it to those alone who .* HF_TOKEN .*; data.path=FOLDER reads local"
    )
    with pytest.raises(UserError, match=message):
        translation_pairs(TranslationDataConfig(name="some/corpus"), "train")


def test_the_same_hub_split_twice_is_told(monkeypatch, caplog):
    rows = datasets.Dataset.from_list([{"en": "A dog.", "de": "Ein Hund."}])
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: rows)
    config = TranslationDataConfig(name="some/corpus", validation_split="train")
    translation_pairs(config, "train")
    assert not caplog.text
    translation_pairs(config, "validation")
    assert "the validation split is the train split, some/corpus train: " in caplog.text


def test_hub_out_of_reach(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = r"data.name=no/such: .* from the Hub: it cannot be reached \(HF_HUB_OFFLINE is set\), .*data.path=FOLDER"
    with pytest.raises(UserError, match=message):
        translation_pairs(TranslationDataConfig(name="no/such"), "train")


def test_a_split_can_be_declared_missing(tmp_path):
    config = TranslationDataConfig(path=str(tmp_path), test_split=None)
    with pytest.raises(UserError, match=r"data.test_split is null: there is no test split"):
        translation_pairs(config, "test")


def test_config_names_its_problems():
    config = TranslationDataConfig(num_test_rows=0, source_lang="de")
    assert dict(config.problems()) == {
        "num_test_rows": "must be 1 or greater, or null for all rows",
        "target_lang": "must differ from source_lang, 'de'",
    }
    assert list(DataConfig().problems()) == []


@pytest.mark.parametrize("module", [pairs, records_module, readers, splits])
def test_nothing_heavy_is_imported_before_rows_are_read(module):
    top = ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body
    names = [str(node.module) for node in top if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in top if isinstance(node, ast.Import) for alias in node.names]
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names | {"vanilla_recipes"}


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the Multi30k files are not here")
def test_multi30k_is_read_whole():
    config = TranslationDataConfig(path=str(REAL_DATA))
    assert [len(translation_pairs(config, split)) for split in ("train", "validation", "test")] == [29_000, 1014, 1000]
