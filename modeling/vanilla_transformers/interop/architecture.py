"""`Architecture`, the base class of the converters between a model type of transformers and our models."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from vanilla_transformers.interop.checks import InteropError
from vanilla_transformers.interop.rules import Rule
from vanilla_transformers.model.configuration_base import VanillaConfig
from vanilla_transformers.model.embeddings import SinusoidalPositions


@dataclass(frozen=True)
class Head:
    """Our model class and the transformers model class for one task.

    Attributes:
        ours: our class.
        theirs: the name of the class in transformers.
    """

    ours: type[PreTrainedModel]
    theirs: str

    @property
    def stock_class(self) -> type[PreTrainedModel]:
        """The class in transformers, whose module is imported on first access."""
        return getattr(transformers, self.theirs)


class Architecture(ABC):
    """The conversion between one model type of transformers and our models, in both directions.

    Attributes:
        model_type: the model type in the config.json of transformers' model.
        config_class: our configuration class.
        heads: our class and the transformers class by the name of the task; `"base"` is the model without a head.
        has_position_table: whether the position table of the transformers model limits the length of a sequence.
    """

    model_type: ClassVar[str]
    config_class: ClassVar[type[VanillaConfig]]
    heads: ClassVar[dict[str, Head]]
    has_position_table: bool = True

    @abstractmethod
    def config_in(self, model: PreTrainedModel, head: str) -> dict[str, Any]:
        """The fields of our configuration for a transformers model.

        Raises:
            InteropError: If our configuration cannot express a property of the model.
        """

    @abstractmethod
    def config_out(self, config: Any, head: str) -> dict[str, Any]:
        """The fields of the transformers configuration for one of our configurations.

        Raises:
            InteropError: If the transformers configuration cannot express a property of our model.
        """

    @abstractmethod
    def rules(self, config: Any, stock: Any, head: str) -> Iterator[Rule]:
        """The rules that convert the weights, given our configuration and the transformers configuration."""

    def notes(self, stock: PreTrainedConfig) -> list[str]:
        """One line for each training-only setting of a transformers configuration that our configuration lacks."""
        found = []
        for name in ("activation_dropout", "encoder_layerdrop", "decoder_layerdrop", "layerdrop"):
            if getattr(stock, name, 0):
                found.append(f"{name}={getattr(stock, name)} is left out: it acts in training only")
        return found

    def notes_out(self, ours: Any, stock: PreTrainedModel) -> list[str]:
        """One line for each difference between the exported model and our model, whose configuration is `ours`."""
        found = []
        if ours.label_smoothing:
            found.append(f"label_smoothing={ours.label_smoothing} is left out: it acts in training only")
        if ours.position_embedding_type != "learned" and self.has_position_table:
            length = ours.max_position_embeddings
            found.append(f"the exported model reads at most max_position_embeddings={length} tokens; ours has no limit")
        return found


def refuse_unless(holds: bool, name: str, value: object, rule: str) -> None:
    """Raises an error if the target architecture cannot express a property.

    Args:
        holds: whether the target can express the property.
        name: the name of the property.
        value: the value of the property.
        rule: the rule that the value breaks; it follows "but" in the message.

    Raises:
        InteropError: If `holds` is false.
    """
    if not holds:
        raise InteropError(f"{name} is {value!r}, but {rule}")


def position_table(ours: str, theirs: str, config: Any, their_offset: int) -> Rule:
    """The rule for the position embeddings, whose table may begin with unused rows.

    Our table begins with `config.position_offset` unused rows, the transformers table with `their_offset` unused rows.
    If these numbers differ, the conversion drops the unused rows and puts the needed number of zero rows in front.

    If the positions of our model are sinusoidal, or our model has no positions, our state dict has no position table.
    An export then computes the transformers table for `max_position_embeddings` positions. An import ignores the table.
    """
    if config.position_embedding_type != "learned":
        return Rule((), (theirs,), lambda _: [], lambda _: [fixed_positions(config, their_offset)])

    def moved(tensors: list[torch.Tensor], before: int, after: int) -> list[torch.Tensor]:
        if before == after:
            return tensors
        rows = tensors[0][before:]
        return [torch.cat((rows.new_zeros(after, rows.shape[1]), rows))]

    offset = config.position_offset
    return Rule(
        (ours,),
        (theirs,),
        lambda tensors: moved(tensors, their_offset, offset),
        lambda tensors: moved(tensors, offset, their_offset),
    )


def fixed_positions(config: Any, offset: int) -> torch.Tensor:
    """The table (offset + max_position_embeddings, D) of sinusoidal positions, or zeros for a model without positions.

    The first `offset` rows are zeros.
    """
    length, width = config.max_position_embeddings, config.hidden_size
    rows = torch.zeros(length, width)
    if config.position_embedding_type == "sinusoidal":
        rows = SinusoidalPositions(config).compute(torch.arange(length) + config.position_offset)
    return torch.cat((torch.zeros(offset, width), rows))


def classes_in(stock: PreTrainedConfig) -> dict[str, Any]:
    """The labels and the problem type of a classifier. Both configurations use the same field names."""
    return {
        "id2label": dict(stock.id2label or {}),
        "label2id": dict(stock.label2id or {}),
        "problem_type": stock.problem_type,
    }


def special_ids(config: PreTrainedConfig, *more: str) -> dict[str, Any]:
    """The ids of the special tokens. Our configuration and the transformers configuration use the same field names.

    Args:
        config: our configuration or a transformers configuration.
        more: names of further fields, besides the ids of the padding, start and end tokens.
    """
    names = ("pad_token_id", "bos_token_id", "eos_token_id", *more)
    return {name: getattr(config, name, None) for name in names}
