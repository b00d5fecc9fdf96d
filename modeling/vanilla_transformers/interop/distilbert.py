"""DistilBERT."""

from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from vanilla_transformers.interop.architecture import refuse_unless
from vanilla_transformers.interop.encoder import SEQUENCE_HEADS, EncoderArchitecture, Names
from vanilla_transformers.interop.rules import Rule, module
from vanilla_transformers.model.configuration_vanilla import VanillaEncoderConfig

NAMES = Names(
    layers="transformer.layer",
    q="attention.q_lin",
    k="attention.k_lin",
    v="attention.v_lin",
    o="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    norm="output_layer_norm",
)


class DistilBert(EncoderArchitecture):
    """DistilBERT (Sanh et al. 2019): no token types, and a pooler with ReLU before a sequence classifier."""

    model_type = "distilbert"
    class_name = "DistilBert"
    names = NAMES
    pooler_act = "relu"

    def config_in(self, model: PreTrainedModel, head: str) -> dict[str, Any]:
        stock: Any = model.config
        return super().config_in(model, head) | {
            "intermediate_size": stock.hidden_dim,
            "hidden_act": stock.activation,
            "hidden_dropout_prob": stock.dropout,
            "attention_probs_dropout_prob": stock.attention_dropout,
            "max_position_embeddings": stock.max_position_embeddings,
            "type_vocab_size": 0,
            "pooler": head in SEQUENCE_HEADS,
            "pooler_act": self.pooler_act,
        }

    def config_out(self, config: VanillaEncoderConfig, head: str) -> dict[str, Any]:
        eps = config.layer_norm_eps
        refuse_unless(eps == 1e-12, "layer_norm_eps", eps, "1e-12 is fixed in a distilbert")
        refuse_unless(not config.type_vocab_size, "type_vocab_size", config.type_vocab_size, "a distilbert has 0")
        refuse_unless(
            not (head == "base" and config.pooler), "pooler", True, "the bare distilbert has none; export a classifier"
        )
        return super().config_out(config, head) | {
            "hidden_dim": config.intermediate_size,
            "activation": config.hidden_act,
            "dropout": config.hidden_dropout_prob,
            "attention_dropout": config.attention_probs_dropout_prob,
            "seq_classif_dropout": config.hidden_dropout_prob,
            "qa_dropout": config.hidden_dropout_prob,
            "max_position_embeddings": config.max_position_embeddings,
        }

    def lm_rules(self) -> Iterator[Rule]:
        yield from module("transform.dense", "vocab_transform")
        yield from module("transform.norm", "vocab_layer_norm")
        yield from module("lm_head", "vocab_projector")

    def sequence_names(self, head: str) -> tuple[str, str]:
        return "pre_classifier", "classifier"

    def token_type_rules(self, config: VanillaEncoderConfig, ours: str, theirs: str) -> Iterator[Rule]:
        return iter(())

    def notes(self, stock: PreTrainedConfig) -> list[str]:
        found = super().notes(stock)
        for name in ("seq_classif_dropout", "qa_dropout"):
            if getattr(stock, name) != stock.dropout:
                found.append(f"{name}={getattr(stock, name)} is left out: it acts in training only")
        return found
