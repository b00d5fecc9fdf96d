"""What a stock architecture is, seen from here: how its configuration and its tensors translate, in both directions."""

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
    """A task's model on both sides.

    Attributes:
        ours: the class here.
        theirs: the name of the stock class.
    """

    ours: type[PreTrainedModel]
    theirs: str

    @property
    def stock_class(self) -> type[PreTrainedModel]:
        """The stock class itself, which transformers loads when it is first asked for."""
        return getattr(transformers, self.theirs)


class Architecture(ABC):
    """One stock model type.

    Attributes:
        model_type: its name in config.json.
        heads: by the name of a task, `"base"` for the bare model.
        has_position_table: whether sequences end where a table of positions does.
    """

    model_type: ClassVar[str]
    config_class: ClassVar[type[VanillaConfig]]
    heads: ClassVar[dict[str, Head]]
    has_position_table: bool = True

    @abstractmethod
    def config_in(self, model: PreTrainedModel, head: str) -> dict[str, Any]:
        """Fields of our configuration for a stock model.

        Raises:
            InteropError: a property of it cannot be expressed here.
        """

    @abstractmethod
    def config_out(self, config: Any, head: str) -> dict[str, Any]:
        """Fields of the stock configuration for one of ours.

        Raises:
            InteropError: a property of it cannot be expressed there.
        """

    @abstractmethod
    def rules(self, config: Any, stock: Any, head: str) -> Iterator[Rule]:
        """How the tensors correspond, given both configurations."""

    def notes(self, stock: PreTrainedConfig) -> list[str]:
        """What of a stock configuration acts in training only and has no counterpart here, a line each."""
        found = []
        for name in ("activation_dropout", "encoder_layerdrop", "decoder_layerdrop", "layerdrop"):
            if getattr(stock, name, 0):
                found.append(f"{name}={getattr(stock, name)} is left out: it acts in training only")
        return found

    def notes_out(self, ours: Any, stock: PreTrainedModel) -> list[str]:
        """What to know of an exported model, a line each; `ours` is the configuration that it had here."""
        found = []
        if ours.label_smoothing:
            found.append(f"label_smoothing={ours.label_smoothing} is left out: it acts in training only")
        if ours.position_embedding_type != "learned" and self.has_position_table:
            length = ours.max_position_embeddings
            found.append(f"sequences end at max_position_embeddings={length} there; here they go on beyond it")
        return found


def refuse_unless(holds: bool, name: str, value: object, rule: str) -> None:
    """Refuse a property that the other side cannot express.

    Raises:
        InteropError: `holds` is false.
    """
    if not holds:
        raise InteropError(f"{name} is {value!r}, but {rule}")


def position_table(ours: str, theirs: str, config: Any, their_offset: int) -> Rule:
    """The learned positions of both sides, where `their_offset` rows stand before the first on the other.

    Rows are moved to that place, and those before it, which nothing reads, are lost. On the way out sinusoids or no
    positions at all become a table as well: the same up to `max_position_embeddings`.
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
    """Positions that are not learned as a table (offset + max_position_embeddings, D), zeros where there are none."""
    length, width = config.max_position_embeddings, config.hidden_size
    rows = torch.zeros(length, width)
    if config.position_embedding_type == "sinusoidal":
        rows = SinusoidalPositions(config).compute(torch.arange(length) + config.position_offset)
    return torch.cat((torch.zeros(offset, width), rows))


def classes_in(stock: PreTrainedConfig) -> dict[str, Any]:
    """The labels of a classifier and the kind of its problem, under names that both sides use."""
    return {
        "id2label": dict(stock.id2label or {}),
        "label2id": dict(stock.label2id or {}),
        "problem_type": stock.problem_type,
    }


def special_ids(config: PreTrainedConfig, *more: str) -> dict[str, Any]:
    """The ids of the special tokens, under names that both sides use."""
    names = ("pad_token_id", "bos_token_id", "eos_token_id", *more)
    return {name: getattr(config, name, None) for name in names}
