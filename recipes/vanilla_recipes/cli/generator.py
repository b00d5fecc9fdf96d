"""Continues or answers prompts for `vanilla generate`."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from vanilla_recipes.cli.models import load_for
from vanilla_recipes.errors import UserError
from vanilla_recipes.scoring.decoding import answers, checked, model_faults
from vanilla_transformers.text.answers import default_batch_tokens, num_positions
from vanilla_transformers.text.batches import in_windows, length_sorted_batches
from vanilla_transformers.text.pipelines import Text2TextPipeline

if TYPE_CHECKING:
    from vanilla_recipes.cli.inference import Answer, Fields

NEW_TOKENS = 100
"""Maximum number of new tokens of a decoder if neither the generation config nor the command sets a maximum."""


def load(arguments: argparse.Namespace) -> "Answer":
    """Loads the model; returns the function that continues or answers prompts."""
    model, tokenizer = load_for("generate", arguments.model, arguments.device, arguments.dtype)
    torch.manual_seed(arguments.seed)
    settings = search_settings(arguments)
    if model.config.is_encoder_decoder:
        return answerer(model, tokenizer, batch_tokens=arguments.batch_tokens, **settings)
    continuer = Continuer(model, tokenizer, settings, arguments.batch_tokens)

    def generate(prompts: Iterator[str], progress: bool) -> Iterator["Fields"]:
        numbered = enumerate(prompts, start=1)
        for texts in in_windows(numbered, continuer, "prompts", progress):
            yield from ((text,) for text in texts)

    return generate


def search_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings of `generate`.

    If a sampling option is given, generation samples, and the other sampling options get values without effect
    (temperature 1, all tokens). Otherwise the search is a greedy search or a beam search.
    """
    settings: dict[str, Any] = {"do_sample": False, "num_return_sequences": arguments.num_return_sequences}
    sampling = {"temperature": arguments.temperature, "top_p": arguments.top_p, "top_k": arguments.top_k}
    if any(value is not None for value in sampling.values()):
        defaults = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
        chosen = {name: defaults[name] if value is None else value for name, value in sampling.items()}
        settings |= {"do_sample": True, "num_beams": 1, **chosen}
    if arguments.num_beams is not None:
        settings["num_beams"] = arguments.num_beams
    if arguments.max_new_tokens is not None:
        settings["max_new_tokens"] = arguments.max_new_tokens
    return settings


def answerer(model: PreTrainedModel, tokenizer: Any, **settings: Any) -> "Answer":
    """Returns a function that answers prompts with an encoder-decoder."""
    pipeline = Text2TextPipeline("text2text-generation", model, tokenizer, **settings)

    def generate(prompts: Iterator[str], progress: bool) -> Iterator["Fields"]:
        for records in answers(pipeline, prompts, progress=progress):
            yield from ((record["generated_text"],) for record in (records if isinstance(records, list) else [records]))

    return generate


class Continuer:
    """Continues prompts with a decoder.

    Only prompts with the same number of tokens are batched. So a batch has no padding, and a prompt gets the same text
    in a batch as alone.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        settings: settings of `generate`.
        batch_tokens: number of prompt tokens of a batch; None for the default of the device.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: Any, settings: Mapping[str, Any], batch_tokens: int | None
    ) -> None:
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.batch_tokens = batch_tokens or default_batch_tokens(model)
        self.num_positions = num_positions(model.config)

    def __call__(self, prompts: list[tuple[int, str]], bar: tqdm) -> list[list[str]]:
        """Returns the texts (prompt and continuation) for each numbered prompt; a blank prompt stays blank.

        Raises:
            UserError: If a prompt is too long or not valid Unicode, or the model fails.
        """
        texts = [[""] * self.settings["num_return_sequences"] for _ in prompts]
        ids = {row: self._encode(number, text) for row, (number, text) in enumerate(prompts) if text.strip()}
        bar.update(len(prompts) - len(ids))
        by_length: dict[int, list[int]] = {}
        for row, tokens in ids.items():
            by_length.setdefault(len(tokens), []).append(row)
        for length, rows in by_length.items():
            for batch in length_sorted_batches([length] * len(rows), self.batch_tokens):
                chosen = [rows[number] for number in batch]
                for row, found in zip(chosen, self._continue([ids[row] for row in chosen]), strict=True):
                    texts[row] = found
                bar.update(len(chosen))
        return texts

    def _encode(self, number: int, text: str) -> list[int]:
        ids = self.tokenizer(checked(number, text), verbose=False)["input_ids"]
        if len(ids) >= self.num_positions:
            raise UserError(
                f"prompt {number} has {len(ids)} tokens, but the model has {self.num_positions} positions for the "
                "prompt and the new tokens together; shorten it"
            )
        return ids

    @torch.inference_mode()
    def _continue(self, rows: Sequence[list[int]]) -> list[list[str]]:
        inputs = torch.tensor(rows, device=self.model.device)
        limits = {"max_length": self._longest_text(inputs.shape[1]), "max_new_tokens": None}
        settings = {**self.settings, **limits, "return_dict_in_generate": False}
        with model_faults(self.model, "generate"):
            output = self.model.generate(
                inputs, attention_mask=torch.ones_like(inputs), pad_token_id=self._padding(), **settings
            )
        texts = self.tokenizer.batch_decode(output, skip_special_tokens=True)
        count = len(texts) // len(rows)
        return [texts[start : start + count] for start in range(0, len(texts), count)]

    def _longest_text(self, prompt_length: int) -> int:
        """Returns the maximum number of tokens of prompt and new tokens together.

        The limit is the command's option, or else the limit in the generation config of the model, or else `NEW_TOKENS`
        new tokens. It never exceeds the number of positions of the model.
        """
        saved = self.model.generation_config
        asked = self.settings.get("max_new_tokens", saved.max_new_tokens)
        most = prompt_length + (NEW_TOKENS if asked is None else asked)
        if asked is None and (saved.max_length or 0) > prompt_length:
            most = saved.max_length
        return min(most, self.num_positions)

    def _padding(self) -> int | None:
        """Returns the padding id after the end of shorter texts in a batch. The decoded text does not contain it."""
        if self.tokenizer.pad_token_id is not None:
            return self.tokenizer.pad_token_id
        eos = self.model.generation_config.eos_token_id
        return eos[0] if isinstance(eos, list) else eos
