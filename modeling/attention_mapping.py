"""What a model attends to in a text, and what its loss says of each head. It never goes to the Hub.

A map shows where a head looks, not what comes of it. Beside each stands how much the loss changes when the head gives
zeros instead of the values that it attends to (Michel et al. 2019, "Are sixteen heads really better than one?").

Shapes: T queries, S keys, H heads, V vocabulary, R rows by which a loss is measured.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.modeling_outputs import BaseModelOutput

from .attention_probe import KINDS, AttentionMapError, Probe, Site, attention_sites, probing
from .losses import IGNORE_INDEX, shift_labels_left
from .text2text import longest_answer, longest_input

logger = logging.getLogger(__name__)

NUM_MASKED = 8
"""Tokens by which a masked language model is measured, each masked in turn."""

MOST_WEIGHTS = 50_000_000
"""Weights of all maps together: 200 MB."""

_LOGITS_AT_ONCE = 1 << 26
_BYTES = {char: byte for byte, char in bytes_to_unicode().items()}


class Head(NamedTuple):
    """A head: `kind` is "encoder", "decoder" or "cross"; layers and heads count from 0."""

    kind: str
    layer: int
    head: int


@dataclass(frozen=True)
class AttentionMaps:
    """Attention maps of a text.

    Attributes:
        model: the class of the model, or its name.
        weights: the map (T, S) of each head, on the CPU: how much the token of a row takes from that of a column.
            `maps.weights["cross", 2, 3]` is that of head 3 in layer 2.
        tokens: for each kind the tokens of the rows and those of the columns, as they are shown.
        loss: that of the whole model, or `None`.
        loss_changes: by how much the loss rises if only this head is switched off; empty where there is no loss.
        measure: what the loss is, or why there is none.
        notes: what else a reader has to know, such as that a text was cut.
    """

    model: str
    weights: dict[Head, torch.Tensor]
    tokens: dict[str, tuple[list[str], list[str]]]
    loss: float | None
    loss_changes: dict[Head, float]
    measure: str
    notes: tuple[str, ...] = ()

    def save_html(self, path: str | Path) -> None:
        """One file for a browser, which needs nothing else."""
        from .attention_pages import page

        Path(path).write_text(page(self), encoding="utf-8")

    def save_png(self, path: str | Path) -> None:
        """A picture of the maps, of those with the largest effects where they are many."""
        from .attention_pages import draw_maps

        draw_maps(self, path)


class Passage(NamedTuple):
    """A text as the model reads it.

    Attributes:
        inputs: for the model, (1, S) or (1, T) each.
        labels: the target of an encoder-decoder, (1, T), or `None`.
        source, target: their tokens as they are shown; no target but for an encoder-decoder.
        notes: what was done to them.
    """

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor | None
    source: list[str]
    target: list[str]
    notes: tuple[str, ...]


class Measure(NamedTuple):
    """How a loss is measured.

    Attributes:
        meaning: in words.
        inputs: for the model, (R, ...) each.
        labels: (R,) or (R, places), -100 where nothing is predicted.
        logits: (R, V) or (R, places, V) of the whole model, if they are known already.
    """

    meaning: str
    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    logits: torch.Tensor | None = None


def attention_maps(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    target: str | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    kinds: Sequence[str] | None = None,
    effects: bool = True,
    progress: bool = False,
) -> AttentionMaps:
    """Attention maps of a text, and the effect of each head on the loss.

    Only the maps that are asked for are computed, beside one forward pass on sdpa. Effects take one pass more for each
    head, all heads of a layer at once where memory allows. The loss is that of

    - an encoder-decoder: the target, given the text;
    - a causal language model: each token of the text, given those before it;
    - a masked one: up to 8 tokens of the text, spread evenly and masked one at a time (pseudo-likelihood);
    - a classifier of texts or tokens, or of spans: what the whole model predicts.

    Args:
        model: any model that goes through transformers' attention interface, of this package or not.
        tokenizer: its tokenizer.
        text: what the model reads. What is longer than the model allows is cut, with a warning that counts.
        target: what an encoder-decoder writes; by default what it generates with its own settings.
        layers: those that are wanted, by default all.
        heads: those that are wanted in each of the layers, by default all.
        kinds: "encoder", "decoder" (self attention) or "cross", by default all that there are.
        effects: whether the loss is measured.
        progress: whether a progress bar is shown on standard error.

    Raises:
        AttentionMapError: a text is empty, a layer, head or kind does not exist, the maps would be too many, or the
            model is of a kind that has none.
    """
    sites = attention_sites(model)
    chosen = choose(sites, layers, heads, kinds)
    with evaluating(model):
        passage = _read(model, tokenizer, text, target)
        tokens = {site.kind: _axes(site.kind, passage) for site, _ in chosen}
        _check_size(chosen, tokens)
        probes = {site.module: Probe(heads=numbers) for site, numbers in chosen}
        with probing(model, probes):
            outputs = _forward(model, passage.inputs)
        weights = {
            Head(site.kind, site.layer, head): weights.cpu()
            for site, numbers in chosen
            for head, weights in zip(numbers, probes[site.module].weights[0], strict=True)  # type: ignore[index]
        }
        measure: Measure | str = "not measured"
        if effects:
            measure = _measure(model, tokenizer, passage, outputs, sites)
        loss: float | None = None
        changes: dict[Head, float] = {}
        if isinstance(measure, Measure):
            loss, changes = _effects(model, chosen, measure, outputs, progress)
    meaning = measure if isinstance(measure, str) else measure.meaning
    return AttentionMaps(type(model).__name__, weights, tokens, loss, changes, meaning, passage.notes)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; each module is afterwards in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


# What was asked for


def choose(
    sites: Sequence[Site],
    layers: Sequence[int] | None,
    heads: Sequence[int] | None,
    kinds: Sequence[str] | None,
) -> list[tuple[Site, list[int]]]:
    """The sites that were asked for, each with its heads.

    Raises:
        AttentionMapError: something does not exist; the message names what there is.
    """
    there = [kind for kind in KINDS if any(site.kind == kind for site in sites)]
    for kind in there if kinds is None else kinds:
        if kind not in there:
            raise AttentionMapError(f"this model has no {kind} attention; it has {' and '.join(there)}")
    sites = [site for site in sites if kinds is None or site.kind in kinds]
    _check_numbers("layer", layers, {kind: max(s.layer for s in sites if s.kind == kind) for kind in _kinds(sites)})
    sites = [site for site in sites if layers is None or site.layer in layers]
    _check_numbers(
        "head", heads, {kind: max(s.num_heads for s in sites if s.kind == kind) - 1 for kind in _kinds(sites)}
    )
    chosen = [(site, [head for head in range(site.num_heads) if heads is None or head in heads]) for site in sites]
    if not any(numbers for _, numbers in chosen):
        raise AttentionMapError("no head is chosen: leave kinds, layers and heads out for all that there are")
    return [(site, numbers) for site, numbers in chosen if numbers]


def _kinds(sites: Sequence[Site]) -> list[str]:
    return list(dict.fromkeys(site.kind for site in sites))


def _check_numbers(what: str, numbers: Sequence[int] | None, last: dict[str, int]) -> None:
    """Each number must exist for one of the kinds at least, whose last ones are given."""
    for number in numbers or ():
        if not 0 <= number <= max(last.values()):
            ends = {"this model": max(last.values())} if len(set(last.values())) == 1 else last
            there = ", ".join(
                f"{owner} has {what}s 0 to {end}" if end else f"{owner} has {what} 0" for owner, end in ends.items()
            )
            raise AttentionMapError(f"there is no {what} {number}; {there}")


def _check_size(chosen: Sequence[tuple[Site, list[int]]], tokens: dict[str, tuple[list[str], list[str]]]) -> None:
    sizes = {kind: len(rows) * len(columns) for kind, (rows, columns) in tokens.items()}
    size = sum(len(numbers) * sizes[site.kind] for site, numbers in chosen)
    if size > MOST_WEIGHTS:
        raise AttentionMapError(
            f"the maps have {size:,} weights together, more than {MOST_WEIGHTS:,}: choose fewer layers or heads, or a "
            "shorter text"
        )


# The text


def _read(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, target: str | None) -> Passage:
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
    """What a decoder reads to predict the labels (1, T): as its class has it, or the start token in front of them."""
    prepare: Any = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if prepare is not None:
        return prepare(labels)
    start = model.config.decoder_start_token_id
    if start is None:
        raise AttentionMapError(f"{type(model).__name__} has no decoder_start_token_id: leave target out")
    return torch.cat((labels.new_full((1, 1), start), labels[:, :-1]), dim=1)


def _encoded(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, what: str
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The inputs (1, S) of a text, and a note if it was cut."""
    if not isinstance(text, str) or not text.strip():
        raise AttentionMapError(f"the {what} is {text!r}: give at least one word")
    argument: dict[str, Any] = {"text_target" if what == "target" else "text": text, "verbose": False}
    ids = tokenizer(**argument)["input_ids"]
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}  # a word that is unknown is a word
    if special.issuperset(ids):
        raise AttentionMapError(f"the {what} is {text!r}, of which the tokenizer makes no token: give another one")
    limit = longest_input(model, tokenizer)
    notes = []
    if len(ids) > limit:
        notes.append(f"the {what} has {len(ids)} tokens and was cut to the {limit} that the model reads")
        logger.warning("%s", notes[0])
    encoded = tokenizer(**argument, truncation=True, max_length=limit, return_tensors="pt")
    return {name: tensor.to(model.device) for name, tensor in encoded.items()}, notes


def _generated(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, str]:
    """Labels and decoder inputs (1, T) that the model makes itself, and a note that says so."""
    if not model.can_generate():
        raise AttentionMapError(f"target is missing: {type(model).__name__} cannot generate one")
    length = inputs["input_ids"].shape[1]
    settings = {"num_return_sequences": 1, "return_dict_in_generate": False}
    sequences = model.generate(  # type: ignore[operator]
        **inputs, **settings, **longest_answer(model, {}, length, is_translation=True)
    )
    num_beams = model.generation_config.num_beams or 1
    search = "greedily" if num_beams == 1 else f"with {num_beams} beams"
    if model.generation_config.do_sample:
        search = "by sampling"
    return sequences[:, 1:], sequences[:, :-1], f"the target is what the model generates, {search}"


def token_labels(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """The tokens as they can be shown: bytes as the characters that they stand for, white space by visible marks."""
    pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(ids)]
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    if "ByteLevel" in repr(decoder):
        pieces = [_from_bytes(piece) for piece in pieces]
    marks = str.maketrans({" ": "\u2581", "\n": "\u23ce", "\t": "\u21e5"})
    shown = [piece.translate(marks) for piece in pieces]
    return ["".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in label) for label in shown]


def _from_bytes(piece: str) -> str:
    """The text of a token of GPT-2's bytes, each of which is written as a character; a part of a character in hex."""
    values = [_BYTES.get(char) for char in piece]
    if None in values:  # a special token
        return piece
    content = bytes(values)  # type: ignore[arg-type]
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return f"<{content.hex(' ').upper()}>"


def _axes(kind: str, passage: Passage) -> tuple[list[str], list[str]]:
    """The tokens of the rows and of the columns of a kind."""
    own = passage.target if passage.target and kind != "encoder" else passage.source
    return own, passage.source if kind == "cross" else own


# The loss


def _forward(model: PreTrainedModel, inputs: dict[str, Any]) -> Any:
    without_cache = {"use_cache": False} if hasattr(model.config, "use_cache") else {}
    return model(**inputs, **without_cache, return_dict=True)


def _logits(outputs: Any) -> torch.Tensor | None:
    """(R, V) or (R, places, V); those of a span's two ends one below the other; `None` where there is no head."""
    if "start_logits" in outputs:
        return torch.stack((outputs["start_logits"], outputs["end_logits"]), dim=1)
    return outputs.get("logits")


def _measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    passage: Passage,
    outputs: Any,
    sites: Sequence[Site],
) -> Measure | str:
    """How the loss is measured, or why it cannot be; `outputs` are those of the whole model."""
    logits = _logits(outputs)
    if logits is None:
        return "no loss: the model has no head that predicts something"
    if model.get_output_embeddings() is None:
        return _prediction_measure(model, passage, logits)
    if passage.labels is not None:
        return Measure("mean -log p of the target's tokens", passage.inputs, passage.labels, logits)
    if any(site.kind == "decoder" for site in sites):
        labels = shift_labels_left(passage.inputs["input_ids"], logits.shape[:-1])
        if labels.shape[1] < 2:
            return "no loss: a text of one token has no next one"
        return Measure("mean -log p of each token given those before it", passage.inputs, labels, logits)
    return _masked_measure(tokenizer, passage)


def _prediction_measure(model: PreTrainedModel, passage: Passage, logits: torch.Tensor) -> Measure | str:
    problem_type = getattr(model.config, "problem_type", None)
    if logits.shape[-1] == 1 or problem_type in ("regression", "multi_label_classification"):
        return "no loss: the model does not choose one class, and without a label nothing is right or wrong"
    labels = logits.argmax(-1)
    what = "mean -log p of what the whole model predicts"
    names: Any = model.config.id2label
    if labels.ndim == 1 and names:
        what = f"-log p of the class that the whole model predicts, {names[int(labels[0])]}"
    return Measure(what, passage.inputs, labels, logits)


def _masked_measure(tokenizer: PreTrainedTokenizerBase, passage: Passage) -> Measure | str:
    """Rows that differ in the token that is masked, up to `NUM_MASKED` of them."""
    if tokenizer.mask_token_id is None:
        return "no loss: the tokenizer has no mask token"
    ids = passage.inputs["input_ids"]  # (1, T)
    special = tokenizer.get_special_tokens_mask(ids[0].tolist(), already_has_special_tokens=True)
    ordinary = torch.tensor([place for place, is_special in enumerate(special) if not is_special], device=ids.device)
    count = min(NUM_MASKED, len(ordinary))
    spread = ((torch.arange(count, device=ids.device) + 0.5) * len(ordinary) / count).long()
    places = ordinary[spread]  # (R,)
    masked = torch.arange(ids.shape[1], device=ids.device) == places[:, None]  # (R, T)
    inputs = {name: tensor.repeat(count, 1) for name, tensor in passage.inputs.items()}
    inputs["input_ids"] = inputs["input_ids"].masked_fill(masked, tokenizer.mask_token_id)
    labels = ids.repeat(count, 1).masked_fill(~masked, IGNORE_INDEX)
    meaning = f"mean -log p of {count} tokens spread over the text, each masked in turn (pseudo-likelihood)"
    return Measure(meaning, inputs, labels)


def row_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of each row, (R, V) with (R,) or (R, places, V) with (R, places) -> (R,), in fp64."""
    losses = nn.functional.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="none"
    )
    num_rows = labels.shape[0]
    counts = labels.reshape(num_rows, -1).ne(IGNORE_INDEX).sum(1)
    return losses.double().view(num_rows, -1).sum(1) / counts


# The heads


def _effects(
    model: PreTrainedModel,
    chosen: Sequence[tuple[Site, list[int]]],
    measure: Measure,
    outputs: Any,
    progress: bool,
) -> tuple[float, dict[Head, float]]:
    """The loss of the whole model, and by how much it rises without each of the heads."""
    most = max(1, _LOGITS_AT_ONCE // _logits(outputs)[0].numel())  # type: ignore[index]
    if model.get_output_embeddings() is None and model.config.pad_token_id is None:
        most = 1  # stock decoders classify several rows only where they can tell padding
    encoded = outputs.get("encoder_last_hidden_state") if model.config.is_encoder_decoder else None
    if measure.logits is not None:
        loss = row_losses(measure.logits, measure.labels).mean().item()
    else:
        (loss,) = _losses_without(model, chosen[0][0], [None], measure, None, most)
    changes: dict[Head, float] = {}
    for site, heads in tqdm(chosen, unit=" layers", leave=False, disable=not progress):
        states = None if site.kind == "encoder" else encoded
        losses = _losses_without(model, site, heads, measure, states, most)
        changes |= {
            Head(site.kind, site.layer, head): without - loss for head, without in zip(heads, losses, strict=True)
        }
    return loss, changes


def _losses_without(
    model: PreTrainedModel,
    site: Site,
    heads: Sequence[int | None],
    measure: Measure,
    encoded: torch.Tensor | None,
    most: int,
) -> list[float]:
    """The loss without each of the heads of a site; `None` switches nothing off.

    Args:
        encoded: (1, S, D), what the encoder gave, if no head of it is switched off; it need not run again then.
        most: rows of a forward pass.
    """
    num_rows = len(measure.labels)
    pairs = [(head, row) for head in heads for row in range(num_rows)]
    losses = []
    for start in range(0, len(pairs), most):
        part = pairs[start : start + most]
        rows = torch.tensor([row for _, row in part], device=measure.labels.device)
        off = torch.zeros(len(part), site.num_heads, dtype=torch.bool, device=rows.device)
        for place, (head, _) in enumerate(part):
            if head is not None:
                off[place, head] = True
        inputs: dict[str, Any] = {name: tensor[rows] for name, tensor in measure.inputs.items()}
        if encoded is not None:
            inputs = {name: inputs[name] for name in ("attention_mask", "decoder_input_ids")}
            inputs["encoder_outputs"] = BaseModelOutput(last_hidden_state=encoded[rows])
        with probing(model, {site.module: Probe(off=off)}):
            logits = _logits(_forward(model, inputs))
        losses.append(row_losses(logits, measure.labels[rows]))  # type: ignore[arg-type]
    return torch.cat(losses).view(len(heads), num_rows).mean(1).tolist()
