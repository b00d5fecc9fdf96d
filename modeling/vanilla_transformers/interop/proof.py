"""Shows that a model and what it was converted into are one: logits, hidden states, tokens and weights."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedModel

from vanilla_transformers.interop.architecture import Architecture
from vanilla_transformers.interop.checks import Check, difference_check, tokens_check
from vanilla_transformers.interop.conversion import tensors_in, tensors_out
from vanilla_transformers.interop.permutation import is_permuted, to_halves
from vanilla_transformers.interop.probes import end_tokens, padded, plain_generation
from vanilla_transformers.interop.rules import Tensors
from vanilla_transformers.model.configuration_base import VanillaConfig

TOLERANCE = 1e-5
"""Largest difference of logits and hidden states in fp32, relative to the largest of them where that exceeds 1."""

SENTENCES = (
    "A dog is running across the green field.",
    "Two men in blue shirts stand near a small house, talking.",
    "Nobody had expected the film to be as good as this!",
    "Hello.",
)
"""What a tokenizer gets to make real inputs of."""

NEW_TOKENS = 12
LONGEST_INPUT = 64

SEARCH_SETTINGS = (
    *("forced_bos_token_id", "forced_eos_token_id", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens"),
    *("no_repeat_ngram_size", "repetition_penalty", "length_penalty"),
)
"""Of a model's own settings those with which a search of a few tokens goes on; another kind of search has its own."""

Inputs = dict[str, torch.Tensor]


def compare(before: PreTrainedModel, after: PreTrainedModel, tokenizer: Any = None) -> list[Check]:
    """Both models on random rows and, with a tokenizer, on sentences; generating models also greedily and with beams.

    Args:
        before, after: one of ours and a stock one, in either order, in evaluation mode and fp32, on the CPU.
        tokenizer: that of the model; `None` leaves the sentences out.
    """
    ours, stock = (before, after) if isinstance(before.config, VanillaConfig) else (after, before)
    checks = []
    for kind, inputs in all_inputs(ours, tokenizer):
        checks += _compare_outputs(ours, stock, kind, inputs)
        if ours.can_generate():
            checks += _compare_generation(ours, stock, kind, inputs)
    if ours.can_generate():
        checks.append(_settings_check(ours, stock))
    return checks


def there_and_back(architecture: Architecture, ours: PreTrainedModel, stock: PreTrainedModel, head: str) -> Check:
    """Whether each weight of either model is, bit by bit, what the weights of the other make."""
    mine, theirs = dict(ours.state_dict()), dict(stock.state_dict())
    for rule in architecture.rules(ours.config, stock.config, head):
        if rule.is_copy:  # which nothing reads where the model is not tied
            theirs = {name: tensor for name, tensor in theirs.items() if name not in rule.theirs}
    pairs = [
        *_pairs(mine, tensors_in(architecture, ours.config, stock, head), ours.config.position_offset),
        *_pairs(theirs, tensors_out(architecture, ours, stock.config, head)),
    ]
    equal = sum(bool((one.double() == other.double()).all()) for one, other in pairs)
    return Check("weights, there and back", f"{equal} of {len(pairs)} equal", equal == len(pairs))


def tokenizer_check(before: Any, after: Any) -> Check:
    """Whether both tokenizers give the same tokens and special tokens."""
    texts = list(SENTENCES)
    check = tokens_check("tokenizer, sentences", before(texts)["input_ids"], after(texts)["input_ids"])
    return replace(check, passed=check.passed and before.all_special_ids == after.all_special_ids)


def _pairs(weights: Tensors, made: Tensors, unread: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Each weight with what was made for it; of a table of positions without the rows that are not read."""
    for name in weights.keys() & made.keys():
        start = unread if name.endswith("input_embedding.positions.weight") else 0
        yield weights[name][start:], made[name][start:]


def _settings_check(ours: PreTrainedModel, stock: PreTrainedModel) -> Check:
    """Whether both generate with the same settings."""
    mine, theirs = (model.generation_config.to_diff_dict() for model in (ours, stock))
    names = (mine.keys() | theirs.keys()) - {"_from_model_config", "transformers_version"}
    differing = sorted(name for name in names if mine.get(name) != theirs.get(name))
    return Check("generation settings", f"{', '.join(differing) or 'none'} differ", not differing)


# Inputs


def all_inputs(ours: PreTrainedModel, tokenizer: Any) -> Iterator[tuple[str, Inputs]]:
    """Random rows and, with a tokenizer, sentences, each under its name; of an encoder-decoder with targets."""
    is_decoder = ours.can_generate() and not ours.config.is_encoder_decoder
    room = getattr(ours.config, "max_position_embeddings", LONGEST_INPUT) - (NEW_TOKENS if is_decoder else 0)
    longest = max(1, min(room, LONGEST_INPUT))
    kinds = {"random rows": _random_rows(ours, min(10, longest))}
    if tokenizer is not None and longest > tokenizer.num_special_tokens_to_add():
        rows = tokenizer(list(SENTENCES), truncation=True, max_length=longest)["input_ids"]
        ids, mask = padded(ours, rows)  # on the right, where a stock model's positions do not move
        kinds["sentences"] = {"input_ids": ids, "attention_mask": mask}
    for kind, inputs in kinds.items():
        if type(ours).__name__.endswith("DecoderForSequenceClassification") and ours.config.pad_token_id is None:
            # The stock classes refuse several rows, and know no padding.
            length = int(inputs["attention_mask"][0].sum())
            inputs = {name: tensor[:1, :length] for name, tensor in inputs.items()}
        yield kind, _with_targets(ours, inputs)


def _random_rows(ours: PreTrainedModel, length: int) -> Inputs:
    """Three rows of ordinary tokens, the last padded on the right where there is a padding token."""
    table: Any = ours.get_input_embeddings()
    ids = _ordinary_tokens(ours, table.num_embeddings, (3, length), seed=0)
    mask = torch.ones_like(ids)
    if length > 3 and ours.config.pad_token_id is not None:
        ids[-1, -3:] = ours.config.pad_token_id
        mask[-1, -3:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if getattr(ours.config, "type_vocab_size", 0):
        types = torch.Generator().manual_seed(2)
        inputs["token_type_ids"] = torch.randint(ours.config.type_vocab_size, ids.shape, generator=types)
    return inputs


def _with_targets(ours: PreTrainedModel, inputs: Inputs) -> Inputs:
    """The inputs and, for an encoder-decoder, random targets behind its start token."""
    if not ours.config.is_encoder_decoder:
        return inputs
    rows, length = inputs["input_ids"].shape
    targets = _ordinary_tokens(ours, ours.config.vocab_size, (rows, min(6, length)), seed=1)
    if ours.config.decoder_start_token_id is not None:
        targets[:, 0] = ours.config.decoder_start_token_id
    return inputs | {"decoder_input_ids": targets}


def _ordinary_tokens(ours: PreTrainedModel, vocab_size: int, shape: tuple[int, int], seed: int) -> torch.Tensor:
    config = ours.config
    special = {getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "decoder_start")}
    ends = getattr(config, "eos_token_id", None)
    special |= set(ends) if isinstance(ends, list) else {ends}
    ordinary = torch.tensor([number for number in range(vocab_size) if number not in special] or [0])
    return ordinary[torch.randint(len(ordinary), shape, generator=torch.Generator().manual_seed(seed))]


# Comparisons


def _compare_outputs(ours: PreTrainedModel, stock: PreTrainedModel, kind: str, inputs: Inputs) -> list[Check]:
    if type(ours).__name__.endswith("MultipleChoice"):
        inputs = {name: tensor.unsqueeze(1) for name, tensor in inputs.items()}
    is_seq2seq = ours.config.is_encoder_decoder
    # With a cache FSMT takes what it is given for the newest token, and masks nothing.
    options = {"use_cache": False} if is_seq2seq else {}
    with torch.inference_mode():
        mine, theirs = (model(**inputs, output_hidden_states=True, **options) for model in (ours, stock))
    order = _order(stock, ours.config.hidden_size)
    # What stands at padding means nothing and may differ; targets have none.
    mask = inputs["attention_mask"].bool()
    is_padded = mask if not is_seq2seq else None
    checks = []
    for name in ("logits", "start_logits", "end_logits", "last_hidden_state", "pooler_output"):
        if mine.get(name) is not None and theirs.get(name) is not None:
            other = theirs[name][..., order] if name == "last_hidden_state" else theirs[name]
            checks.append(_check(f"{name}, {kind}", mine[name], other, is_padded))
    for name in ("hidden_states", "encoder_hidden_states", "decoder_hidden_states"):
        if mine.get(name) is not None:
            one, other = torch.stack(list(mine[name]), dim=-1), torch.stack(list(theirs[name]), dim=-1)[..., order, :]
            rows = None if name.startswith("decoder") else mask.view(-1, mask.shape[-1])
            checks.append(_check(f"{name.replace('_', ' ')}, {kind}", one, other, rows))
    return checks


def _order(stock: PreTrainedModel, width: int) -> torch.Tensor:
    """Where the components of our residual stream are in theirs: a Marian's width may have been permuted."""
    return to_halves(width).argsort() if is_permuted(stock.config) else torch.arange(width)


def _check(name: str, ours: torch.Tensor, theirs: torch.Tensor, mask: torch.Tensor | None) -> Check:
    if mask is not None and ours.shape[: mask.ndim] == mask.shape == theirs.shape[: mask.ndim]:
        ours, theirs = ours[mask], theirs[mask]
    return difference_check(name, ours, theirs, TOLERANCE)


def _compare_generation(ours: PreTrainedModel, stock: PreTrainedModel, kind: str, inputs: Inputs) -> list[Check]:
    """Decoders continue rows without padding, which stands on the wrong side of them."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    if not ours.config.is_encoder_decoder:
        length = int(mask.sum(-1).min())
        ids, mask = ids[:, :length], mask[:, :length]
    used = 1 if ours.config.is_encoder_decoder else ids.shape[1]
    num_new = max(1, min(NEW_TOKENS, ours.config.max_position_embeddings - used + 1))
    searches = [("greedy", 1)]
    if ours.config.vocab_size > max(1, len(end_tokens(ours))):  # beams go on with other tokens
        searches.append(("beam-4", 4))
    checks = []
    for name, num_beams in searches:
        mine, theirs = (_generated(model, ids, mask, num_new, num_beams, ours.config) for model in (ours, stock))
        checks.append(tokens_check(f"{name} tokens, {kind}", mine, theirs))
    return checks


def _generated(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, num_new: int, num_beams: int, config: Any
) -> Sequence[Sequence[int]]:
    suppressed = model.generation_config.suppress_tokens or []
    if config.pad_token_id not in (None, config.eos_token_id):
        # M2M100 and FSMT count no position for a padding token amid the others, which no trained model gives.
        suppressed = [*suppressed, config.pad_token_id]
    with torch.inference_mode(), plain_generation(model, *SEARCH_SETTINGS):
        return model.generate(
            ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=num_new,
            num_beams=num_beams,
            early_stopping=num_beams > 1,
            suppress_tokens=suppressed or None,
            # With this, transformers' own search for both, lest two sentences that are equally likely change places.
            return_dict_in_generate=True,
        ).sequences.tolist()
