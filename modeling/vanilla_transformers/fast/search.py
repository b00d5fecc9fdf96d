"""Greedy search, sampling and beam search that find the same tokens as transformers' `_sample` and `_beam_search`.

A sentence leaves the batch when its result is final, so that no step is spent on it.

Shapes: B sentences (B' of them still in the batch), K beams, C candidates, P prompt length, L maximum length,
V vocabulary.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import LogitsProcessorList

from vanilla_transformers.fast.step_decoder import StepDecoder
from vanilla_transformers.fast.top_k import likeliest, top_k, top_log_probs

_NEVER = -1e9
"""Score of a candidate that must not be chosen, as in transformers."""

_SENTENCES = 8
"""Finished sentences are removed only when at least an eighth of the batch can be removed. The new batch size is a
multiple of 8, or a power of two up to 8. Removing copies the other sentences, and CPU kernels are compiled for each row
count."""

_FREE_TOKENS = 32
"""Minimum number of tokens by which a sequence buffer grows. A buffer of more tokens doubles its length."""

_LOGITS_ON_CPU, _LOGITS_ELSEWHERE = 1 << 19, 1 << 27
"""Number of logits that are computed at once: on a CPU as many as fit into the cache, elsewhere half a GB in fp32."""


@dataclass(frozen=True)
class SearchSettings:
    """Settings of a search.

    Attributes:
        max_length: L, prompt included.
        ends: End token ids, a vector, or `None`.
        fill: Token id that pads a sentence after its end.
        banned: Token ids that are never chosen, a vector, or `None`.
        num_beams: K; 1 is greedy search or sampling.
        do_sample: Whether tokens are drawn (sampling) instead of the likeliest (greedy search).
        num_results: Number of beams that are returned for each sentence.
        length_penalty: The score of a finished sentence is log-probability / length ** length_penalty.
        early_stopping: As in `GenerationConfig`: true, false or "never".
    """

    max_length: int
    ends: torch.Tensor | None
    fill: int
    banned: torch.Tensor | None = None
    num_beams: int = 1
    do_sample: bool = False
    num_results: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False


def token_search(decoder: StepDecoder, processors: LogitsProcessorList, settings: SearchSettings) -> torch.Tensor:
    """Greedy search or sampling: token ids (B, up to L), prompt included.

    Args:
        decoder: The decoder, with one alternative for each sentence.
        processors: Change the logits (B, V) before each choice; each row must be processed independently.
        settings: The settings, with `num_beams` 1.
    """
    prompt = decoder.prompt
    length = prompt.shape[1]
    results = sequences = padded_for_more(prompt, settings)
    rows = torch.arange(len(prompt), device=prompt.device)
    is_active = torch.ones_like(rows, dtype=torch.bool)
    hidden_states = decoder.read_prompt()
    while True:
        scores = (
            processors(sequences[part, :length], logits)
            for part, logits in logits_by_part(decoder, hidden_states[:, 0])
        )
        if settings.do_sample:
            tokens = drawn(torch.cat(list(scores)), rows, len(prompt))
        else:
            tokens = torch.cat([likeliest(each, settings.banned) for each in scores])
        if settings.ends is not None:
            tokens = tokens.masked_fill(~is_active, settings.fill)
            is_active = is_active & ~torch.isin(tokens, settings.ends)
        if length == sequences.shape[1]:
            results, sequences = (padded_for_more(each, settings) for each in (results, sequences))
        sequences[:, length] = tokens
        length += 1
        if length == settings.max_length or not is_active.any():
            break
        kept = staying(is_active)
        if kept is not None:
            results = results.index_copy(0, rows, sequences)
            rows, sequences, tokens, is_active = (each[kept] for each in (rows, sequences, tokens, is_active))
            decoder.keep(kept)
        hidden_states = decoder.step(tokens[:, None])
    return results.index_copy(0, rows, sequences)[:, :length]


def drawn(scores: torch.Tensor, rows: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Draw a token (B',) for each row of scores (B', V) from the softmax of the row.

    Random numbers are drawn for all B sentences. So the random numbers of a sentence do not change when another
    sentence leaves the batch.

    Args:
        scores: Scores of the sentences in the batch.
        rows: Index (B',) of each of these sentences among all sentences.
        num_rows: B.
    """
    probs = scores.softmax(-1)
    if len(rows) == num_rows:
        return torch.multinomial(probs, 1)[:, 0]
    return torch.multinomial(probs.new_ones(num_rows, probs.shape[1]).index_copy(0, rows, probs), 1)[rows, 0]


def beam_search(decoder: StepDecoder, processors: LogitsProcessorList, settings: SearchSettings) -> torch.Tensor:
    """Beam search: the best finished sequences (B x number of results, up to L), for each sentence the best one first.

    Args:
        decoder: The decoder, with K alternatives for each sentence.
        processors: Change the log-probabilities (rows, V) before each choice; each row must be processed independently.
        settings: The settings, with `num_beams` K.
    """
    beams = Beams(decoder.prompt, settings)
    hidden_states = decoder.read_prompt()
    while True:
        candidates = [
            beams.candidates(logits, part, processors) for part, logits in logits_by_part(decoder, hidden_states)
        ]
        tokens, parents = beams.extend(*map(torch.cat, zip(*candidates, strict=True)))
        if not beams.is_active.any():
            break
        kept = staying(beams.is_active)
        if kept is not None:
            beams.keep(kept)
            tokens, parents = tokens[kept], parents[kept]
            decoder.keep(kept)
        hidden_states = decoder.step(tokens, parents)
    return beams.results()


def padded_for_more(sequences: torch.Tensor, settings: SearchSettings) -> torch.Tensor:
    """Sequences (..., length), padded for more tokens, to at most L."""
    length = sequences.shape[-1]
    free = min(settings.max_length - length, max(_FREE_TOKENS, length))
    return torch.nn.functional.pad(sequences, (0, free), value=settings.fill)


def staying(is_active: torch.Tensor) -> torch.Tensor | None:
    """Indices of the sentences that stay in the batch; `None` if too few are finished.

    Finished sentences stay too if the new batch size has space for them.
    """
    num_rows, num_active = len(is_active), int(is_active.sum())
    few = num_active <= _SENTENCES
    size = 1 << (num_active - 1).bit_length() if few else math.ceil(num_active / _SENTENCES) * _SENTENCES
    if _SENTENCES * (num_rows - size) < num_rows:
        return None
    return is_active.int().argsort(descending=True, stable=True)[:size]


def logits_by_part(decoder: StepDecoder, hidden_states: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Compute logits in fp32 for hidden states (B, ..., D) of some sentences at a time, to limit their size.

    Yields:
        A slice of the sentences, and their logits. On a CPU the logits fit into the cache.
    """
    size = decoder.vocab_size * hidden_states[0, ..., 0].numel()
    most = _LOGITS_ON_CPU if hidden_states.device.type == "cpu" else _LOGITS_ELSEWHERE
    step = max(1, most // size)
    for start in range(0, len(hidden_states), step):
        part = slice(start, start + step)
        yield part, decoder.logits(hidden_states[part])


class Beams:
    """The running beams of the sentences in the batch, and the finished beams of all sentences.

    Args:
        prompt: Token ids (B, P).
        settings: As for `beam_search`.
    """

    def __init__(self, prompt: torch.Tensor, settings: SearchSettings):
        num_rows, self.prompt_length = prompt.shape
        self.settings = settings
        self.length = self.prompt_length
        shape = (num_rows, settings.num_beams)
        self.rows = torch.arange(num_rows, device=prompt.device)
        self.sequences = padded_for_more(prompt, settings)[:, None].expand(-1, settings.num_beams, -1)
        # All beams start with the same sequence, so only the first beam has a score. The other beams are used only if
        # fewer than K tokens are allowed.
        self.scores = torch.full(shape, _NEVER, dtype=torch.float32, device=prompt.device)
        self.scores[:, 0] = 0.0
        self.is_active = torch.ones(num_rows, dtype=torch.bool, device=prompt.device)
        # The finished beams of each sentence, best first.
        self.state: dict[str, torch.Tensor] = {
            "sequences": self.sequences.clone(),
            "scores": torch.full(shape, _NEVER, dtype=torch.float32, device=prompt.device),
            "lengths": torch.zeros(shape, dtype=torch.long, device=prompt.device),
            "is_finished": torch.zeros(shape, dtype=torch.bool, device=prompt.device),
        }
        self.all = {name: tensor.clone() for name, tensor in self.state.items()}

    def candidates(
        self, logits: torch.Tensor, part: slice, processors: LogitsProcessorList
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Scores, tokens and beams of the best continuations of some sentences, (B', C) each, best first.

        Args:
            logits: (B', K, V), or (B', 1, V) in the first step, when all beams are equal; overwritten.
            part: The slice of these sentences in the batch.
            processors: Change the log-probabilities.
        """
        num_ends = 0 if self.settings.ends is None else len(self.settings.ends)
        # Even if every beam ends with every end token, K candidates remain that do not end.
        number = max(2, 1 + num_ends) * self.settings.num_beams
        if len(processors):
            sequences = self.sequences[part, : logits.shape[1], : self.length].flatten(0, 1)
            log_probs = logits.log_softmax(-1).flatten(0, 1)
            scores = processors(sequences, log_probs).view_as(logits)
            values, tokens = top_k(scores, number)  # (B', K, C)
        else:
            values, tokens = top_log_probs(logits, number, self.settings.banned)
        totals = values + self.scores[part, :, None]
        best, indices = totals.flatten(1).topk(number)
        return best, tokens.expand_as(totals).flatten(1).gather(1, indices), indices // number

    def extend(
        self, scores: torch.Tensor, tokens: torch.Tensor, parents: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Choose the K best candidates of each sentence that have not ended; store candidates that have ended.

        Args:
            scores, tokens, parents: (B', C) each, from `candidates`.

        Returns:
            The new token of each running beam, and the index of the beam that it continues, (B', K) each.
        """
        settings = self.settings
        if self.length == self.sequences.shape[-1]:
            self.sequences = padded_for_more(self.sequences, settings)
            for state in (self.state, self.all):
                state["sequences"] = padded_for_more(state["sequences"], settings)
        sequences = self.sequences.take_along_dim(parents[..., None], dim=1)  # (B, C, L)
        sequences[:, :, self.length] = tokens
        self.length += 1
        is_end = torch.full_like(tokens, self.length >= settings.max_length, dtype=torch.bool)
        if settings.ends is not None:
            is_end = is_end | torch.isin(tokens, settings.ends)

        # Choose the candidates that continue, then store the candidates that have just ended.
        self.scores, chosen = (scores + is_end.to(scores.dtype) * _NEVER).topk(settings.num_beams)
        self.sequences = sequences.take_along_dim(chosen[..., None], dim=1)
        self._finish(sequences, scores, is_end)

        best = self.scores[:, 0] / self._hypothetical_length() ** settings.length_penalty
        finished = self.state["is_finished"]
        worst = torch.where(finished, self.state["scores"].amin(1, keepdim=True), _NEVER)
        self.is_active = self.is_active & (best[:, None] > worst).any(1) & (self.length < settings.max_length)
        if settings.early_stopping is True:
            self.is_active = self.is_active & ~finished.all(1)
        return tokens.gather(1, chosen), parents.gather(1, chosen)

    def keep(self, kept: torch.Tensor) -> None:
        """Keep the sentences with the given indices (B',) in the batch."""
        self._store()
        self.rows, self.sequences, self.scores, self.is_active = (
            tensor[kept] for tensor in (self.rows, self.sequences, self.scores, self.is_active)
        )
        self.state = {name: tensor[kept] for name, tensor in self.state.items()}

    def results(self) -> torch.Tensor:
        """The best finished sequences, cut to the longest of them."""
        self._store()
        number = self.settings.num_results
        length = self.prompt_length + int(self.all["lengths"][:, :number].max())
        return self.all["sequences"][:, :number, :length].flatten(0, 1)

    def _finish(self, sequences: torch.Tensor, scores: torch.Tensor, is_end: torch.Tensor) -> None:
        """Add the candidates that have ended, if they are among the best K, to the finished beams; keep the best K."""
        settings = self.settings
        is_new = is_end.clone()
        is_new[:, settings.num_beams :] = False
        is_new &= self.is_active[:, None]
        num_new = self.length - self.prompt_length
        scores = torch.where(is_new, scores / num_new**settings.length_penalty, _NEVER)
        found = {
            "sequences": sequences,
            "scores": scores,
            "lengths": torch.full_like(is_end, num_new, dtype=torch.long),
            "is_finished": is_new,
        }
        merged = {name: torch.cat((self.state[name], new), dim=1) for name, new in found.items()}
        indices = merged["scores"].topk(settings.num_beams)[1]
        self.state = {
            name: tensor.take_along_dim(indices[..., None] if tensor.ndim == 3 else indices, dim=1)
            for name, tensor in merged.items()
        }

    def _hypothetical_length(self) -> int:
        """The number of new tokens with which the best possible score of a running beam is computed."""
        settings = self.settings
        longest = settings.early_stopping == "never" and settings.length_penalty > 0
        return (settings.max_length if longest else self.length) - self.prompt_length

    def _store(self) -> None:
        for name, tensor in self.state.items():
            self.all[name][self.rows] = tensor
