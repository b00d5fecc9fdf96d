"""Labelled texts from each kind of source, their classes, and what happens to bad ones."""

import ast
import json
import logging
import sys
from pathlib import Path

import datasets
import pytest
from project import SHARED

from vanilla_recipes.data import labelled
from vanilla_recipes.data.labelled import Classes, LabelledDataConfig, LabelledRow, classes_of, labelled_rows
from vanilla_recipes.errors import UserError

REAL_DATA = SHARED / "data/classification/sst2"

GOOD, BAD = {"text": "A fine film.", "label": 1}, {"text": "A dull film.", "label": 0}


def write(folder: Path, *rows: dict | str) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read(folder: Path, *rows: dict | str, **settings) -> list[LabelledRow]:
    write(folder, *rows)
    return labelled_rows(LabelledDataConfig(path=str(folder), **settings), "train")


def classes(folder: Path, labels: list, **settings) -> Classes:
    config = LabelledDataConfig(path=str(folder), **settings)
    return classes_of(config, read(folder, *({"text": "a", "label": label} for label in labels)))


def test_texts_and_pairs_are_read(tmp_path):
    place = f"{tmp_path}/train.jsonl"
    assert read(tmp_path, GOOD, BAD) == [
        (f"{place}:1", "A fine film.", None, 1),
        (f"{place}:2", "A dull film.", None, 0),
    ]
    row = {"premise": "It rains.", "hypothesis": "It is wet.", "gold": "entailment", "id": 3}
    fields = {"text_field": "premise", "pair_field": "hypothesis", "label_field": "gold"}
    assert read(tmp_path, row, **fields) == [(f"{place}:1", "It rains.", "It is wet.", "entailment")]


def test_num_rows_caps_the_rows(tmp_path):
    assert len(read(tmp_path, GOOD, BAD, "broken, but never reached", num_train_rows=2)) == 2


def test_toy_rows_are_the_default():
    rows = labelled_rows(LabelledDataConfig(num_train_rows=10), "train", seed=3)
    assert [row.label in (0, 1) for row in rows] == [True] * 10
    assert rows == labelled_rows(LabelledDataConfig(num_train_rows=10), "train", seed=3)


def test_classes_are_the_labels_in_order(tmp_path):
    assert classes(tmp_path, [10, 9, 9, 10, 2, 2]).names == ("2", "9", "10")
    assert classes(tmp_path, ["b", "a", "b", "a"]).names == ("a", "b")


def test_numbers_of_the_classes(tmp_path):
    rows = read(tmp_path, *({"text": "a", "label": label} for label in (9, 10, 9)))
    assert Classes(("9", "10")).numbers(rows) == [0, 1, 0]


def test_named_classes_take_numbers_and_names(tmp_path):
    names = ["negative", "positive"]
    named = classes(tmp_path, [0, 1, 0, 1], label_names=names)
    assert named.names == ("negative", "positive")
    for labels in ([1, 0], ["1", "0"], ["positive", "negative"]):
        assert named.numbers(read(tmp_path, *({"text": "a", "label": label} for label in labels))) == [1, 0]


def test_a_csv_file_holds_texts(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\na,1\nb,0\nc,1\nd,0\n")
    config = LabelledDataConfig(path=str(tmp_path))
    rows = labelled_rows(config, "train")
    assert classes_of(config, rows).numbers(rows) == [1, 0, 1, 0]


def hub(monkeypatch, features: datasets.Features | None) -> LabelledDataConfig:
    rows = datasets.Dataset.from_list([{"text": "a", "label": label} for label in (1, 0, 1, 0)], features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    return LabelledDataConfig(name="some/reviews")


def test_a_hub_dataset_names_its_classes(monkeypatch):
    features = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos", "unused"])}
    config = hub(monkeypatch, datasets.Features(features))
    rows = labelled_rows(config, "train")
    assert classes_of(config, rows) == Classes(("neg", "pos", "unused"), are_numbered=True)


def test_a_hub_dataset_need_not_name_them(monkeypatch):
    config = hub(monkeypatch, None)
    assert classes_of(config, labelled_rows(config, "train")).names == ("0", "1")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"sentence": "b", "label": 0}, r":2: no 'text' in this row, which has sentence, label; .* data\.text_field="),
        ({"text": "b", "gold": 0}, r":2: no 'label' in this row, which has text, gold; .* data\.label_field="),
        ({"text": 4, "label": 0}, r":2: the number 4 in 'text', where text belongs"),
        ({"text": "b", "label": None}, r":2: null in 'label', where a label belongs, a whole number or a text; mend"),
        ({"text": "b", "label": 0.5}, r":2: the number 0\.5 in 'label', where a label belongs"),
        ({"text": "b", "label": 1.0}, r":2: the number 1\.0 in 'label', where a label belongs"),
        ({"text": "b", "label": True}, r":2: the truth value true in 'label', where a label belongs"),
        ({"text": "b", "label": " "}, r":2: the text \" \" in 'label', where a label belongs"),
        ({"text": "b", "label": [1]}, r":2: the list \[1\] in 'label', where a label belongs"),
        ({"text": "b", "label": "\ud800"}, r":2: half a surrogate pair in 'label'"),
        (
            {"text": "b", "label": "0"},
            r":2: the text \"0\" is the label, but the label of .*:1 is the number 1; write",
        ),
        ({"text": None, "label": 0}, r":2: 'text' is empty, and a row needs text; 1 of 2 rows .*skip_bad_rows=true"),
        ({"text": " ", "label": 0}, r":2: 'text' is empty, and a row needs text; 1 of 2 rows .*skip_bad_rows=true"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    with pytest.raises(UserError, match=r"train\.jsonl" + message):
        read(tmp_path, GOOD, row)


def test_a_pair_needs_both_texts(tmp_path):
    with pytest.raises(UserError, match=r":1: no 'other' in this row, which has text, label; .* data\.pair_field="):
        read(tmp_path, GOOD, pair_field="other")
    with pytest.raises(UserError, match=r":1: 'other' is empty"):
        read(tmp_path, GOOD | {"other": "\t"}, pair_field="other")


def test_empty_texts_are_skipped_and_counted_when_asked(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        rows = read(tmp_path, GOOD, {"text": "", "label": 0}, {"text": None, "label": 0}, BAD, skip_bad_rows=True)
    assert [row.label for row in rows] == [1, 0]
    expected = f"left out 2 of 4 rows that lack text, first {tmp_path}/train.jsonl:2: 'text' is empty"
    assert caplog.messages == [expected]


def test_an_empty_split_is_named(tmp_path):
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(UserError, match=r"train\.jsonl: the train split is empty: it has no row to read"):
        labelled_rows(LabelledDataConfig(path=str(tmp_path)), "train")


def test_one_class_is_refused(tmp_path):
    with pytest.raises(UserError, match=r":1: all 3 training rows have the label 7, but a .* data\.label_field="):
        classes(tmp_path, [7, 7, 7])
    with pytest.raises(UserError, match=r"all 2 training rows have the label 1"):
        classes(tmp_path, [1, 1], label_names=["a", "b"])


def test_a_field_that_is_no_class_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.label_field=label: 9 different labels in 9 training rows, 0 for one"):
        classes(tmp_path, list(range(9)))


def test_labels_outside_the_set_are_named(tmp_path):
    found = Classes(("negative", "positive"), are_numbered=True)
    for label, message in (
        (2, r":1: the number 2 is no label: the classes are 'negative', 'positive'; mend the row, or name all"),
        ("meh", r":1: the text \"meh\" is no label"),
        (-1, r":1: the number -1 is no label: .*; -1 marks rows without a label, .* data\.test_split=null"),
    ):
        with pytest.raises(UserError, match=message):
            found.numbers(read(tmp_path, {"text": "a", "label": label}))


def test_a_long_list_of_classes_is_cut_short(tmp_path):
    rows = read(tmp_path, {"text": "a", "label": "meh"})
    with pytest.raises(UserError, match=r"the classes are '0', .*'19', \.\.\.; mend"):
        Classes(tuple(map(str, range(30)))).numbers(rows)


def test_config_names_its_problems():
    config = LabelledDataConfig(pair_field="text", label_field="text", label_names=["a", "a"])
    assert dict(config.problems()) == {
        "pair_field": "must differ from text_field, 'text', or be null for one text",
        "label_field": "must differ from the fields of the texts",
        "label_names": "must be two or more different names, or null",
    }
    assert list(LabelledDataConfig(label_names=["a", "b"]).problems()) == []


def test_nothing_heavy_is_imported_before_rows_are_read():
    top = ast.parse(Path(labelled.__file__).read_text(encoding="utf-8")).body
    names = [str(node.module) for node in top if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in top if isinstance(node, ast.Import) for alias in node.names]
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names | {"vanilla_recipes"}


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the SST-2 files are not here")
def test_sst2_is_read_whole():
    config = LabelledDataConfig(path=str(REAL_DATA), text_field="sentence")
    assert [len(labelled_rows(config, split)) for split in ("train", "validation")] == [67_349, 872]
