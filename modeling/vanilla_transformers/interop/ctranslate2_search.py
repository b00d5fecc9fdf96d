"""A `generate` that CTranslate2 does: weights of 8 bits, and the fastest search on a CPU."""

import copy
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from vanilla_transformers.interop.checks import InteropError
from vanilla_transformers.interop.ctranslate2 import write
from vanilla_transformers.interop.ctranslate2_spec import special_id, vocabulary

_DEFAULT_LENGTH = 20  # of transformers
# With the value that changes nothing.
_WITHOUT_EQUAL = {
    "do_sample": False, "num_beam_groups": 1, "diversity_penalty": 0.0, "penalty_alpha": 0.0, "guidance_scale": 1.0,
    "encoder_repetition_penalty": 1.0, "encoder_no_repeat_ngram_size": 0, "prompt_lookup_num_tokens": 0,
    "constraints": [], "force_words_ids": [], "begin_suppress_tokens": [], "exponential_decay_length_penalty": (),
    "sequence_bias": {}, "dola_layers": None,
}  # fmt: skip


def generate_with_ctranslate2(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, quantization: str = "int8"
) -> PreTrainedModel:
    """Gives an encoder-decoder another `generate`, whose weights CTranslate2 holds; all else is as before.

    Beam search ends as with `early_stopping=True`. Of the settings of `generate` it follows those of beams, lengths,
    repetition and forbidden or forced tokens.

    Args:
        model: a `VanillaSeq2SeqForConditionalGeneration` on a CPU or a CUDA device; it is changed in place.
        tokenizer: its tokenizer.
        quantization: one of CTranslate2's types.

    Returns:
        The model.

    Raises:
        InteropError: CTranslate2 is not installed, or cannot hold the model.
    """
    if not model.config.is_encoder_decoder:
        raise InteropError(f"{type(model).__name__}: {quantization} is for encoder-decoders; export it instead")
    if model.device.type not in ("cpu", "cuda"):
        raise InteropError(f"{model.device}: CTranslate2 runs {quantization} on cpu and cuda; choose one of these")
    found: Any = model
    found.generate = CTranslate2Search(model, tokenizer, quantization)
    return model


class CTranslate2Search:
    """Answers as `generate` does.

    Args:
        model: an encoder-decoder, whose configurations count.
        tokenizer: its tokenizer.
        quantization: one of CTranslate2's types.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, quantization: str) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "model"
            write(model, tokenizer, folder, quantization)
            import ctranslate2

            # So many batches at once, each by one thread, are faster than one after the other by all of them.
            self.num_workers = torch.get_num_threads() if model.device.type == "cpu" else 1
            settings = {"device": model.device.type, "inter_threads": self.num_workers, "intra_threads": 1}
            # It sets the threads that torch has, too, but only where it is made.
            with ThreadPoolExecutor(1) as elsewhere:
                self.translator = elsewhere.submit(ctranslate2.Translator, str(folder), **settings).result()
        self.pad, self.defaults, self.device = model.config.pad_token_id, model.generation_config, model.device
        self.tokens = vocabulary(tokenizer, model.config.vocab_size)
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        self.start, self.end = special_id(model, "decoder_start_token_id"), special_id(model, "eos_token_id")

    def __call__(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **settings: Any
    ) -> torch.Tensor:
        """Token ids (B x num_return_sequences, T) of sources (B, S), each behind the start token.

        Args:
            input_ids: (B, S).
            attention_mask: (B, S), 0 at padding.
            settings: of `generate`, also as a `generation_config`.

        Raises:
            ValueError: CTranslate2 has nothing for a setting.
        """
        search = copy.deepcopy(settings.pop("generation_config", None) or self.defaults)
        options = self._options(search, search.update(**settings))
        is_token = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows = [self._named(row[seen.bool()]) for row, seen in zip(input_ids, is_token, strict=True)]
        results = self.translator.translate_batch(
            rows,
            target_prefix=self._prefix(search, len(rows)),
            max_batch_size=-(-len(rows) // self.num_workers),
            max_input_length=0,
            **options,
        )
        rows_of_ids = [[self.ids[token] for token in tokens] for result in results for tokens in result.hypotheses]
        most = options["max_decoding_length"]
        found = [[self.start, *ids, *([self.end] if len(ids) < most else [])] for ids in rows_of_ids]
        width = max(map(len, found))
        return torch.tensor([ids + [self.pad] * (width - len(ids)) for ids in found], device=self.device)

    def _named(self, ids: torch.Tensor) -> list[str]:
        return [self.tokens[number] for number in ids.tolist()]

    def _prefix(self, search: GenerationConfig, num_rows: int) -> list[list[str]] | None:
        forced = search.forced_bos_token_id
        return None if forced is None else [[self.tokens[forced]]] * num_rows

    def _options(self, search: GenerationConfig, others: dict[str, Any]) -> dict[str, Any]:
        """The settings in CTranslate2's words; others are none of a search."""
        unknown = [name for name, usual in _WITHOUT_EQUAL.items() if getattr(search, name, None) not in (None, usual)]
        unknown += others
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: CTranslate2 has no such setting; leave it or int8 out")
        most = search.max_new_tokens
        if most is None:
            most = (search.max_length or _DEFAULT_LENGTH) - 1  # without the start token
        least = search.min_new_tokens or max(0, (search.min_length or 0) - 1)
        forbidden = [*(search.bad_words_ids or []), *([token] for token in search.suppress_tokens or [])]
        return {
            "beam_size": search.num_beams or 1,
            "num_hypotheses": search.num_return_sequences or 1,
            "length_penalty": 1.0 if search.length_penalty is None else search.length_penalty,
            "max_decoding_length": most,
            "min_decoding_length": min(least, most),
            "repetition_penalty": search.repetition_penalty or 1.0,
            "no_repeat_ngram_size": search.no_repeat_ngram_size or 0,
            "suppress_sequences": [[self.tokens[token] for token in sequence] for sequence in forbidden] or None,
        }
