"""The pipelines that transformers 5 removed: translation, summarization and text2text-generation.

They accept any encoder-decoder that `AutoModelForSeq2SeqLM` loads, of this package or not, and return results in the
format of transformers 4.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
import transformers
from tqdm.auto import tqdm
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from vanilla_transformers.text.answers import (
    Answer,
    default_batch_tokens,
    generate_answers,
    longest_answer,
    longest_input,
)
from vanilla_transformers.text.batches import in_windows, length_sorted_batches
from vanilla_transformers.text.cache_check import with_right_cache
from vanilla_transformers.text.languages import Direction, language_codes, set_direction
from vanilla_transformers.text.sentences import join_sentences, split_sentences

logger = logging.getLogger(__name__)

_RESULTS = {
    "translation": "translation_text",
    "summarization": "summary_text",
    "text2text-generation": "generated_text",
}
_NAMED_PAIR = re.compile(r"translation_(\w+)_to_(\w+)")
_LOADING = ("revision", "token", "trust_remote_code", "device_map")


def pipeline(
    task: str,
    model: str | PreTrainedModel | None = None,
    tokenizer: str | PreTrainedTokenizerBase | None = None,
    device: str | int | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    **kwargs: Any,
) -> Any:
    """Makes a pipeline for a task.

    "translation" (also as "translation_en_to_de"), "summarization" and "text2text-generation" give a
    [`Text2TextPipeline`]. Every other task is passed to `transformers.pipeline` unchanged.

    Args:
        task: the name of the task.
        model: a folder, a name on the Hub, or a loaded model.
        tokenizer: a folder, a name on the Hub, or a loaded tokenizer; by default the tokenizer in the model's folder.
            Required beside a loaded model.
        device: the device of the model; by default an accelerator if one is available. A loaded model stays on its
            device by default.
        dtype: the dtype of the weights; by default the dtype of the checkpoint. With "int8", CTranslate2 generates.
        kwargs: `revision`, `token`, `trust_remote_code` and `device_map` are used for loading. Any other option is an
            option of the pipeline, see [`Text2TextPipeline`].

    Raises:
        ValueError: if the model or the tokenizer is missing, or the model does not support an option.
        InteropError: if `dtype` is "int8", and CTranslate2 is not installed or cannot represent the model.
    """
    if task not in _RESULTS and not _NAMED_PAIR.fullmatch(task):
        given = {"model": model, "tokenizer": tokenizer, "device": device, "dtype": dtype}
        others: Any = transformers.pipeline  # typed as Any, because `pipeline` has an overload for each task
        made = others(task, **{name: value for name, value in given.items() if value is not None}, **kwargs)
        if isinstance(made.model, PreTrainedModel):
            with_right_cache(made.model)
        return made
    loading = {name: kwargs.pop(name) for name in _LOADING if name in kwargs}
    if model is None:
        raise ValueError(f"{task}: model is missing; give a folder, a name on the Hub, or a model")
    if tokenizer is None and not isinstance(model, str):
        raise ValueError(f"{task}: tokenizer is missing; it must be given beside a model that is loaded already")
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        names = {name: value for name, value in loading.items() if name != "device_map"}
        tokenizer = AutoTokenizer.from_pretrained(tokenizer or model, **names)
    is_int8 = dtype == "int8"
    found = with_right_cache(_on_device(model, device, None if is_int8 else dtype, loading))
    if is_int8:
        from vanilla_transformers.interop.ctranslate2_search import generate_with_ctranslate2

        found = generate_with_ctranslate2(found, tokenizer)
    return Text2TextPipeline(task, found, tokenizer, **kwargs)


def _on_device(
    model: str | PreTrainedModel,
    device: str | int | torch.device | None,
    dtype: str | torch.dtype | None,
    loading: Mapping[str, Any],
) -> PreTrainedModel:
    """The model on its device, loaded first if it is given by folder or name."""
    found: Any = model
    if isinstance(model, str):
        found = AutoModelForSeq2SeqLM.from_pretrained(model, dtype=dtype or "auto", **loading)
        if device is None and "device_map" not in loading:
            device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    elif dtype is not None:
        found.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)
    return found if device is None else found.to(_torch_device(device))


def _torch_device(device: str | int | torch.device) -> torch.device:
    """The device as a `torch.device`. As in transformers, a number below 0 means the CPU."""
    return torch.device("cpu") if isinstance(device, int) and device < 0 else torch.device(device)


@dataclass(frozen=True)
class Piece:
    """A text, or one sentence of a text that is longer than the longest input.

    Attributes:
        row: the index of the text.
        text: the text or sentence, without a prefix.
        ids: the token ids, with the prefix.
        gap: the white space after the sentence.
        is_first: whether this is the first piece of the text.
    """

    row: int
    text: str
    ids: list[int]
    gap: str
    is_first: bool


@dataclass(frozen=True)
class Call:
    """The options of one call of a [`Text2TextPipeline`].

    Attributes:
        prefix: the string before every text, with the mark of the target language if the model has one.
        return_scores: whether each answer has a score.
        batch_tokens: the largest number of tokens of a batch, padding included.
        generate: the settings of `generate`.
    """

    prefix: str
    return_scores: bool
    batch_tokens: int
    generate: Mapping[str, Any]


class Text2TextPipeline:
    """Generates answers to texts with an encoder-decoder.

    Texts of similar length form a batch. To translate a text that is longer than the longest input of the model, its
    sentences are translated and joined (see `sentences.py`). A single sentence that is too long, or a text that is too
    long for another task, is cut, with a warning that counts the tokens. The answer to a blank text is empty.

    Args:
        task: "translation", "translation_en_to_de" or another pair, "summarization" or "text2text-generation".
        model: an encoder-decoder; it is put into evaluation mode.
        tokenizer: the tokenizer of the model.
        options: defaults for every call:

            - `src_lang`, `tgt_lang`: the languages of a multilingual model, as its tokenizer names them.
            - `prefix`: a string to put before every text; by default the prefix in the configuration of the model (T5).
            - `return_scores`: whether each answer has a `score`, the mean log-probability of its tokens in nats. The
              end token counts, a forced first token does not. It equals the `sequences_scores` of beam search with a
              length penalty of 1.
            - `batch_tokens`: the largest number of tokens of a batch, padding included; by default 2,048 on a CPU,
              where larger batches are not faster, and 16,384 elsewhere.
            - `progress`: whether a progress bar is shown on standard error; by default on a terminal, for 200 texts or
              more.
            - any setting of `generate`, such as `num_beams`. Without `max_length` and `max_new_tokens` the model's
              generation config limits an answer. A translation, or an answer without such a limit, also has at most
              twice the tokens of the text plus 20.
    """

    def __init__(self, task: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **options: Any) -> None:
        pair = _NAMED_PAIR.fullmatch(task)
        self.task = "translation" if pair else task
        self.pair = pair.groups() if pair else (None, None)
        self.model, self.tokenizer, self.options = model.eval(), tokenizer, options

    def __call__(self, texts: str | Iterable[str], **options: Any) -> Any:
        """Generates the answers to texts, in the order of the texts.

        Args:
            texts: one text, a list or tuple of texts, or any iterable of texts, such as a column of a dataset.
            options: override the options of the pipeline.

        Returns:
            For one text: a list of its answers. An answer is `{"translation_text": ...}` (or `"summary_text"`, or
            `"generated_text"`), with a `"score"` if `return_scores` is set. For a list or tuple: a list with one answer
            for each text, or with a list of answers if `num_return_sequences` is more than 1. For any other iterable:
            an iterator over the same items, which reads 1,024 texts at a time.

        Raises:
            ValueError: if an item is not a string, or the model does not support an option.
        """
        options = self.options | options
        progress = options.pop("progress", None)
        call = self._prepare(options)
        if isinstance(texts, str):
            return next(self._records([texts], call, progress=False))
        records = self._records(texts, call, progress)
        answers = (record[0] if len(record) == 1 else record for record in records)
        return list(answers) if isinstance(texts, (list, tuple)) else answers

    def _prepare(self, options: dict[str, Any]) -> Call:
        """Checks the options of a call. Options that [`Text2TextPipeline`] does not list are settings of `generate`."""
        if "batch_size" in options:
            raise ValueError(
                f"batch_size={options['batch_size']}: batches are made by tokens; give batch_tokens instead"
            )
        source, target = options.pop("src_lang", None), options.pop("tgt_lang", None)
        named = self._named_settings(source or self.pair[0], target or self.pair[1])
        direction = self._direction(source, target, is_named=bool(named))
        prefix = options.pop("prefix", named.pop("prefix", getattr(self.model.config, "prefix", None) or ""))
        if {"max_length", "max_new_tokens"} & set(options):
            named.pop("max_length", None)
        return Call(
            prefix=direction.prefix + prefix,
            return_scores=options.pop("return_scores", False),
            batch_tokens=options.pop("batch_tokens", None) or default_batch_tokens(self.model),
            generate={**named, **direction.settings, **options},
        )

    def _named_settings(self, source: str | None, target: str | None) -> dict[str, Any]:
        """The settings for the task in the model's configuration (`task_specific_params` of T5), or none."""
        name = f"translation_{source}_to_{target}" if source and target else self.task
        tasks = getattr(self.model.config, "task_specific_params", None) or {}
        return dict(tasks.get(name, {}))

    def _direction(self, source: str | None, target: str | None, is_named: bool) -> Direction:
        if self.task != "translation" or is_named:
            return Direction()
        if language_codes(self.tokenizer):
            source, target = source or self.pair[0], target or self.pair[1]
        return set_direction(self.model, self.tokenizer, source, target)

    def _records(self, texts: Iterable[str], call: Call, progress: bool | None) -> Iterator[list[dict[str, Any]]]:
        def records(window: list[str], bar: tqdm) -> list[list[dict[str, Any]]]:
            return [[self._record(answer, call) for answer in answers] for answers in self._answers(window, call, bar)]

        return in_windows(texts, records, "texts", progress)

    def _record(self, answer: Answer, call: Call) -> dict[str, Any]:
        record: dict[str, Any] = {_RESULTS[self.task]: answer.text}
        return record | {"score": answer.score} if call.return_scores else record

    def _answers(self, texts: list[str], call: Call, bar: tqdm) -> list[list[Answer]]:
        """The answers to the texts, in the order of the texts; batches are formed by length."""
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(f"{text!r}: a text must be a string, not of type {type(text).__name__}")
        pieces = self._pieces(texts, call)
        found: dict[int, list[Answer]] = {}
        for batch in length_sorted_batches([len(piece.ids) for piece in pieces], call.batch_tokens):
            rows = [pieces[number].ids for number in batch]
            limit = longest_answer(self.model, call.generate, len(rows[0]), self.task == "translation")
            answers = generate_answers(self.model, self.tokenizer, rows, {**call.generate, **limit}, call.return_scores)
            found.update(zip(batch.tolist(), answers, strict=True))
            bar.update(sum(pieces[number].is_first for number in batch))
        joined = [[Answer("")] * call.generate.get("num_return_sequences", 1) for _ in texts]
        for row, numbers in groupby(range(len(pieces)), key=lambda number: pieces[number].row):
            joined[row] = _joined([(found[number], pieces[number].gap) for number in numbers])
        bar.update(len(texts) - sum(piece.is_first for piece in pieces))  # blank texts have no pieces
        return joined

    def _pieces(self, texts: list[str], call: Call) -> list[Piece]:
        """The pieces of the texts. A translation of a long text has one for each sentence; a blank text has none."""
        limit = longest_input(self.model, self.tokenizer)
        filled = [(row, text) for row, text in enumerate(texts) if text.strip()]
        encoded = self._encode([text for _, text in filled], call)
        pieces: list[Piece] = []
        for (row, text), ids in zip(filled, encoded, strict=True):
            sentences = [(text, "")]
            if len(ids) > limit and self.task == "translation":
                sentences = split_sentences(text)
            parts = [ids] if len(sentences) == 1 else self._encode([sentence for sentence, _ in sentences], call)
            pieces += (
                Piece(row, sentence, part, gap, is_first=not number)
                for number, (part, (sentence, gap)) in enumerate(zip(parts, sentences, strict=True))
            )
        return self._cut(pieces, call, limit)

    def _encode(self, texts: list[str], call: Call) -> list[list[int]]:
        prefixed = [call.prefix + text for text in texts]
        return self.tokenizer(prefixed, verbose=False)["input_ids"] if texts else []

    def _cut(self, pieces: list[Piece], call: Call, limit: int) -> list[Piece]:
        """The pieces, cut to `limit` tokens with a warning."""
        lengths = [len(piece.ids) for piece in pieces if len(piece.ids) > limit]
        if lengths:
            what = "sentences" if self.task == "translation" else "texts"
            logger.warning(
                "cut to the %d tokens that the model reads: %d of %d %s, the longest with %d tokens",
                limit, len(lengths), len(pieces), what, max(lengths),
            )  # fmt: skip
        return [self._shortened(piece, call, limit) if len(piece.ids) > limit else piece for piece in pieces]

    def _shortened(self, piece: Piece, call: Call, limit: int) -> Piece:
        ids = self.tokenizer(call.prefix + piece.text, truncation=True, max_length=limit)["input_ids"]
        return replace(piece, ids=ids)


def _joined(pieces: list[tuple[list[Answer], str]]) -> list[Answer]:
    """Joins the answers to the pieces of a text. Answer n to the text is the concatenation of answer n to each piece.

    Args:
        pieces: For each piece, its answers, best first, and the white space that follows it in the text.
    """
    gaps = [gap for _, gap in pieces]
    return [
        Answer(
            join_sentences([answer.text for answer in answers], gaps),
            sum(answer.log_probability for answer in answers),
            sum(answer.num_tokens for answer in answers),
        )
        for answers in zip(*(answers for answers, _ in pieces), strict=True)
    ]
