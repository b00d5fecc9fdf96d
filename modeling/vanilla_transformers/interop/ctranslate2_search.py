"""A `generate` that runs in CTranslate2, with int8 weights by default: the fastest search on a CPU."""

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

_DEFAULT_LENGTH = 20  # tokens: the default max_length of transformers, which includes the start token
# Settings of `generate` that CTranslate2 does not support -> the value that turns the setting off.
_WITHOUT_EQUAL = {
    "do_sample": False, "num_beam_groups": 1, "diversity_penalty": 0.0, "penalty_alpha": 0.0, "guidance_scale": 1.0,
    "encoder_repetition_penalty": 1.0, "encoder_no_repeat_ngram_size": 0, "prompt_lookup_num_tokens": 0,
    "constraints": [], "force_words_ids": [], "begin_suppress_tokens": [], "exponential_decay_length_penalty": (),
    "sequence_bias": {}, "dola_layers": None,
}  # fmt: skip


def generate_with_ctranslate2(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, quantization: str = "int8"
) -> PreTrainedModel:
    """Replaces the `generate` of an encoder-decoder with CTranslate2's search. The model's `forward` stays as it is.

    CTranslate2 holds its own quantized copy of the weights. Beam search ends as with `early_stopping=True`. The new
    `generate` supports the settings for beams, lengths, repetition, forbidden tokens and `forced_bos_token_id`.

    Args:
        model: a `VanillaSeq2SeqForConditionalGeneration` on a CPU or a CUDA device; it is changed in place.
        tokenizer: the tokenizer of the model.
        quantization: one of CTranslate2's types, such as `"int8"` or `"float32"`.

    Returns:
        The model.

    Raises:
        InteropError: If CTranslate2 is not installed, or cannot represent the model.
    """
    if not model.config.is_encoder_decoder:
        raise InteropError(f"{type(model).__name__}: {quantization} is for encoder-decoders; export this model instead")
    if model.device.type not in ("cpu", "cuda"):
        raise InteropError(f"{model.device}: CTranslate2 runs {quantization} on cpu and cuda; choose one of these")
    found: Any = model
    found.generate = CTranslate2Search(model, tokenizer, quantization)
    return model


class CTranslate2Search:
    """A callable with the inputs and outputs of `generate`, which searches in CTranslate2.

    Args:
        model: an encoder-decoder; its config and generation config give the special tokens and the default settings.
        tokenizer: the tokenizer of the model.
        quantization: one of CTranslate2's types, such as `"int8"` or `"float32"`.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, quantization: str) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "model"
            write(model, tokenizer, folder, quantization)
            import ctranslate2

            # On a CPU, several batches at a time with one thread each are faster than one batch with all threads.
            self.num_workers = torch.get_num_threads() if model.device.type == "cpu" else 1
            settings = {"device": model.device.type, "inter_threads": self.num_workers, "intra_threads": 1}
            # The constructor changes torch's number of threads in the calling thread. So it runs in a temporary thread.
            with ThreadPoolExecutor(1) as elsewhere:
                self.translator = elsewhere.submit(ctranslate2.Translator, str(folder), **settings).result()
        self.pad, self.defaults, self.device = model.config.pad_token_id, model.generation_config, model.device
        self.tokens = vocabulary(tokenizer, model.config.vocab_size)
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        self.start, self.end = special_id(model, "decoder_start_token_id"), special_id(model, "eos_token_id")

    def __call__(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **settings: Any
    ) -> torch.Tensor:
        """Generates token ids (B * num_return_sequences, T) from sources. Each row begins with the start token.

        Args:
            input_ids: sources (B, S).
            attention_mask: (B, S), 0 at padding; by default nothing is padding.
            settings: settings of `generate`, or a `generation_config`.

        Returns:
            Token ids (B * num_return_sequences, T), with padding after the end token.

        Raises:
            ValueError: If CTranslate2 does not support a setting.
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
        """The keyword arguments of `translate_batch` for `search`.

        Args:
            search: the generation config of the call.
            others: arguments of the call that are not fields of a generation config; any such argument is an error.

        Raises:
            ValueError: If CTranslate2 does not support a setting.
        """
        unknown = [name for name, usual in _WITHOUT_EQUAL.items() if getattr(search, name, None) not in (None, usual)]
        unknown += others
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: CTranslate2 has no such setting; leave it out, or do not use int8")
        most = search.max_new_tokens
        if most is None:
            most = (search.max_length or _DEFAULT_LENGTH) - 1  # max_length includes the start token
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
