"""Checks that a model and its converted copy agree in logits, hidden states, generated tokens and weights."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedModel

from vanilla_transformers.interop.architecture import Architecture
from vanilla_transformers.interop.checks import Check, difference_check, tokens_check
from vanilla_transformers.interop.conversion import tensors_in, tensors_out
from vanilla_transformers.interop.permutation import is_permuted, to_halves
from vanilla_transformers.interop.rules import Tensors
from vanilla_transformers.interop.samples import end_tokens, padded, plain_generation
from vanilla_transformers.model.configuration_base import VanillaConfig

TOLERANCE = 1e-5
"""Largest allowed difference of two outputs in fp32, multiplied by the largest output if that is above 1."""

SENTENCES = (
    "A dog is running across the green field.",
    "Two men in blue shirts stand near a small house, talking.",
    "Nobody had expected the film to be as good as this!",
    "Hello.",
)
"""Sentences that are compared as inputs of the models, besides rows of random token ids."""

NEW_TOKENS = 12  # maximum number of tokens that are generated for each row
LONGEST_INPUT = 64  # maximum length of an input in tokens

SEARCH_SETTINGS = (
    *("forced_bos_token_id", "forced_eos_token_id", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens"),
    *("no_repeat_ngram_size", "repetition_penalty", "length_penalty"),
)
"""Settings of the generation config that the compared searches keep. Other settings are the same in both searches."""

Inputs = dict[str, torch.Tensor]


def compare(before: PreTrainedModel, after: PreTrainedModel, tokenizer: Any = None) -> list[Check]:
    """Compares the outputs of our model and a transformers model and, if they can generate, greedy and beam search.

    Args:
        before, after: our model and the transformers model, in either order, in evaluation mode and fp32, on the CPU.
        tokenizer: the tokenizer of the models, which adds real sentences to the random inputs; may be `None`.
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
    """Checks that converting the weights of each model gives exactly the weights of the other model."""
    mine, theirs = dict(ours.state_dict()), dict(stock.state_dict())
    for rule in architecture.rules(ours.config, stock.config, head):
        if rule.is_copy:  # without weight tying, transformers' model never reads this copy
            theirs = {name: tensor for name, tensor in theirs.items() if name not in rule.theirs}
    pairs = [
        *_pairs(mine, tensors_in(architecture, ours.config, stock, head), ours.config.position_offset),
        *_pairs(theirs, tensors_out(architecture, ours, stock.config, head)),
    ]
    equal = sum(bool((one.double() == other.double()).all()) for one, other in pairs)
    return Check("weights, there and back", f"{equal} of {len(pairs)} equal", equal == len(pairs))


def tokenizer_check(before: Any, after: Any) -> Check:
    """Checks that two tokenizers give the same token ids for the sentences and have the same special tokens."""
    texts = list(SENTENCES)
    check = tokens_check("tokenizer, sentences", before(texts)["input_ids"], after(texts)["input_ids"])
    return replace(check, passed=check.passed and before.all_special_ids == after.all_special_ids)


def _pairs(weights: Tensors, made: Tensors, unread: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields each weight with its converted counterpart. The first `unread` rows of position tables are left out."""
    for name in weights.keys() & made.keys():
        start = unread if name.endswith("input_embedding.positions.weight") else 0
        yield weights[name][start:], made[name][start:]


def _settings_check(ours: PreTrainedModel, stock: PreTrainedModel) -> Check:
    """Checks that both models have the same generation settings."""
    mine, theirs = (model.generation_config.to_diff_dict() for model in (ours, stock))
    names = (mine.keys() | theirs.keys()) - {"_from_model_config", "transformers_version"}
    differing = sorted(name for name in names if mine.get(name) != theirs.get(name))
    return Check("generation settings", f"{', '.join(differing) or 'none'} differ", not differing)


# Inputs


def all_inputs(ours: PreTrainedModel, tokenizer: Any) -> Iterator[tuple[str, Inputs]]:
    """Yields the inputs to compare, with their names: random rows and, with a tokenizer, sentences.

    The inputs of an encoder-decoder include random targets.
    """
    is_decoder = ours.can_generate() and not ours.config.is_encoder_decoder
    num_positions = getattr(ours.config, "max_position_embeddings", LONGEST_INPUT)
    longest = max(1, min(num_positions - (NEW_TOKENS if is_decoder else 0), LONGEST_INPUT))
    kinds = {"random rows": _random_rows(ours, min(10, longest))}
    if tokenizer is not None and longest > tokenizer.num_special_tokens_to_add():
        rows = tokenizer(list(SENTENCES), truncation=True, max_length=longest)["input_ids"]
        ids, mask = padded(ours, rows)  # left padding would shift the positions of some models
        kinds["sentences"] = {"input_ids": ids, "attention_mask": mask}
    for kind, inputs in kinds.items():
        if type(ours).__name__.endswith("DecoderForSequenceClassification") and ours.config.pad_token_id is None:
            # Without pad_token_id, the decoder classifiers of transformers raise an error for more than one row, and
            # cannot recognize padding. So the input is a single row without padding.
            length = int(inputs["attention_mask"][0].sum())
            inputs = {name: tensor[:1, :length] for name, tensor in inputs.items()}
        yield kind, _with_targets(ours, inputs)


def _random_rows(ours: PreTrainedModel, length: int) -> Inputs:
    """Three rows of random tokens. The last row ends with padding if the model has a padding token."""
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
    """The inputs and, for an encoder-decoder, random targets that begin with the start token."""
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
    # With use_cache=True, transformers' FSMT treats the targets as the newest tokens of a search, and applies no causal
    # mask.
    options = {"use_cache": False} if is_seq2seq else {}
    with torch.inference_mode():
        mine, theirs = (model(**inputs, output_hidden_states=True, **options) for model in (ours, stock))
    order = _order(stock, ours.config.hidden_size)
    # The outputs for padding tokens are meaningless and may differ, so they are not compared. The targets of an
    # encoder-decoder have no padding.
    mask = inputs["attention_mask"].bool()
    is_token = mask if not is_seq2seq else None
    checks = []
    for name in ("logits", "start_logits", "end_logits", "last_hidden_state", "pooler_output"):
        if mine.get(name) is not None and theirs.get(name) is not None:
            other = theirs[name][..., order] if name == "last_hidden_state" else theirs[name]
            checks.append(_check(f"{name}, {kind}", mine[name], other, is_token))
    for name in ("hidden_states", "encoder_hidden_states", "decoder_hidden_states"):
        if mine.get(name) is not None:
            one, other = torch.stack(list(mine[name]), dim=-1), torch.stack(list(theirs[name]), dim=-1)[..., order, :]
            rows = None if name.startswith("decoder") else mask.view(-1, mask.shape[-1])
            checks.append(_check(f"{name.replace('_', ' ')}, {kind}", one, other, rows))
    return checks


def _order(stock: PreTrainedModel, width: int) -> torch.Tensor:
    """The index (D,) of each component of our residual stream in the transformers model, which may be permuted."""
    return to_halves(width).argsort() if is_permuted(stock.config) else torch.arange(width)


def _check(name: str, ours: torch.Tensor, theirs: torch.Tensor, mask: torch.Tensor | None) -> Check:
    if mask is not None and ours.shape[: mask.ndim] == mask.shape == theirs.shape[: mask.ndim]:
        ours, theirs = ours[mask], theirs[mask]
    return difference_check(name, ours, theirs, TOLERANCE)


def _compare_generation(ours: PreTrainedModel, stock: PreTrainedModel, kind: str, inputs: Inputs) -> list[Check]:
    """Compares generated tokens.

    All prompts of a decoder are cut to the length of the shortest prompt. Otherwise padding would come between a prompt
    and the generated tokens.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    if not ours.config.is_encoder_decoder:
        length = int(mask.sum(-1).min())
        ids, mask = ids[:, :length], mask[:, :length]
    used = 1 if ours.config.is_encoder_decoder else ids.shape[1]
    num_new = max(1, min(NEW_TOKENS, ours.config.max_position_embeddings - used + 1))
    searches = [("greedy", 1)]
    if ours.config.vocab_size > max(1, len(end_tokens(ours))):  # beam search needs tokens that do not end a beam
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
        # M2M100 and FSMT do not count padding tokens as positions, so the outputs after a generated padding token would
        # differ. Trained models do not generate padding tokens.
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
            # With this setting our model also runs transformers' search. So both models put equally likely sentences in
            # the same order.
            return_dict_in_generate=True,
        ).sequences.tolist()
