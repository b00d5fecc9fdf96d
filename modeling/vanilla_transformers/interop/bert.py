"""BERT and RoBERTa."""

from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from vanilla_transformers.interop.architecture import refuse_unless
from vanilla_transformers.interop.encoder import SEQUENCE_HEADS, EncoderArchitecture, Names
from vanilla_transformers.interop.rules import Rule, copy_of, module
from vanilla_transformers.model.configuration_vanilla import VanillaEncoderConfig

NAMES = Names(
    layers="encoder.layer",
    q="attention.self.query",
    k="attention.self.key",
    v="attention.self.value",
    o="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    norm="output.LayerNorm",
)


class Bert(EncoderArchitecture):
    """BERT (Devlin et al. 2019)."""

    model_type = "bert"
    class_name = "Bert"
    names = NAMES

    def config_in(self, model: PreTrainedModel, head: str) -> dict[str, Any]:
        stock: Any = model.config
        offset = self.offset(stock)
        return super().config_in(model, head) | {
            "intermediate_size": stock.intermediate_size,
            "hidden_act": stock.hidden_act,
            "hidden_dropout_prob": stock.hidden_dropout_prob,
            "attention_probs_dropout_prob": stock.attention_probs_dropout_prob,
            "max_position_embeddings": stock.max_position_embeddings - offset,
            "position_offset": offset,
            "type_vocab_size": stock.type_vocab_size,
            "layer_norm_eps": stock.layer_norm_eps,
            "pooler": head in SEQUENCE_HEADS or (head == "base" and getattr(model, "pooler", None) is not None),
        }

    def config_out(self, config: VanillaEncoderConfig, head: str) -> dict[str, Any]:
        return super().config_out(config, head) | {
            "intermediate_size": config.intermediate_size,
            "hidden_act": config.hidden_act,
            "hidden_dropout_prob": config.hidden_dropout_prob,
            "attention_probs_dropout_prob": config.attention_probs_dropout_prob,
            "max_position_embeddings": config.max_position_embeddings + self.offset(config),
            "type_vocab_size": config.type_vocab_size or 1,
            "layer_norm_eps": config.layer_norm_eps,
        }

    def lm_rules(self) -> Iterator[Rule]:
        yield from module("transform.dense", "cls.predictions.transform.dense")
        yield from module("transform.norm", "cls.predictions.transform.LayerNorm")
        yield from module("lm_head", "cls.predictions.decoder")
        yield copy_of("lm_head.bias", "cls.predictions.bias")

    def sequence_names(self, head: str) -> tuple[str, str]:
        return f"{self.model_type}.pooler.dense", "classifier"

    def notes(self, stock: PreTrainedConfig) -> list[str]:
        dropout = getattr(stock, "classifier_dropout", None)
        if dropout in (None, getattr(stock, "hidden_dropout_prob", None)):
            return super().notes(stock)
        return [*super().notes(stock), f"classifier_dropout={dropout} is left out: it acts in training only"]


class Roberta(Bert):
    """RoBERTa (Liu et al. 2019): positions begin at `pad_token_id + 1`, and the masked-LM head always uses GELU."""

    model_type = "roberta"
    class_name = "Roberta"

    def offset(self, config: Any) -> int:
        refuse_unless(
            config.pad_token_id is not None,
            "pad_token_id",
            None,
            "the positions of a roberta begin at pad_token_id + 1",
        )
        return config.pad_token_id + 1

    def config_in(self, model: PreTrainedModel, head: str) -> dict[str, Any]:
        fields = super().config_in(model, head)
        return fields | {"lm_head_act": "gelu" if fields["hidden_act"] != "gelu" else None}

    def lm_head_act(self, config: VanillaEncoderConfig) -> str:
        return "gelu"

    def lm_rules(self) -> Iterator[Rule]:
        yield from module("transform.dense", "lm_head.dense")
        yield from module("transform.norm", "lm_head.layer_norm")
        yield from module("lm_head", "lm_head.decoder")
        yield copy_of("lm_head.bias", "lm_head.bias")

    def sequence_names(self, head: str) -> tuple[str, str]:
        if head == "sequence-classification":
            return "classifier.dense", "classifier.out_proj"
        return super().sequence_names(head)
