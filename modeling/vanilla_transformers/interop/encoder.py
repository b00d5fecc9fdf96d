"""The common part of BERT, RoBERTa and DistilBERT."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from vanilla_transformers.interop.architecture import (
    Architecture,
    Head,
    classes_in,
    position_table,
    refuse_unless,
    special_ids,
)
from vanilla_transformers.interop.rules import Rule, absent_here, module, same
from vanilla_transformers.model.configuration_vanilla import VanillaEncoderConfig
from vanilla_transformers.model.modeling_encoder import (
    VanillaEncoderForMaskedLM,
    VanillaEncoderForMultipleChoice,
    VanillaEncoderForQuestionAnswering,
    VanillaEncoderForSequenceClassification,
    VanillaEncoderForTokenClassification,
    VanillaEncoderModel,
)

SEQUENCE_HEADS = ("sequence-classification", "multiple-choice")
"""The heads that read one pooled vector per sequence."""


@dataclass(frozen=True)
class Names:
    """The module names of an encoder in transformers.

    Attributes:
        layers: the list of layers, relative to the encoder.
        q, k, v, o, attention_norm, up, down, norm: the modules of a layer, relative to the layer.
    """

    layers: str
    q: str
    k: str
    v: str
    o: str
    attention_norm: str
    up: str
    down: str
    norm: str


class EncoderArchitecture(Architecture):
    """The common part of BERT, RoBERTa and DistilBERT.

    Attributes:
        class_name: the prefix of the class names in transformers.
        names: the module names in transformers.
        pooler_act: the activation before a sequence classifier.
    """

    config_class = VanillaEncoderConfig
    class_name: str
    names: Names
    pooler_act = "tanh"

    @property
    def heads(self) -> dict[str, Head]:  # type: ignore[override]
        return {
            "base": Head(VanillaEncoderModel, f"{self.class_name}Model"),
            "masked-lm": Head(VanillaEncoderForMaskedLM, f"{self.class_name}ForMaskedLM"),
            "sequence-classification": Head(
                VanillaEncoderForSequenceClassification, f"{self.class_name}ForSequenceClassification"
            ),
            "token-classification": Head(
                VanillaEncoderForTokenClassification, f"{self.class_name}ForTokenClassification"
            ),
            "question-answering": Head(VanillaEncoderForQuestionAnswering, f"{self.class_name}ForQuestionAnswering"),
            "multiple-choice": Head(VanillaEncoderForMultipleChoice, f"{self.class_name}ForMultipleChoice"),
        }

    def config_in(self, model: PreTrainedModel, head: str) -> dict[str, Any]:
        stock: Any = model.config
        for name in ("is_decoder", "add_cross_attention"):
            refuse_unless(
                not getattr(stock, name, False), name, True, "our encoder is bidirectional and has no cross attention"
            )
        # In old checkpoints this field may select relative positions. transformers no longer reads the field, so the
        # model that it loads differs from the trained model.
        positions = getattr(stock, "position_embedding_type", None)
        refuse_unless(
            positions in (None, "absolute"), "position_embedding_type", positions, "our positions are absolute"
        )
        return {
            "vocab_size": stock.vocab_size,
            "hidden_size": stock.hidden_size,
            "num_attention_heads": stock.num_attention_heads,
            "num_hidden_layers": stock.num_hidden_layers,
            "initializer_range": stock.initializer_range,
            "tie_word_embeddings": stock.tie_word_embeddings,
            **classes_in(stock),
            **special_ids(stock),
        }

    def config_out(self, config: VanillaEncoderConfig, head: str) -> dict[str, Any]:
        self.check(config, head)
        return {
            "vocab_size": config.vocab_size,
            "hidden_size": config.hidden_size,
            "num_attention_heads": config.num_attention_heads,
            "num_hidden_layers": config.num_hidden_layers,
            "initializer_range": config.initializer_range,
            "tie_word_embeddings": config.tie_word_embeddings,
            **({} if head == "question-answering" else classes_in(config)),  # question answering has no classes
            **special_ids(config),
        }

    def rules(self, config: VanillaEncoderConfig, stock: Any, head: str) -> Iterator[Rule]:
        ours, theirs = ("", "") if head == "base" else ("model.", f"{self.model_type}.")
        yield same(f"{ours}embed_tokens.weight", f"{theirs}embeddings.word_embeddings.weight")
        table = f"{theirs}embeddings.position_embeddings.weight"
        yield position_table(f"{ours}input_embedding.positions.weight", table, config, self.offset(stock))
        yield from self.token_type_rules(config, ours, theirs)
        yield from module(f"{ours}input_embedding.norm", f"{theirs}embeddings.LayerNorm")
        for number in range(config.num_hidden_layers):
            yield from self._layer_rules(f"{ours}layers.{number}", f"{theirs}{self.names.layers}.{number}")
        yield from self.head_rules(config, head)

    def head_rules(self, config: VanillaEncoderConfig, head: str) -> Iterator[Rule]:
        """The rules for the weights of the head."""
        if head == "masked-lm":
            yield from self.lm_rules()
        elif head in SEQUENCE_HEADS:
            dense, output = self.sequence_names(head)
            yield from module("model.pooler.dense", dense)
            yield from module("choice_score" if head == "multiple-choice" else "classifier", output)
        elif head == "token-classification":
            yield from module("classifier", "classifier")
        elif head == "question-answering":
            yield from module("qa_outputs", "qa_outputs")
        elif config.pooler:
            yield from module("pooler.dense", "pooler.dense")

    @abstractmethod
    def lm_rules(self) -> Iterator[Rule]:
        """The rules for the weights of the masked-language-model head."""

    @abstractmethod
    def sequence_names(self, head: str) -> tuple[str, str]:
        """The transformers names of the pooler and the output layer of a head in `SEQUENCE_HEADS`."""

    def lm_head_act(self, config: VanillaEncoderConfig) -> str:
        """The activation that the masked-language-model head in transformers uses for our configuration."""
        return config.hidden_act

    def offset(self, config: Any) -> int:
        """The index of the first position in the position table of the transformers model."""
        return 0

    def token_type_rules(self, config: VanillaEncoderConfig, ours: str, theirs: str) -> Iterator[Rule]:
        table = f"{theirs}embeddings.token_type_embeddings.weight"
        if config.type_vocab_size:
            yield same(f"{ours}input_embedding.token_types.weight", table)
        else:
            yield absent_here(table, (1, config.hidden_size))

    def _layer_rules(self, ours: str, theirs: str) -> Iterator[Rule]:
        names = self.names
        pairs = {
            "self_attn.q_proj": names.q,
            "self_attn.k_proj": names.k,
            "self_attn.v_proj": names.v,
            "self_attn.o_proj": names.o,
            "self_attn_residual.norm": names.attention_norm,
            "feed_forward.up_proj": names.up,
            "feed_forward.down_proj": names.down,
            "feed_forward_residual.norm": names.norm,
        }
        for our_part, their_part in pairs.items():
            yield from module(f"{ours}.{our_part}", f"{theirs}.{their_part}")

    def check(self, config: VanillaEncoderConfig, head: str) -> None:
        """Raises an `InteropError` if the transformers architecture cannot express a property of our configuration."""
        kind = self.model_type
        facts: list[tuple[str, object, object]] = [
            ("norm_position", config.norm_position, "post"),
            ("final_norm", config.has_final_norm, False),
            ("embedding_norm", config.embedding_norm, True),
            ("scale_embeddings", config.scales_embeddings, False),
        ]
        if head == "masked-lm":
            act = config.lm_head_act or config.hidden_act
            facts += [("lm_head_bias", config.lm_head_bias, True), ("lm_head_act", act, self.lm_head_act(config))]
        if head in SEQUENCE_HEADS or (head == "base" and config.pooler):
            facts.append(("classifier_pooling", config.classifier_pooling, "cls"))
            facts += [("pooler", config.pooler, True), ("pooler_act", config.pooler_act, self.pooler_act)]
        for name, value, needed in facts:
            refuse_unless(value == needed, name, value, f"a {kind} has {needed!r}")
