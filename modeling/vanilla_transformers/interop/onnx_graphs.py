"""The ONNX graphs of our models, with the names of their inputs and outputs.

An encoder, with or without a head, is one graph. A decoder with a language-model head is one graph, whose inputs
include the cached keys and values of earlier tokens (length 0 at the first step). Any other decoder is one graph
without a cache. An encoder-decoder is three graphs: the encoder, the first decoding step, and the later decoding steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from vanilla_transformers.model.caches import CACHE, under_its_name


@dataclass(frozen=True)
class Graph:
    """One ONNX file.

    Attributes:
        file: the name of the file.
        module: takes the tensors of `inputs` as positional arguments and returns the tensors that `outputs` names.
        inputs: an example tensor for each input, by the name of the input.
        outputs: the names of the output tensors.
    """

    file: str
    module: nn.Module
    inputs: dict[str, torch.Tensor]
    outputs: list[str]


def graphs(model: PreTrainedModel) -> list[Graph]:
    """The graphs of one of our models."""
    if model.config.is_encoder_decoder:
        return seq2seq_graphs(model)
    if type(model).__name__ == "VanillaDecoderForCausalLM":
        return [decoder_graph(model)]
    return [plain_graph(model, output_names(model))]


def output_names(model: PreTrainedModel) -> list[str]:
    """The names of a model's outputs, without the cache."""
    name = type(model).__name__
    if name.endswith("QuestionAnswering"):
        return ["start_logits", "end_logits"]
    if name.endswith("Model"):
        return ["last_hidden_state"] + ["pooler_output"] * (getattr(model, "pooler", None) is not None)
    return ["logits"]


def plain_graph(model: Any, outputs: list[str], file: str = "model.onnx") -> Graph:
    """The graph of a model without a cache: an encoder, or a head that does not generate."""
    shape = (2, 2, 3) if type(model).__name__.endswith("MultipleChoice") else (2, 3)
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * bool(model.config.type_vocab_size)
    inputs = {name: torch.ones(shape, dtype=torch.long) for name in names}
    return Graph(file, Plain(model, names, outputs), inputs, outputs)


def decoder_graph(model: PreTrainedModel) -> Graph:
    """The graph of one step of a decoder with a language-model head."""
    config = model.config
    ids, mask = torch.ones(2, 3, dtype=torch.long), torch.ones(2, 5, dtype=torch.long)
    past = past_names(config.num_hidden_layers)
    inputs = {"input_ids": ids, "attention_mask": mask} | {name: empty_past(config, 2, 2) for name in past}
    return Graph("model.onnx", Decoder(model), inputs, ["logits", *present(past)])


def seq2seq_graphs(model: PreTrainedModel) -> list[Graph]:
    """The three graphs of an encoder-decoder: encoder, first decoding step, later decoding steps."""
    config, num_layers = model.config, model.config.decoder_layers
    ids, mask = torch.ones(2, 3, dtype=torch.long), torch.ones(2, 4, dtype=torch.long)
    common = {"input_ids": ids, "encoder_attention_mask": mask}
    states = {"encoder_hidden_states": torch.zeros(2, 4, config.hidden_size)}
    past = past_names(num_layers, "decoder.", "encoder.")
    caches = {name: empty_past(config, 2, 4 if ".encoder." in name else 2) for name in past}
    later = present(past_names(num_layers, "decoder."))
    return [
        plain_graph(model.model.encoder, ["last_hidden_state"], "encoder_model.onnx"),
        Graph("decoder_model.onnx", FirstStep(model), common | states, ["logits", *present(past)]),
        Graph("decoder_with_past_model.onnx", LaterStep(model), common | caches, ["logits", *later]),
    ]


def past_names(num_layers: int, *sides: str) -> list[str]:
    """The input names of the cached keys and values, layer by layer; `sides` are name parts such as `"decoder."`."""
    parts = [side + part for side in sides or ("",) for part in ("key", "value")]
    return [f"past_key_values.{layer}.{part}" for layer in range(num_layers) for part in parts]


def present(past: list[str]) -> list[str]:
    """The output names of cached keys and values, given their input names."""
    return [name.replace("past_key_values", "present") for name in past]


def empty_past(config: Any, batch_size: int, length: int) -> torch.Tensor:
    """Zeros in the shape of the cached keys or values of one layer: (batch_size, heads, `length`, width of a head)."""
    heads = config.num_attention_heads
    return torch.zeros(batch_size, heads, length, config.hidden_size // heads)


class Plain(nn.Module):
    """Calls a model with positional tensors and returns its outputs as a tuple."""

    def __init__(self, model: nn.Module, names: list[str], outputs: list[str]) -> None:
        super().__init__()
        self.model, self.names, self.outputs = model, names, outputs

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.model(**dict(zip(self.names, tensors, strict=True)))
        return tuple(outputs[name] for name in self.outputs)


class Decoder(nn.Module):
    """One step of a decoder, with the logits and the extended cache as outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        input_ids, attention_mask, *past = tensors
        outputs = self.model(input_ids, attention_mask, use_cache=True, **under_its_name(cache_of(past)))
        return outputs.logits, *tensors_of(outputs[CACHE])


class FirstStep(nn.Module):
    """The first decoding step of an encoder-decoder, which also computes the keys and values of cross attention."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        input_ids, encoder_attention_mask, encoder_hidden_states = tensors
        outputs = self.model(
            attention_mask=encoder_attention_mask,
            decoder_input_ids=input_ids,
            encoder_outputs=(encoder_hidden_states,),
            use_cache=True,
        )
        cache = outputs[CACHE]
        pairs = zip(cache.self_attention_cache.layers, cache.cross_attention_cache.layers, strict=True)
        return outputs.logits, *(tensor for pair in pairs for layer in pair for tensor in (layer.keys, layer.values))


class LaterStep(nn.Module):
    """A later decoding step of an encoder-decoder, whose inputs include the keys and values of cross attention."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        input_ids, encoder_attention_mask, *past = tensors
        own = [tensor for index, tensor in enumerate(past) if index % 4 < 2]
        of_source = [tensor for index, tensor in enumerate(past) if index % 4 >= 2]
        cache = EncoderDecoderCache(cache_of(own), cache_of(of_source))
        # The keys and values of the source are cached, so the model reads only the shape of the encoder states.
        states = self.model.lm_head.weight.new_zeros(*encoder_attention_mask.shape, self.model.config.hidden_size)
        outputs = self.model(
            attention_mask=encoder_attention_mask,
            decoder_input_ids=input_ids,
            encoder_outputs=(states,),
            use_cache=True,
            **under_its_name(cache),
        )
        return outputs.logits, *tensors_of(outputs[CACHE].self_attention_cache)


def cache_of(past: Sequence[torch.Tensor]) -> DynamicCache:
    """A cache made of keys and values (B, H, P, K), alternating, layer by layer."""
    return DynamicCache(list(zip(past[::2], past[1::2], strict=True)))


def tensors_of(cache: Any) -> list[torch.Tensor]:
    """The keys and values (B, H, P, K) of a cache, alternating, layer by layer."""
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
