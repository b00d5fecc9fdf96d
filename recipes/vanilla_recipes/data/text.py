"""Reads rows of text, or of prompts with completions.

The source is the built-in story corpus, the Hub, files with one record per row, or .txt files. A .txt file is one text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vanilla_recipes.data.readers import data_suffix, read_text
from vanilla_recipes.data.records import Split, StreamedDataConfig, records, report_empty, text_of
from vanilla_recipes.data.splits import SUFFIXES, note_same_source
from vanilla_recipes.data.streams import stream_problems
from vanilla_recipes.errors import UserError

TXT = ".txt"


@dataclass(frozen=True)
class TextDataConfig(StreamedDataConfig):
    """Text rows. `path` may also be a .txt file, or a folder with `train.txt` and so on.

    Args:
        text_field: name of the field with the text.
        rows_are: `documents`: every row is a separate document. `pieces`: the rows are joined without a separator and
            form one longer text; a row may be blank.
        validation_share: fraction of the characters, at the end of the text, that is the validation split. Used if
            `path` is one .txt file and `validation_split` names no .txt file.
        layout: `blocks` joins the rows and cuts the result every `block_size` tokens; `documents` keeps every row
            separate.
        block_size: number of tokens of a block, or the maximum number of tokens of a document; a longer document is
            truncated.
    """

    test_split: str | None = None
    text_field: str = "text"
    rows_are: Literal["documents", "pieces"] = "documents"
    validation_share: float = 0.1
    layout: Literal["blocks", "documents"] = "blocks"
    block_size: int = 256

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if not 0 < self.validation_share < 1:
            yield "validation_share", "must be greater than 0 and less than 1"
        if self.block_size < 2:
            yield "block_size", "must be 2 or greater"
        if self.rows_are == "pieces" and self.layout == "documents":
            yield "rows_are", "must be documents with data.layout=documents: pieces can only be joined into blocks"


@dataclass(frozen=True)
class PromptDataConfig(TextDataConfig):
    """Text rows, or prompts with completions.

    Args:
        prompt_field: name of the field with the prompt; replaces `text_field`. Null for text rows.
        completion_field: name of the field with the completion. Only tokens of the completion are targets.
    """

    prompt_field: str | None = None
    completion_field: str | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if (self.prompt_field is None) != (self.completion_field is None):
            name = "prompt_field" if self.prompt_field is None else "completion_field"
            yield name, "must name a field: a prompt and its completion belong together"
        elif self.has_prompts and self.prompt_field == self.completion_field:
            yield "completion_field", "must differ from prompt_field"
        if self.has_prompts and self.layout == "blocks":
            yield "layout", "must be documents with data.prompt_field: blocks would join different prompts"

    @property
    def has_prompts(self) -> bool:
        """Whether rows are prompts with completions."""
        return self.prompt_field is not None


class PromptPair(NamedTuple):
    """A prompt and its completion."""

    prompt: str
    completion: str


def text_problems(experiment: Any) -> Iterator[tuple[str, str]]:
    """Yields the settings of a run on text that contradict another setting, with the rule that they break.

    Args:
        experiment: an experiment whose `data` is a `TextDataConfig` and whose `tokenizer` has a `name`.
    """
    if experiment.pretrained and experiment.tokenizer.name:
        yield "tokenizer.name", "must be null with model.pretrained, whose tokenizer is used"
    if experiment.batch.packing and experiment.data.layout == "blocks":
        yield "batch.packing", "must be false with data.layout=blocks: blocks have no padding"
    yield from stream_problems(experiment.data, experiment.max_duration)


def texts(config: TextDataConfig, split: Split, seed: int = 0) -> Iterator[str]:
    """Yields the texts of one split in the order of the data, after checking each text.

    Args:
        config: the source of the texts.
        split: the split to read.
        seed: seed of the built-in story corpus.

    Raises:
        UserError: If the data cannot be read or a row breaks a rule; the message names the file and line. Empty
            documents are reported together at the end. With `data.streaming` the first one is reported at once.
    """
    limit, num_kept = config.num_rows(split), 0
    empty: list[str] = []
    for location, text in _located_texts(config, split, seed):
        if config.rows_are == "documents" and not text.strip():
            empty.append(f"{location}: the text is empty")
            if config.stops_at_bad_row:
                break
            continue
        yield text
        num_kept += 1
        if num_kept == limit:
            break
    report_empty(empty, num_kept, config.skip_bad_rows, "have no text", "a document needs text")


def prompt_pairs(config: PromptDataConfig, split: Split, seed: int = 0) -> Iterator[PromptPair]:
    """Yields the prompt and the completion of each row of one split, in the order of the data.

    Args:
        config: the source of the rows.
        split: the split to read.
        seed: seed of the built-in story corpus.

    Raises:
        UserError: If the data cannot be read, or a prompt or a completion is missing, blank or not text. Rows with a
            blank text are reported together at the end. With `data.streaming` the first such row is reported at once.
    """
    assert config.prompt_field is not None, "prompt_pairs reads data with prompts"
    assert config.completion_field is not None, "the configuration names both fields or none"
    limit, num_kept = config.num_rows(split), 0
    empty: list[str] = []
    for location, fields in records(config, "stories", split, seed):
        prompt = text_of(location, fields, config.prompt_field, "data.prompt_field")
        completion = text_of(location, fields, config.completion_field, "data.completion_field")
        if not prompt.strip() or not completion.strip():
            name = config.completion_field if prompt.strip() else config.prompt_field
            empty.append(f"{location}: {name!r} is empty")
            if config.stops_at_bad_row:
                break
            continue
        yield PromptPair(prompt, completion)
        num_kept += 1
        if num_kept == limit:
            break
    report_empty(empty, num_kept, config.skip_bad_rows, "lack text", "a prompt and its completion need text")


def _located_texts(config: TextDataConfig, split: Split, seed: int) -> Iterator[tuple[str, str]]:
    """Yields each text with its location, such as the file and line."""
    path = None if config.path is None else Path(config.path).expanduser()
    plain = None if path is None else _plain_text(path, config, split)
    if path is not None and plain is not None:
        note_same_source(split, plain[0], str(_in_folder(path, "train", config.train_split) if path.is_dir() else path))
        if config.streaming and split == "train":
            raise UserError(
                f"data.streaming=true: {plain[0]} is plain text, which is read as a whole; give a file with one text "
                "in each row, such as .jsonl, or set data.streaming=false"
            )
        yield plain
        return
    for location, fields in records(config, "stories", split, seed):
        yield location, text_of(location, fields, config.text_field, "data.text_field")


def _plain_text(path: Path, config: TextDataConfig, split: Split) -> tuple[str, str] | None:
    """Returns the location and text of a split that is a .txt file or a part of one; None for any other file."""
    name = config.split_name(split)
    if name is None:
        return None
    if path.is_dir():
        file = _in_folder(path, split, name)
        return None if file is None else (str(file), read_text(file))
    if not path.is_file() or data_suffix(path):
        return None
    if path.suffix.lower() != TXT:
        raise UserError(f"data.path={path}: unknown kind of file; the name must end in {TXT}, {SUFFIXES} (.gz allowed)")
    if split != "train" and name.endswith(TXT):
        return str(path.with_name(name)), read_text(path.with_name(name))
    return _part(path, config, split)


def _in_folder(folder: Path, split: Split, name: str) -> Path | None:
    """Returns the .txt file of a split; None if the folder has no .txt file for it but files with records.

    Raises:
        UserError: If the folder has only .txt files, and none of these files is for this split.
    """
    files = sorted(file.name for file in folder.glob(f"*{TXT}"))
    chosen = next((file for file in (name, f"{name}{TXT}") if file in files), None)
    if chosen is None and files and not any(data_suffix(file) for file in folder.iterdir()):
        missing = name if name.endswith(TXT) else f"{name}{TXT}"
        way_out = f"Set data.{split}_split to one of these"
        if split == "validation":
            way_out += ", or set data.path to one file: the last part of its text is then the validation split"
        raise UserError(
            f"{folder}: there is no {missing} for the {split} split; the folder has: {', '.join(files)}. {way_out}"
        )
    return None if chosen is None else folder / chosen


def _part(path: Path, config: TextDataConfig, split: Split) -> tuple[str, str]:
    """Returns the location and text of the training or validation split of a single .txt file."""
    if split == "test":
        raise UserError(
            f"data.path={path} is one file, so there is no {split} split: name another file in the same folder with "
            f"data.{split}_split=FILE{TXT}, or run without this split with data.{split}_split=null"
        )
    text = read_text(path)
    if config.validation_split.endswith(TXT):
        return str(path), text
    cut = int(len(text) * (1 - config.validation_share))
    return (str(path), text[:cut]) if split == "train" else (f"{path} from character {cut + 1}", text[cut:])
