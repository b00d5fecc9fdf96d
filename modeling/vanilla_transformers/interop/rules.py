"""Reversible rules that carry tensors between one of our models and a stock one.

A rule names the tensors that it takes on each side. Together the rules of a pair of models must take every tensor of
both: what is left over is an error, and so nothing is lost without notice.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from vanilla_transformers.interop.checks import InteropError

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Rule:
    """Some of our tensors and some of theirs, and the two ways between them.

    Attributes:
        ours: names in our state dict.
        theirs: names in the stock state dict.
        to_ours: makes our tensors, in the order of `ours`, from theirs.
        to_theirs: the other way round.
        is_computed: whether the stock class makes its tensors by itself and need not have saved them.
        is_copy: whether the stock tensor repeats one that another rule carries.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    to_ours: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]]
    to_theirs: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]]
    is_computed: bool = False
    is_copy: bool = False


def same(ours: str, theirs: str) -> Rule:
    """One tensor under two names."""
    return Rule((ours,), (theirs,), list, list)


def module(ours: str, theirs: str) -> list[Rule]:
    """The weight and the bias of a linear layer or a layer norm."""
    return [same(f"{ours}.{part}", f"{theirs}.{part}") for part in ("weight", "bias")]


def conv1d(ours: str, theirs: str) -> list[Rule]:
    """A linear layer whose stock weight is (in, out), as in GPT-2."""
    turned = Rule((f"{ours}.weight",), (f"{theirs}.weight",), _transposed, _transposed)
    return [turned, same(f"{ours}.bias", f"{theirs}.bias")]


def fused_conv1d(ours: Sequence[str], theirs: str) -> list[Rule]:
    """Several linear layers that are one of weight (in, out x n) and bias (out x n) there."""
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
    """A vector that is (1, n) there, as Marian's `final_logits_bias`."""
    return Rule((ours,), (theirs,), lambda t: [t[0].flatten()], lambda t: [t[0].unsqueeze(0)])


def copy_of(ours: str, theirs: str) -> Rule:
    """A stock tensor that is tied to one that another rule carries: only the way out needs it."""
    return Rule((ours,), (theirs,), lambda _: [], list, is_copy=True)


def absent_there(ours: str, shape: tuple[int, ...], fill: float) -> Rule:
    """Our tensor that the stock model does without, which is the same as having `fill` everywhere.

    On the way out any other value is refused.
    """

    def to_theirs(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        if not (tensors[0] == fill).all():
            raise InteropError(
                f"{ours} is not {fill:g} everywhere, but the other architecture has no such weight; export it to "
                "another one"
            )
        return []

    return Rule((ours,), (), lambda _: [torch.full(shape, fill)], to_theirs)


def absent_here(theirs: str, shape: tuple[int, ...], fill: float = 0.0) -> Rule:
    """A stock tensor that our model does without, which is the same as having `fill` everywhere."""

    def to_ours(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        if not (tensors[0] == fill).all():
            raise InteropError(f"{theirs} is not {fill:g} everywhere, but our model has no such weight")
        return []

    return Rule((), (theirs,), to_ours, lambda _: [torch.full(shape, fill)])


def computed(theirs: str) -> Rule:
    """A stock tensor that its class computes by itself, such as a table of sinusoids."""
    return Rule((), (theirs,), lambda _: [], lambda _: [], is_computed=True)


def carry_in(rules: Iterable[Rule], theirs: Mapping[str, torch.Tensor]) -> Tensors:
    """Our tensors made of theirs, all in the widest dtype of them.

    Raises:
        InteropError: a tensor is missing, or one is left over.
    """
    return _carry(((rule, rule.theirs, rule.ours, rule.to_ours) for rule in rules), theirs)


def carry_out(rules: Iterable[Rule], ours: Mapping[str, torch.Tensor]) -> Tensors:
    """Their tensors made of ours; see [`carry_in`]."""
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
            raise InteropError(f"the model has no weight {lacking[0]}, which its architecture calls for")
        tensors = transform([given[name] for name in sources])
        made.update(zip(targets, (tensor.to(dtype).contiguous() for tensor in tensors), strict=bool(tensors)))
    left = sorted(set(given) - taken)
    if left:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        raise InteropError(f"there is no place for the weights {', '.join(left[:5])}{more} in the other architecture")
    return made


def _transposed(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.T for tensor in tensors]
