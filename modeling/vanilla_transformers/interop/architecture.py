"""The base class of stock architectures: how configurations and tensors are converted, in both directions."""

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
    """Our model class and the stock model class for one task.

    Attributes:
        ours: our class.
        theirs: the name of the stock class in transformers.
    """

    ours: type[PreTrainedModel]
    theirs: str

    @property
    def stock_class(self) -> type[PreTrainedModel]:
        """The stock class. transformers imports its module on first access."""
        return getattr(transformers, self.theirs)


class Architecture(ABC):
    """The conversion between one stock model type and our models.

    Attributes:
        model_type: the stock model type, as config.json names it.
        config_class: our configuration class.
        heads: our class and the stock class by the name of the task; `"base"` is the model without a head.
        has_position_table: whether the stock model's table of positions limits the length of a sequence.
    """

    model_type: ClassVar[str]
    config_class: ClassVar[type[VanillaConfig]]
    heads: ClassVar[dict[str, Head]]
    has_position_table: bool = True

    @abstractmethod
    def config_in(self, model: PreTrainedModel, head: str) -> dict[str, Any]:
        """The fields of our configuration for a stock model.

        Raises:
            InteropError: our configuration cannot express a property of the stock model.
        """

    @abstractmethod
    def config_out(self, config: Any, head: str) -> dict[str, Any]:
        """The fields of the stock configuration for one of our configurations.

        Raises:
            InteropError: the stock configuration cannot express a property of ours.
        """

    @abstractmethod
    def rules(self, config: Any, stock: Any, head: str) -> Iterator[Rule]:
        """The rules that convert the weights, given our configuration and the stock configuration."""

    def notes(self, stock: PreTrainedConfig) -> list[str]:
        """One line for each training-only setting of a stock configuration that our configuration lacks."""
        found = []
        for name in ("activation_dropout", "encoder_layerdrop", "decoder_layerdrop", "layerdrop"):
            if getattr(stock, name, 0):
                found.append(f"{name}={getattr(stock, name)} is left out: it acts in training only")
        return found

    def notes_out(self, ours: Any, stock: PreTrainedModel) -> list[str]:
        """One line for each difference of an exported model from our model, whose configuration is `ours`."""
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
        value: its value.
        rule: the rule that the value breaks; it follows "but" in the message.

    Raises:
        InteropError: `holds` is false.
    """
    if not holds:
        raise InteropError(f"{name} is {value!r}, but {rule}")


def position_table(ours: str, theirs: str, config: Any, their_offset: int) -> Rule:
    """The rule for the position embeddings, whose table may begin with unused rows.

    Our table begins with `config.position_offset` unused rows, the stock table with `their_offset`. If these numbers
    differ, the unused rows of the converted table are dropped, and the needed number of zero rows is put before it.

    If our position embeddings are sinusoidal, or our model has none, our model has no such table. An export then
    computes the stock table, for `max_position_embeddings` positions. An import ignores the stock table.
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
    """The labels and the problem type of a classifier. Our configuration and the stock one use the same names."""
    return {
        "id2label": dict(stock.id2label or {}),
        "label2id": dict(stock.label2id or {}),
        "problem_type": stock.problem_type,
    }


def special_ids(config: PreTrainedConfig, *more: str) -> dict[str, Any]:
    """The ids of the special tokens. Our configuration and the stock one use the same names.

    Args:
        config: our configuration or a stock one.
        more: names of further ids, beside those of padding, start and end.
    """
    names = ("pad_token_id", "bos_token_id", "eos_token_id", *more)
    return {name: getattr(config, name, None) for name in names}
