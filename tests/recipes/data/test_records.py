"""Local files: which one holds a split, what is read from it, and one clear line for each fault."""

import gzip
import json
import re
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from vanilla_recipes.data.readers import read_records
from vanilla_recipes.data.splits import split_files
from vanilla_recipes.errors import UserError

ROWS = [{"en": "A dog.", "de": "Ein Hund."}, {"en": 'NA, "null"', "de": "größer\nals"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
ZIPPED = gzip.compress(LINES.encode(), mtime=0)  # the same in every process that collects these tests
CSV = 'en,de\nA dog.,Ein Hund.\n"NA, ""null""","größer\nals"\n'


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def fault(file: Path) -> str:
    """What is said of a file, on one line that begins with its name."""
    with pytest.raises(UserError) as caught:
        list(read_records(file))
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    return message.removeprefix(f"{file.parent}/")


@pytest.mark.parametrize(
    ("name", "content", "locations"),
    [
        ("a.jsonl", LINES, (":1", ":2")),
        ("a.jsonl", "\ufeff" + LINES.replace("\n", "\r\n"), (":1", ":2")),
        ("a.jsonl", LINES.replace("\n", "\n\n") + "  \n", (":1", ":3")),
        ("a.jsonl", LINES.rstrip("\n"), (":1", ":2")),
        ("a.JSONL", LINES, (":1", ":2")),
        ("a.json", LINES, (":1", ":2")),
        ("a.json", json.dumps(ROWS, indent=2), (" row 0", " row 1")),
        ("a.json", "\n" + json.dumps(ROWS, ensure_ascii=False), (" row 0", " row 1")),
        ("a.jsonl.gz", ZIPPED, (":1", ":2")),
        ("a.csv", CSV, (":2", ":3")),
        ("a.csv", "\ufeff" + CSV + "\n", (":2", ":3")),
        ("a.tsv", CSV.replace("en,de", "en\tde").replace("dog.,", "dog.\t").replace('""",', '"""\t'), (":2", ":3")),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0), (":2", ":3")),
    ],
)
def test_text_formats_give_the_same_rows(tmp_path, name, content, locations):
    file = written(tmp_path, name, content)
    found = list(read_records(file))
    assert [record.fields for record in found] == ROWS
    assert [record.location for record in found] == [f"{file}{location}" for location in locations]


def test_csv_lines_may_end_in_cr_lf(tmp_path):
    file = written(tmp_path, "a.csv", "en,de\r\na,b\r\n\r\nc,d\r\n")
    assert [(record.location[-2:], *record.fields.values()) for record in read_records(file)] == [
        (":2", "a", "b"),
        (":4", "c", "d"),
    ]


def test_a_single_column_may_have_any_name(tmp_path):
    file = written(tmp_path, "a.csv", '"Hello, world"\na;b\n')
    assert [record.fields for record in read_records(file)] == [{"Hello, world": "a;b"}]


def test_csv_takes_long_texts(tmp_path):
    file = written(tmp_path, "a.csv", "en,de\n" + "x" * 200_000 + ",b\n")
    assert [len(record.fields["en"]) for record in read_records(file)] == [200_000]


def test_parquet(tmp_path):
    rows = [*ROWS, {"en": None, "de": "b"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=1)
    found = list(read_records(tmp_path / "a.parquet"))
    assert [record.fields for record in found] == rows
    assert [record.location for record in found] == [f"{tmp_path}/a.parquet row {index}" for index in range(3)]


def test_parquet_keeps_nested_rows(tmp_path):
    rows = [{"translation": row} for row in ROWS]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [record.fields for record in read_records(tmp_path / "a.parquet")] == rows


@pytest.mark.parametrize("nested", [False, True])
def test_parquet_text_that_is_not_utf8_names_the_row(tmp_path, nested):
    texts = pyarrow.array([b"A dog.", b"gr\xfc\xdf", b"A cat."])
    table = pyarrow.table({"de": pyarrow.Array.from_buffers(pyarrow.string(), 3, texts.buffers())})
    if nested:
        table = pyarrow.table({"translation": table.to_struct_array()})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    message = "a.parquet row 1: not UTF-8: byte 0xfc at byte 3 of a text; write the file again with text in UTF-8"
    assert fault(tmp_path / "a.parquet") == message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", LINES * 8 + '{"en": "A dog.", "de"}\n' + LINES, "a.jsonl:17: broken JSON at character 22: Expect"),
        ("a.jsonl", '{"en": "A dog', "a.jsonl:1: broken JSON at character 8: Unterminated string"),
        ("a.json", '{"en":\n"a"}', "a.json:1: broken JSON at character 7: .* or the file one array of objects"),
        ("a.json", '[\n{"en": 1},\n{"en": }]', "a.json:3: broken JSON at character 8: Expecting value"),
        ("a.jsonl", LINES + '"A dog."\n', 'a.jsonl:3: the text "A dog." where an object with named fields belongs'),
        ("a.json", "[null]", "a.json row 0: null where an object"),
        ("a.jsonl", '{"en": ' + "[" * 10**6, "a.jsonl:1: JSON that cannot be read: maximum recursion depth"),
        ("a.jsonl", '{"en": ' + "1" * 10**4 + "}", "a.jsonl:1: JSON that cannot be read: Exceeds the limit"),
        ("a.jsonl", LINES.encode() + b'{"en": "gr\xfc\xdf"}', "a.jsonl:3: not UTF-8: byte 0xfc at byte 11 of the line"),
        ("a.jsonl", LINES.encode("utf-16"), "a.jsonl:1: not UTF-8: byte 0xff at byte 1 of the line"),
        ("a.csv", b"en,de\na,b\nc,\xe4\n", "a.csv:3: not UTF-8: byte 0xe4 at byte 3 of the line"),
        ("a.csv", "en,de\na,b,c\n", r"a.csv:2: 3 values where the header has 2 \(en, de\)"),
        ("a.csv", 'en,de\n"a\nb",c\nd\n', r"a.csv:4: 1 values where the header has 2 \(en, de\)"),
        ("a.csv", 'en,de\na,"b\nc,d\n', "a.csv:2: broken CSV: a quote that opens in this row is never closed"),
        ("a.csv", 'en,de\na,b\n"c" d,e\n', "a.csv:3: broken CSV: ',' expected after '\"'.*written twice"),
        ("a.csv", "en,de,en\na,b,c\n", "a.csv:1: the header repeats 'en'"),
        ("a.jsonl.gz", LINES, "a.jsonl.gz: not a gzip file, although its name ends in .gz"),
        (
            "a.jsonl.gz",
            ZIPPED[:-9],
            "a.jsonl.gz: the gzip file is cut short or damaged",
        ),
        ("a.parquet", LINES, "a.parquet: cannot be read as Parquet: "),
        ("a.parquet", "", "a.parquet: cannot be read as Parquet: .*; copy or write it again$"),
        (
            "a.csv",
            "en;de\na, b;c\n",
            "a.csv:1: the header is a single name, 'en;de': .* a semicolon between its values",
        ),
        ("a.csv", "en|de\na|b\n", "a.csv:1: the header is .* have a bar between its values, but a comma is read"),
        (
            "a.tsv",
            "en,de\na,b\n",
            "a.tsv:1: the header is .* have a comma between its values, but a tab is read; write",
        ),
    ],
)
def test_a_fault_is_one_line_that_says_where(tmp_path, name, content, message):
    assert re.match(message, fault(written(tmp_path, name, content)))


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    file = written(tmp_path, "a.jsonl", LINES)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert fault(file) == "a.jsonl: cannot be read: Permission denied"


def files_of(folder: Path, *names: str, split: str = "test", name: str | None = None) -> list[str]:
    for file in names:
        (folder / file).write_text(LINES)
    return [file.name for file in split_files(str(folder), split, name or split)]


@pytest.mark.parametrize(
    ("there", "name", "chosen"),
    [
        (["test.jsonl", "test_2016.jsonl", "train.jsonl"], "test", ["test.jsonl"]),
        (["test.parquet"], "test", ["test.parquet"]),
        (["test.tsv.gz", "test.txt"], "test", ["test.tsv.gz"]),
        (["test_2016_flickr.jsonl", "tester.jsonl"], "test", ["test_2016_flickr.jsonl"]),
        (["test-small.csv"], "test", ["test-small.csv"]),
        (["test.de.json"], "test", ["test.de.json"]),
        (["test_2016.jsonl", "test_2017.jsonl"], "test_2017", ["test_2017.jsonl"]),
        (["test.csv", "test.jsonl"], "test.csv", ["test.csv"]),
        (
            ["test-00001-of-00002.parquet", "test-00000-of-00002.parquet"],
            "test",
            ["test-00000-of-00002.parquet", "test-00001-of-00002.parquet"],
        ),
    ],
)
def test_the_file_of_a_split(tmp_path, there, name, chosen):
    assert files_of(tmp_path, *there, name=name) == chosen


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (
            ["test.csv", "test.jsonl"],
            "2 files could be the test split: test.csv, test.jsonl. .* data.test_split=test.csv",
        ),
        (["test_a.jsonl", "test_b.jsonl"], "2 files could be the test split: test_a.jsonl, test_b.jsonl"),
        (
            ["train.jsonl", "notes.txt"],
            "no file for the test split, test.jsonl .* the folder has: train.jsonl. .*test_split=FILE",
        ),
        (["notes.txt"], "the folder has: no file that ends in .jsonl, .json, .csv, .tsv, .parquet"),
        (
            ["test-00001-of-00002.csv", "test-00002-of-00002.csv"],
            "parts of a split must be numbered 0 to 1 without gaps; the folder has: ",
        ),
        (
            ["test-00000-of-00003.csv", "test-00002-of-00003.csv"],
            "parts of a split must be numbered 0 to 2 without gaps",
        ),
    ],
)
def test_a_folder_without_the_split(tmp_path, there, message):
    with pytest.raises(UserError, match=message):
        files_of(tmp_path, *there)


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=f"data.path=nowhere: no such file or folder .looked for {Path.cwd()}/nowhere"):
        split_files("nowhere", "train", "train")


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(UserError, match=f"data.path={tmp_path}: cannot be listed: Permission denied"):
        split_files(str(tmp_path), "train", "train")


def test_a_file_stands_for_the_train_split(tmp_path):
    file = written(tmp_path, "mine.jsonl", LINES)
    written(tmp_path, "held-out.csv", CSV)
    assert split_files(str(file), "train", "train") == [file]
    assert split_files(str(file), "test", "held-out.csv") == [tmp_path / "held-out.csv"]
    with pytest.raises(
        UserError, match=r"mine.jsonl is one file, .* no validation split. .* data.validation_split=FILE"
    ):
        split_files(str(file), "validation", "validation")


def test_a_file_of_another_kind(tmp_path):
    with pytest.raises(UserError, match=r"unknown kind of file; the name must end in \.jsonl, \.json, \.csv"):
        split_files(str(written(tmp_path, "a.txt", LINES)), "train", "train")


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path, "train.jsonl", LINES)
    assert split_files("~", "train", "train") == [tmp_path / "train.jsonl"]
