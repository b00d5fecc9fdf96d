"""Prepares texts for attention maps: model inputs and displayed tokens. This code is not saved with models.

Shapes: S source length, T target length (or the length of the only sequence).
"""

import logging
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from vanilla_transformers.inspection.probe import AttentionMapError
from vanilla_transformers.model.losses import shift_labels_right
from vanilla_transformers.text.answers import longest_answer, longest_input

logger = logging.getLogger(__name__)

_BYTES = {char: byte for byte, char in bytes_to_unicode().items()}


class Passage(NamedTuple):
    """The model inputs of a text, with its displayed tokens.

    Attributes:
        inputs: the inputs of the model, (1, S) or (1, T) each.
        labels: the target token ids (1, T) of an encoder-decoder, or `None`.
        source: the displayed tokens of the text.
        target: the displayed decoder inputs of an encoder-decoder; otherwise empty.
        notes: facts for the reader: that a text was cut, or that the target was generated.
    """

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor | None
    source: list[str]
    target: list[str]
    notes: tuple[str, ...]


def read(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, target: str | None) -> Passage:
    """Encodes the text and, for an encoder-decoder, its target. If `target` is `None`, the model generates the target.

    Raises:
        AttentionMapError: If a text is empty or has no token, a target is given for a model that is not an
            encoder-decoder, the decoder inputs cannot be made, or the model reads several texts at once.
    """
    if "MultipleChoice" in type(model).__name__:
        raise AttentionMapError(f"{type(model).__name__} reads several texts at once: load the model with another head")
    inputs, notes = _encoded(model, tokenizer, text, "text")
    source = token_labels(tokenizer, inputs["input_ids"][0].tolist())
    if not model.config.is_encoder_decoder:
        if target is not None:
            raise AttentionMapError(f"target={target!r}: {type(model).__name__} is no encoder-decoder; leave it out")
        return Passage(inputs, None, source, [], tuple(notes))
    if target is None:
        labels, decoder_inputs, note = _generated(model, inputs)
        notes.append(note)
    else:
        encoded, more = _encoded(model, tokenizer, target, "target")
        notes += more
        labels = encoded["input_ids"]
        decoder_inputs = _shifted(model, labels)
    inputs["decoder_input_ids"] = decoder_inputs
    return Passage(inputs, labels, source, token_labels(tokenizer, decoder_inputs[0].tolist()), tuple(notes))


def _shifted(model: PreTrainedModel, labels: torch.Tensor) -> torch.Tensor:
    """The decoder inputs (1, T) for the labels (1, T): from the class's own method, or shifted by the start token."""
    prepare: Any = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if prepare is not None:
        return prepare(labels)
    start = model.config.decoder_start_token_id
    if start is None:
        raise AttentionMapError(f"{type(model).__name__} has no decoder_start_token_id: leave target out")
    # The padding id would replace labels of -100. No label is -100, so any padding id will do.
    return shift_labels_right(labels, model.config.pad_token_id or 0, start)


def _encoded(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, what: str
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The model inputs (1, S) of a text, and a note if the text was cut."""
    if not isinstance(text, str) or not text.strip():
        raise AttentionMapError(f"the {what} is {text!r}: give at least one word")
    argument: dict[str, Any] = {"text_target" if what == "target" else "text": text, "verbose": False}
    ids = tokenizer(**argument)["input_ids"]
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}  # a text of unknown words is not empty
    if special.issuperset(ids):
        raise AttentionMapError(f"the {what} is {text!r}, from which the tokenizer makes no token: give another text")
    limit = longest_input(model, tokenizer)
    notes = []
    if len(ids) > limit:
        notes.append(f"the {what} has {len(ids)} tokens and was cut to the {limit} that the model reads")
        logger.warning("%s", notes[0])
    encoded = tokenizer(**argument, truncation=True, max_length=limit, return_tensors="pt")
    return {name: tensor.to(model.device) for name, tensor in encoded.items()}, notes


def _generated(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, str]:
    """Generates a target: its labels and decoder inputs (1, T), and a note on the search."""
    if not model.can_generate():
        raise AttentionMapError(f"target is missing: {type(model).__name__} cannot generate one")
    length = inputs["input_ids"].shape[1]
    settings = {"num_return_sequences": 1, "return_dict_in_generate": False}
    sequences = model.generate(**inputs, **settings, **longest_answer(model, {}, length, is_translation=True))
    num_beams = model.generation_config.num_beams or 1
    search = "greedily" if num_beams == 1 else f"with {num_beams} beams"
    if model.generation_config.do_sample:
        search = "by sampling"
    return sequences[:, 1:], sequences[:, :-1], f"the target is what the model generates, {search}"


def token_labels(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """The tokens as readable strings: byte-level tokens (GPT-2) are decoded, and white space becomes visible marks."""
    pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(ids)]
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    if "ByteLevel" in repr(decoder):
        pieces = [_from_bytes(piece) for piece in pieces]
    marks = str.maketrans({" ": "\u2581", "\n": "\u23ce", "\t": "\u21e5"})
    shown = [piece.translate(marks) for piece in pieces]
    return ["".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in label) for label in shown]


def _from_bytes(piece: str) -> str:
    """Decodes a GPT-2 token, which has one character for each byte. A token that is not valid UTF-8 is shown in hex."""
    values = [_BYTES.get(char) for char in piece]
    if None in values:  # special tokens do not stand for bytes
        return piece
    content = bytes(values)  # type: ignore[arg-type]
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return f"<{content.hex(' ').upper()}>"


def axes(kind: str, passage: Passage) -> tuple[list[str], list[str]]:
    """The displayed tokens of the rows (queries) and of the columns (keys) of a kind of attention."""
    own = passage.target if passage.target and kind != "encoder" else passage.source
    return own, passage.source if kind == "cross" else own
