"""Computes the attention maps of a text, and the effect of each head on the loss. This code is not saved with models.

A map shows the attention weights of a head, but not their effect on the output. The effect of a head is the change of
the loss if the head's output is replaced by zeros (Michel et al. 2019, "Are sixteen heads really better than one?").

Shapes: T queries, S keys.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vanilla_transformers.inspection.effects import Measure, effects_of, forward, measure_of
from vanilla_transformers.inspection.maps import AttentionMaps
from vanilla_transformers.inspection.passages import axes, read
from vanilla_transformers.inspection.probe import (
    KINDS,
    AttentionMapError,
    Head,
    Probe,
    Site,
    attention_sites,
    probing,
)

MOST_WEIGHTS = 50_000_000
"""The largest number of weights in all maps together: 200 MB in fp32."""


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
    """Computes the attention maps of a text, and the effect of each head on the loss.

    One forward pass runs with sdpa and also computes the requested maps. The effects need one more pass for each head;
    several heads of a layer share a batch, up to a fixed number of logits. The loss is the mean of -log p, in nats, of

    - the target tokens given the text, for an encoder-decoder;
    - each token of the text given the tokens before it, for a causal language model;
    - up to 8 tokens of the text, spread evenly and masked one at a time (pseudo-likelihood), for a masked language
      model;
    - the prediction of the model with all heads, for a classifier of texts or tokens and for a span head.

    Args:
        model: any model that uses transformers' attention interface; it need not be a model of this package.
        tokenizer: the tokenizer of the model.
        text: the input text. A text that is too long for the model is cut, with a warning that counts the tokens.
        target: the target of an encoder-decoder; by default the model generates it with its generation settings.
        layers: the layers to show, from 0; by default all.
        heads: the heads to show in each layer, from 0; by default all.
        kinds: "encoder", "decoder" (self attention) or "cross"; by default all kinds of the model.
        effects: whether the loss and the effects are measured.
        progress: whether a progress bar is shown on standard error.

    Returns:
        The maps (T, S) of the chosen heads, with the loss and the effects.

    Raises:
        AttentionMapError: If a text is empty; a layer, head or kind does not exist; all maps together have more than
            `MOST_WEIGHTS` weights; or the class of the model does not use transformers' attention interface.
    """
    sites = attention_sites(model)
    chosen = choose(sites, layers, heads, kinds)
    with evaluating(model):
        passage = read(model, tokenizer, text, target)
        tokens = {site.kind: axes(site.kind, passage) for site, _ in chosen}
        _check_size(chosen, tokens)
        probes = {site.module: Probe(heads=numbers) for site, numbers in chosen}
        with probing(model, probes):
            outputs = forward(model, passage.inputs)
        weights = {
            Head(site.kind, site.layer, head): weights.cpu()
            for site, numbers in chosen
            for head, weights in zip(numbers, probes[site.module].weights[0], strict=True)  # type: ignore[index]
        }
        measure: Measure | str = "not measured"
        if effects:
            measure = measure_of(model, tokenizer, passage, outputs, sites)
        loss: float | None = None
        changes: dict[Head, float] = {}
        if isinstance(measure, Measure):
            loss, changes = effects_of(model, chosen, measure, outputs, progress)
    meaning = measure if isinstance(measure, str) else measure.meaning
    return AttentionMaps(type(model).__name__, weights, tokens, loss, changes, meaning, passage.notes)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Runs the block in evaluation mode without gradients, and then restores the mode of each module."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


# The chosen heads


def choose(
    sites: Sequence[Site],
    layers: Sequence[int] | None,
    heads: Sequence[int] | None,
    kinds: Sequence[str] | None,
) -> list[tuple[Site, list[int]]]:
    """The attention modules of the chosen kinds and layers, with their chosen heads.

    Raises:
        AttentionMapError: If a kind, layer or head does not exist, or no head is chosen. The message names the way out.
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
        raise AttentionMapError("no head is chosen: leave kinds, layers and heads out to get all heads")
    return [(site, numbers) for site, numbers in chosen if numbers]


def _kinds(sites: Sequence[Site]) -> list[str]:
    return list(dict.fromkeys(site.kind for site in sites))


def _check_numbers(what: str, numbers: Sequence[int] | None, last: dict[str, int]) -> None:
    """Raises an error if no kind of attention has this layer or head. `last` has the largest number of each kind."""
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
