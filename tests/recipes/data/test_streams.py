"""Streams: every segment is a function of its number, each row comes once a pass, and only a segment is read ahead."""

import json
from collections import Counter
from itertools import count

import pytest

from vanilla_recipes.data.pairs import TranslationDataConfig, read_translation_pairs
from vanilla_recipes.data.streams import Stream, by_segment, open_stream, stream_problems
from vanilla_recipes.data.text import TextDataConfig, texts
from vanilla_recipes.errors import UserError
from vanilla_recipes.settings.durations import Duration


def stream_of(total: int, num_items: int) -> Stream[int]:
    return Stream(lambda: iter(range(total)), num_items)


@pytest.mark.parametrize(("total", "num_items"), [(10, 4), (12, 4), (4, 4), (3, 4), (1, 4), (9, 1), (100, 7)])
def test_segments_are_cuts_of_the_repeated_stream(total, num_items):
    size = min(total, num_items)
    for number in range(12):
        expected = [(number * num_items + place) % total for place in range(size)]
        assert stream_of(total, num_items).segment(number) == expected


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5, 6], [0, 5, 6], [3, 1, 1, 6, 0], [6, 2]])
def test_a_segment_does_not_depend_on_what_was_read_before(order):
    stream = stream_of(10, 4)
    for number in order:
        assert stream.segment(number) == stream_of(10, 4).segment(number)


def test_every_item_once_a_pass():
    stream = stream_of(10, 4)
    found = Counter(item for number in range(5) for item in stream.segment(number))
    assert found == dict.fromkeys(range(10), 2)


def test_no_more_than_a_segment_is_read():
    source = count()
    stream = Stream(lambda: source, 5)
    assert stream.segment(0) == [0, 1, 2, 3, 4]
    assert next(source) == 5


def test_segments_are_encoded_when_they_are_asked_for_and_once():
    encoded = []

    def encode(items):
        encoded.append(items)
        return sum(items)

    corpora = by_segment(stream_of(6, 2), -1, encode)
    assert [corpora(0), corpora(1), corpora(1), corpora(2)] == [-1, 5, 5, 9]
    assert encoded == [[2, 3], [4, 5]]
    assert by_segment(None, -1, encode)(7) == -1


def write_pairs(folder, texts):
    lines = [json.dumps({"en": text, "de": text}) for text in texts]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")


def segments_of(folder, **settings):
    config = TranslationDataConfig(path=str(folder), streaming=True, segment_rows=3, **settings)
    return open_stream(config, lambda: read_translation_pairs(config, "train"))


def test_rows_of_a_file(tmp_path):
    write_pairs(tmp_path, "abcdefgh")
    stream = segments_of(tmp_path)
    assert ["".join(pair.source for pair in stream.segment(number)) for number in range(4)] == [
        "abc", "def", "gha", "bcd",
    ]  # fmt: skip


def test_a_bad_row_is_reported_when_it_is_met(tmp_path):
    write_pairs(tmp_path, ["a", "b", "c", "d", " ", "f"])
    stream = segments_of(tmp_path)
    assert len(stream.segment(0)) == 3
    with pytest.raises(UserError, match=r"train\.jsonl:5: 'en' is empty, and a pair needs text on both sides; 1 of 5"):
        stream.segment(1)


def test_bad_rows_left_out_move_the_others_up(tmp_path):
    write_pairs(tmp_path, ["a", " ", "c", "d", " ", "f", "g"])
    stream = segments_of(tmp_path, skip_bad_rows=True)
    assert [pair.source for pair in stream.segment(0)] == ["a", "c", "d"]
    assert [pair.source for pair in stream.segment(1)] == ["f", "g", "a"]


def test_a_limit_ends_the_pass(tmp_path):
    write_pairs(tmp_path, "abcdefgh")
    assert [pair.source for pair in segments_of(tmp_path, num_train_rows=4).segment(1)] == ["d", "a", "b"]


def test_a_dataset_of_the_hub_is_streamed(tmp_path, monkeypatch):
    """A local folder, which `datasets` loads by the same call; broken rows behind the segment are not met."""
    write_pairs(tmp_path, "abcdefgh")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = TranslationDataConfig(name=str(tmp_path), streaming=True, segment_rows=3)
    stream = open_stream(config, lambda: read_translation_pairs(config, "train"))
    assert [pair.source for pair in stream.segment(2)] == ["g", "h", "a"]


def test_a_plain_text_is_not_streamed(tmp_path):
    (tmp_path / "train.txt").write_text("a text")
    with pytest.raises(UserError, match=r"data\.streaming=true: .*train\.txt is plain text, which is read as a whole"):
        next(texts(TextDataConfig(path=str(tmp_path), streaming=True), "train"))


@pytest.mark.parametrize("config", [TranslationDataConfig, TextDataConfig])
def test_wrong_settings(config):
    assert ("segment_rows", "must be 1 or greater") in config(segment_rows=0).problems()
    epochs, steps = Duration.parse("2 epochs"), Duration.parse("2 steps")
    assert [name for name, _ in stream_problems(config(streaming=True), epochs)] == ["max_duration"]
    assert not list(stream_problems(config(streaming=True), steps))
    assert not list(stream_problems(config(), epochs))


def test_without_streaming_there_is_no_stream():
    assert open_stream(TranslationDataConfig(), lambda: iter([])) is None
