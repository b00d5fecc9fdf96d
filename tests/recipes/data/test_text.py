"""Plain text and prompts from each kind of source, and what happens to bad ones."""

import json
import logging

import pytest

from vanilla_recipes.data.text import PromptDataConfig, PromptPair, TextDataConfig, prompt_pairs, texts
from vanilla_recipes.errors import UserError

PROMPTS = {"prompt_field": "question", "completion_field": "answer", "layout": "documents"}


def read(path, split="train", **settings) -> list[str]:
    return list(texts(TextDataConfig(path=str(path), **settings), split))


def read_pairs(folder, *rows, **settings) -> list[PromptPair]:
    (folder / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return list(prompt_pairs(PromptDataConfig(path=str(folder), **PROMPTS, **settings), "train"))


def test_built_in_stories():
    config = TextDataConfig(num_train_rows=5, num_validation_rows=3)
    train, validation = list(texts(config, "train", 1)), list(texts(config, "validation", 1))
    assert (len(train), len(validation)) == (5, 3)
    assert all(text.endswith(('.', '"')) for text in train)  # fmt: skip


def test_records_of_any_field_are_kept_as_they_stand(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"story": " a\\u2028b\\n", "id": 1}\n{"story": "c"}\n')
    assert read(tmp_path, text_field="story") == [" a\u2028b\n", "c"]


def test_the_end_of_a_single_file_is_the_validation_split(tmp_path):
    """As nanoGPT divides tiny Shakespeare: the first int(0.9 n) characters train."""
    file = tmp_path / "input.txt"
    file.write_bytes(("äb\r\n" * 25 + "x").encode())
    whole = file.read_bytes().decode()
    assert read(file) == [whole[: int(101 * 0.9)]]
    assert read(file, "validation") == [whole[90:]]
    assert read(file, "validation", validation_share=0.5) == [whole[50:]]


def test_files_of_text_in_a_folder(tmp_path):
    for name in ("train", "validation", "other"):
        (tmp_path / f"{name}.txt").write_text(name)
    assert read(tmp_path) == ["train"]
    assert read(tmp_path, "validation") == ["validation"]
    assert read(tmp_path, "test", test_split="other.txt") == ["other"]
    assert read(tmp_path / "train.txt", "validation", validation_split="other.txt") == ["other"]
    assert read(tmp_path / "train.txt", validation_split="other.txt") == ["train"]


def test_blank_pieces_are_text_and_blank_documents_are_not(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "a\\n"}\n{"text": ""}\n{"text": "\\n"}\n')
    assert read(tmp_path, rows_are="pieces") == ["a\n", "", "\n"]
    with pytest.raises(UserError, match=r"train\.jsonl:2: the text is empty, and a document needs text; 2 of 3 rows"):
        read(tmp_path)


def test_blank_documents_can_be_left_out(tmp_path, caplog):
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n{"text": " "}\n{"text": null}\n{"text": "b"}\n')
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path, skip_bad_rows=True) == ["a", "b"]
    assert "left out 2 of 4 rows that have no text, first " in caplog.text
    assert read(tmp_path, skip_bad_rows=True, num_train_rows=1) == ["a"]


def test_prompts_with_completions(tmp_path):
    rows = [{"question": "2 + 2 =", "answer": " 4", "id": 1}, {"question": "Why?", "answer": "So."}]
    assert read_pairs(tmp_path, *rows) == [PromptPair("2 + 2 =", " 4"), PromptPair("Why?", "So.")]
    assert read_pairs(tmp_path, *rows, num_train_rows=1) == [PromptPair("2 + 2 =", " 4")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "a"}, r"train\.jsonl:2: no 'answer' in this row, which has question; .* data\.completion_field="),
        ({"answer": "a"}, r"train\.jsonl:2: no 'question' in this row, which has answer; .* data\.prompt_field="),
        ({"question": "a", "answer": 4}, r"train\.jsonl:2: the number 4 in 'answer', where text belongs"),
        ({"question": "a", "answer": " "}, r"train\.jsonl:2: 'answer' is empty, and a prompt and its completion need"),
        ({"question": None, "answer": "a"}, r"train\.jsonl:2: 'question' is empty, .*; 1 of 2 rows lack text\."),
        ({"question": "", "answer": "a"}, r"train\.jsonl:2: 'question' is empty, .*; 1 of 2 rows lack text\."),
    ],
)
def test_a_bad_pair_is_named(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        read_pairs(tmp_path, {"question": "a", "answer": "b"}, row)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"input\.txt: the text is empty"),
        (b" \n\t", r"input\.txt: the text is empty"),
        (b"one\ntw\xff\n", r"input\.txt:2: not UTF-8: byte 0xff at byte 3 of the line; save the file as UTF-8"),
    ],
)
def test_a_bad_text_file_is_named(tmp_path, content, message):
    (tmp_path / "input.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path / "input.txt")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"input\.txt: no such file or folder"):
        read(tmp_path / "input.txt")
    (tmp_path / "notes.md").write_text("a")
    with pytest.raises(UserError, match=r"notes\.md: unknown kind of file; the name must end in \.txt, \.jsonl, "):
        read(tmp_path / "notes.md")
    (tmp_path / "input.txt").write_text("a")
    with pytest.raises(
        UserError,
        match=r"there is no train\.txt for the train split; the folder has: input\.txt\. Set data",
    ):
        read(tmp_path)
    with pytest.raises(UserError, match=r"is one file, so there is no test split: .*data\.test_split=null"):
        read(tmp_path / "input.txt", "test", test_split="test")
    with pytest.raises(UserError, match=r"other\.txt: cannot be read: No such file"):
        read(tmp_path / "input.txt", "validation", validation_split="other.txt")


def test_a_text_file_that_is_trained_and_scored_on_is_told(tmp_path, caplog):
    (tmp_path / "input.txt").write_text("A long text. " * 20)
    read(tmp_path / "input.txt", "validation")
    read(tmp_path, "train", train_split="input")
    assert not caplog.text
    read(tmp_path / "input.txt", "validation", validation_split="input.txt")
    read(tmp_path, "test", train_split="input", test_split="input.txt")
    file = tmp_path / "input.txt"
    for split, message in zip(("validation", "test"), caplog.messages, strict=True):
        assert message.startswith(f"the {split} split is the train split, {file}: its scores measure")


def test_a_missing_field_names_those_that_there_are(tmp_path):
    (tmp_path / "train.csv").write_text("body,title\na,b\n")
    with pytest.raises(UserError, match=r"train\.csv:2: no 'text' in this row, which has body, title; .*text_field="):
        read(tmp_path)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"validation_share": 0.0}, "validation_share"),
        ({"validation_share": 1.0}, "validation_share"),
        ({"block_size": 1}, "block_size"),
        ({"rows_are": "pieces", "layout": "documents"}, "rows_are"),
        ({"prompt_field": "a"}, "completion_field"),
        ({"completion_field": "a"}, "prompt_field"),
        ({"prompt_field": "a", "completion_field": "b"}, "layout"),
        ({"prompt_field": "a", "completion_field": "a", "layout": "documents"}, "completion_field"),
    ],
)
def test_settings_that_do_not_go_together(settings, field):
    assert field in [name for name, _ in PromptDataConfig(**settings).problems()]
    assert not list(PromptDataConfig(**PROMPTS).problems())
