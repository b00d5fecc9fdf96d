"""Reversible rules that convert tensors between one of our models and a transformers model.

A rule names the tensors that it converts in both models. The rules of a pair of models must cover every tensor of both
models. A tensor without a rule is an error, so no weight is dropped silently.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from vanilla_transformers.interop.checks import InteropError

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Rule:
    """The conversion between some of our tensors and some transformers tensors, in both directions.

    Attributes:
        ours: names in our state dict.
        theirs: names in the transformers state dict.
        to_ours: converts the transformers tensors, in the order of `theirs`, to our tensors, in the order of `ours`.
        to_theirs: the inverse of `to_ours`.
        is_computed: whether the transformers class computes these tensors, so that a checkpoint may lack them.
        is_copy: whether the transformers tensor is a copy of a tensor that another rule converts.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    to_ours: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]]
    to_theirs: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]]
    is_computed: bool = False
    is_copy: bool = False


def same(ours: str, theirs: str) -> Rule:
    """A rule for a tensor that has the same values in both models, under two names."""
    return Rule((ours,), (theirs,), list, list)


def module(ours: str, theirs: str) -> list[Rule]:
    """Rules for the weight and the bias of a linear layer or a layer norm."""
    return [same(f"{ours}.{part}", f"{theirs}.{part}") for part in ("weight", "bias")]


def conv1d(ours: str, theirs: str) -> list[Rule]:
    """Conversion rules for a linear layer whose weight transformers stores transposed, (in, out), as in GPT-2."""
    turned = Rule((f"{ours}.weight",), (f"{theirs}.weight",), _transposed, _transposed)
    return [turned, same(f"{ours}.bias", f"{theirs}.bias")]


def fused_conv1d(ours: Sequence[str], theirs: str) -> list[Rule]:
    """Rules for n linear layers that transformers fuses, as in GPT-2: weight (in, n * out), bias (n * out,)."""
    count = len(ours)
    weights = Rule(
        tuple(f"{name}.weight" for name in ours),
        (f"{theirs}.weight",),
        lambda tensors: _transposed(tensors[0].chunk(count, dim=1)),
        lambda tensors: [torch.cat(_transposed(tensors), dim=1)],
    )
    biases = Rule(
        tuple(f"{name}.bias" for name in ours),
        (f"{theirs}.bias",),
        lambda tensors: tensors[0].chunk(count, dim=0),
        lambda tensors: [torch.cat(tensors)],
    )
    return [weights, biases]


def flat_row(ours: str, theirs: str) -> Rule:
    """A rule for a vector (n,) whose transformers tensor is (1, n), such as Marian's `final_logits_bias`."""
    return Rule((ours,), (theirs,), lambda t: [t[0].flatten()], lambda t: [t[0].unsqueeze(0)])


def copy_of(ours: str, theirs: str) -> Rule:
    """A rule for a transformers tensor that is tied to a tensor of another rule. Only an export writes the tensor."""
    return Rule((ours,), (theirs,), lambda _: [], list, is_copy=True)


def absent_there(ours: str, shape: tuple[int, ...], fill: float) -> Rule:
    """A rule for a tensor that our model has and the transformers model lacks. An import fills the tensor with `fill`.

    An export requires that the tensor is `fill` everywhere, because the transformers model then computes the same.
    """

    def to_theirs(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        if not (tensors[0] == fill).all():
            raise InteropError(
                f"{ours} is not {fill:g} everywhere, but the target architecture has no such weight; export the "
                "model to another architecture"
            )
        return []

    return Rule((ours,), (), lambda _: [torch.full(shape, fill)], to_theirs)


def absent_here(theirs: str, shape: tuple[int, ...], fill: float = 0.0) -> Rule:
    """A rule for a transformers tensor that our model lacks. An export writes `fill`; an import accepts only `fill`."""

    def to_ours(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        if not (tensors[0] == fill).all():
            raise InteropError(
                f"{theirs} of the transformers model is not {fill:g} everywhere, and our architecture has no weight "
                "for it: the model cannot be imported"
            )
        return []

    return Rule((), (theirs,), to_ours, lambda _: [torch.full(shape, fill)])


def computed(theirs: str) -> Rule:
    """A rule for a tensor that the transformers class computes, such as a table of sinusoids."""
    return Rule((), (theirs,), lambda _: [], lambda _: [], is_computed=True)


def carry_in(rules: Iterable[Rule], theirs: Mapping[str, torch.Tensor]) -> Tensors:
    """Converts a transformers state dict to our state dict. All tensors get the widest dtype that occurs in the former.

    Raises:
        InteropError: If a tensor is missing, has no rule, or has values that our model cannot express.
    """
    return _carry(((rule, rule.theirs, rule.ours, rule.to_ours) for rule in rules), theirs)


def carry_out(rules: Iterable[Rule], ours: Mapping[str, torch.Tensor]) -> Tensors:
    """Converts our state dict to a transformers state dict; see `carry_in`."""
    return _carry(((rule, rule.ours, rule.theirs, rule.to_theirs) for rule in rules), ours)


def _carry(ways, given: Mapping[str, torch.Tensor]) -> Tensors:
    made: Tensors = {}
    taken: set[str] = set()
    dtype = functools.reduce(torch.promote_types, (tensor.dtype for tensor in given.values()))
    for rule, sources, targets, transform in ways:
        taken.update(sources)
        if rule.is_computed:
            continue
        lacking = [name for name in sources if name not in given]
        if lacking:
            raise InteropError(f"the model lacks the weight {lacking[0]}, which its architecture requires")
        tensors = transform([given[name] for name in sources])
        made.update(zip(targets, (tensor.to(dtype).contiguous() for tensor in tensors), strict=bool(tensors)))
    left = sorted(set(given) - taken)
    if left:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        raise InteropError(f"the target architecture has no counterpart for the weights {', '.join(left[:5])}{more}")
    return made


def _transposed(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.T for tensor in tensors]
