"""Exports our models to CTranslate2, a C++ runtime that translates and generates text, also with int8 weights.

This module fills CTranslate2's specification of a Transformer directly from our weights. CTranslate2's own converters
accept only transformers' classes, and the converter for Marian replaces the embedding of the decoder's start token with
zeros.
"""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vanilla_transformers.interop.checks import Check, InteropError, difference_check, tokens_check
from vanilla_transformers.interop.ctranslate2_spec import (
    ACTIVATIONS,
    decoder_spec,
    seq2seq_spec,
    special_id,
    vocabulary,
)
from vanilla_transformers.interop.samples import (
    encoded,
    generated,
    in_float32,
    num_new_tokens,
    plain_generation,
    random_rows,
)
from vanilla_transformers.releases import install_command

TOLERANCE = 1e-4  # largest difference of log-probabilities in fp32, in nats
# Largest mean difference of the log-probabilities of tokens, in nats. INTEGER_TOLERANCE applies to integer types.
MEAN_TOLERANCE = {"float16": 0.01, "bfloat16": 0.05}
INTEGER_TOLERANCE = 0.1
NUM_BEAMS = 4


def write(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, quantization: str = "float32"
) -> None:
    """Writes a model for `ctranslate2.Translator` or `ctranslate2.Generator`, and its tokenizer, into `folder`.

    Args:
        model: a `VanillaSeq2SeqForConditionalGeneration` or `VanillaDecoderForCausalLM`.
        tokenizer: the tokenizer of the model; CTranslate2's inputs and outputs are tokens, not ids.
        folder: created if it does not exist.
        quantization: one of CTranslate2's types, such as `"float32"`, `"float16"`, `"bfloat16"`, `"int8"`.

    Raises:
        InteropError: If CTranslate2 is not installed, or cannot represent the model. The message names the property.
    """
    require_ctranslate2()
    check_representable(model)
    check_quantization(quantization)
    spec = seq2seq_spec(model, tokenizer) if model.config.is_encoder_decoder else decoder_spec(model, tokenizer)
    spec.config.add_attribute("quantization", quantization)  # read by `check`, not by CTranslate2
    spec.validate()
    spec.optimize(quantization)
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    tokenizer.save_pretrained(folder)


def require_ctranslate2() -> None:
    """Raises an `InteropError` if CTranslate2 is not installed."""
    try:
        import ctranslate2  # noqa: F401
    except ImportError:
        raise InteropError(f"ctranslate2 is not installed: {install_command('ctranslate2')}") from None


def check_quantization(quantization: str) -> None:
    """Raises an `InteropError` if CTranslate2 does not support the type."""
    from ctranslate2.specs.model_spec import ACCEPTED_MODEL_TYPES

    if quantization not in ACCEPTED_MODEL_TYPES:
        raise InteropError(
            f"quantization {quantization!r} is unknown to CTranslate2: choose one of {', '.join(ACCEPTED_MODEL_TYPES)}"
        )


def check_representable(model: PreTrainedModel) -> None:
    """Raises an `InteropError` if CTranslate2 cannot represent the model. The message names the property."""
    name, config = type(model).__name__, model.config
    if name not in ("VanillaSeq2SeqForConditionalGeneration", "VanillaDecoderForCausalLM"):
        raise InteropError(
            f"{name}: CTranslate2 takes VanillaSeq2SeqForConditionalGeneration and VanillaDecoderForCausalLM only; "
            "export our other heads to onnx, and convert a transformers model with `vanilla import` first"
        )
    if config.hidden_act not in ACTIVATIONS:
        raise InteropError(
            f"hidden_act is {config.hidden_act!r}, which CTranslate2 does not have; export to onnx, or use one of "
            f"{', '.join(ACTIVATIONS)}"
        )
    if getattr(config, "source_vocab_size", None) is not None:
        raise InteropError(
            f"source_vocab_size is {config.source_vocab_size}: source and target have separate vocabularies, but the "
            "tokenizer has only one; export to onnx"
        )
    if config.type_vocab_size:
        raise InteropError(
            f"type_vocab_size is {config.type_vocab_size}, but CTranslate2 has no token types: export to onnx"
        )


def check(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    sources: list[str],
) -> list[Check]:
    """Compares the outputs of CTranslate2 with the outputs of the exported model.

    In float32 the log-probabilities and the tokens must agree. In any other type the mean difference of the
    log-probabilities must be within a tolerance; the number of equal outputs is reported but not required.

    Args:
        model: the exported model, on the CPU.
        tokenizer: the tokenizer of the model.
        folder: the folder that `write` filled.
        sources: texts to translate, or prompts to continue.
    """
    quantization = json.loads((folder / "config.json").read_text(encoding="utf-8"))["quantization"]
    model = in_float32(model)
    runtime = (Seq2SeqRuntime if model.config.is_encoder_decoder else DecoderRuntime)(model, tokenizer, folder)
    rows = {"random input": random_rows(model, tokenizer), "real input": encoded(model, tokenizer, sources)}
    checks = []
    with torch.inference_mode(), plain_generation(model):
        for name, ids in rows.items():
            greedy = [generated(model, row, num_new_tokens(model, ids)) for row in ids]
            pairs = (runtime.our_scores(ids, greedy), runtime.their_scores(ids, greedy))
            checks.append(score_check(f"log-probabilities, {name}", *pairs, quantization))
        at_least, ids = 1.0 if quantization == "float32" else 0.0, rows["real input"]
        num_new = num_new_tokens(model, ids)
        for num_beams, name in ((1, "greedy tokens"), (NUM_BEAMS, f"beam-{NUM_BEAMS} tokens")):
            ours = [generated(model, row, num_new, num_beams) for row in ids]
            checks.append(tokens_check(name, ours, runtime.theirs(ids, num_new, num_beams), at_least))
    return checks


def score_check(name: str, ours: torch.Tensor, theirs: torch.Tensor, quantization: str) -> Check:
    """Compares log-probabilities in nats: by their largest difference in float32, by the mean difference otherwise."""
    if quantization == "float32":
        return difference_check(name, ours, theirs, TOLERANCE)
    mean = (ours - theirs).abs().mean().item()
    return Check(name, f"mean difference {mean:.1e}", mean <= MEAN_TOLERANCE.get(quantization, INTEGER_TOLERANCE))


class Runtime:
    """Runs the model and its CTranslate2 export on the same rows of token ids."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.tokens = vocabulary(tokenizer, model.config.vocab_size)

    def named(self, rows: list[list[int]]) -> list[list[str]]:
        """The rows as tokens instead of ids."""
        return [[self.tokens[index] for index in row] for row in rows]


class Seq2SeqRuntime(Runtime):
    """Runs an encoder-decoder: rows are sources, and targets are scored given their source."""

    def __init__(self, model: Any, tokenizer: Any, folder: Path) -> None:
        import ctranslate2

        super().__init__(model, tokenizer)
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        self.translator = ctranslate2.Translator(str(folder), intra_threads=torch.get_num_threads())
        self.start, self.end = special_id(model, "decoder_start_token_id"), special_id(model, "eos_token_id")

    def theirs(self, rows: list[list[int]], num_new: int, num_beams: int) -> list[list[int]]:
        """The token ids that CTranslate2 generates for each row."""
        results = self.translator.translate_batch(
            self.named(rows),
            beam_size=num_beams,
            min_decoding_length=0,
            max_decoding_length=num_new,
            max_input_length=0,
        )
        return [[self.ids[token] for token in result.hypotheses[0]] for result in results]

    def our_scores(self, rows: list[list[int]], targets: list[list[int]]) -> torch.Tensor:
        """Our model's log-probabilities of all target tokens and end tokens, in one tensor."""
        scores = []
        for row, target in zip(rows, targets, strict=True):
            logits = self.model(torch.tensor([row]), decoder_input_ids=torch.tensor([[self.start, *target]])).logits
            scores.append(logits[0].log_softmax(-1)[range(len(target) + 1), [*target, self.end]])
        return torch.cat(scores)

    def their_scores(self, rows: list[list[int]], targets: list[list[int]]) -> torch.Tensor:
        """CTranslate2's log-probabilities of all target tokens and end tokens, in one tensor."""
        results = self.translator.score_batch(self.named(rows), self.named(targets), max_input_length=0)
        return torch.tensor([score for result in results for score in result.log_probs])


class DecoderRuntime(Runtime):
    """Runs a decoder: rows are prompts, and targets are their continuations."""

    def __init__(self, model: Any, tokenizer: Any, folder: Path) -> None:
        import ctranslate2

        super().__init__(model, tokenizer)
        self.generator = ctranslate2.Generator(str(folder), intra_threads=torch.get_num_threads())

    def theirs(self, rows: list[list[int]], num_new: int, num_beams: int) -> list[list[int]]:
        """The token ids that CTranslate2 generates after each row."""
        results = self.generator.generate_batch(
            self.named(rows), beam_size=num_beams, max_length=num_new, include_prompt_in_result=False
        )
        return [result.sequences_ids[0] for result in results]

    def our_scores(self, rows: list[list[int]], targets: list[list[int]]) -> torch.Tensor:
        """Our model's log-probabilities of all tokens of prompts and targets, except each prompt's first token."""
        scores = []
        for row, target in zip(rows, targets, strict=True):
            ids = [*row, *target]
            logits = self.model(torch.tensor([ids])).logits
            scores.append(logits[0].log_softmax(-1)[range(len(ids) - 1), ids[1:]])
        return torch.cat(scores)

    def their_scores(self, rows: list[list[int]], targets: list[list[int]]) -> torch.Tensor:
        """CTranslate2's log-probabilities of all tokens of prompts and targets, except each prompt's first token."""
        whole = [[*row, *target] for row, target in zip(rows, targets, strict=True)]
        results = self.generator.score_batch(self.named(whole))
        return torch.tensor([score for result in results for score in result.log_probs])
