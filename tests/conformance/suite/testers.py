"""What the mixins of transformers ask of a model tester: a tiny config of each family, and inputs that fit it.

The sizes are those of the testers in transformers. 99 tokens and an inner width of 37 do not divide by the two ranks of
the tensor-parallel tests.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from tests.test_modeling_common import ids_tensor, random_attention_mask

import vanilla_transformers as vanilla

Inputs = dict[str, torch.Tensor]

SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "max_position_embeddings": 128,
}


class FamilyTester(ABC):
    """One family: the attributes and the two methods that the mixins read."""

    batch_size = 13
    seq_length = 7
    num_choices = 4
    is_training = True
    vocab_size = SIZES["vocab_size"]
    hidden_size = SIZES["hidden_size"]
    num_hidden_layers = SIZES["num_hidden_layers"]
    num_attention_heads = SIZES["num_attention_heads"]
    config_class: type[vanilla.VanillaConfig]
    special: ClassVar[dict[str, int]] = {}

    def __init__(self, knobs: dict[str, Any]) -> None:
        self.knobs = knobs

    def get_config(self) -> vanilla.VanillaConfig:
        return self.config_class(**{**SIZES, **self.special, **self.knobs})

    def prepare_config_and_inputs_for_common(self) -> tuple[vanilla.VanillaConfig, Inputs]:
        config = self.get_config()
        return config, self.inputs(config)

    @abstractmethod
    def inputs(self, config: vanilla.VanillaConfig) -> Inputs:
        """A batch that fits the config."""

    def tokens(self) -> torch.Tensor:
        return ids_tensor([self.batch_size, self.seq_length], self.vocab_size)


class Seq2SeqTester(FamilyTester):
    config_class = vanilla.VanillaSeq2SeqConfig
    conditional_generation_class = vanilla.VanillaSeq2SeqForConditionalGeneration
    special = {"decoder_layers": SIZES["num_hidden_layers"]}

    def inputs(self, config: vanilla.VanillaConfig) -> Inputs:
        # Special tokens stay out: a target that begins with padding has a row without a visible key.
        source, target = self.tokens().clamp(4), self.tokens().clamp(4)
        source[1:, -2:] = config.pad_token_id
        masks = {"attention_mask": source.ne(config.pad_token_id), "decoder_attention_mask": torch.ones_like(target)}
        return {"input_ids": source, "decoder_input_ids": target, **masks}


class EncoderTester(FamilyTester):
    config_class = vanilla.VanillaEncoderConfig
    # The name under which the training and tensor-parallel mixins look for a language model.
    causal_lm_class = vanilla.VanillaEncoderForMaskedLM

    def inputs(self, config: vanilla.VanillaConfig) -> Inputs:
        inputs = {
            "input_ids": self.tokens(),
            "attention_mask": random_attention_mask([self.batch_size, self.seq_length]),
        }
        inputs["token_type_ids"] = ids_tensor([self.batch_size, self.seq_length], config.type_vocab_size)
        return inputs


class DecoderTester(FamilyTester):
    config_class = vanilla.VanillaDecoderConfig
    causal_lm_class = vanilla.VanillaDecoderForCausalLM
    # A sequence classifier needs to know what padding is.
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

    def inputs(self, config: vanilla.VanillaConfig) -> Inputs:
        tokens = self.tokens()
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens).tril()}
