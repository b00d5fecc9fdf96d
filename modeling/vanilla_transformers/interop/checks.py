"""The comparisons that an import or export must pass before its result is kept. Each comparison returns a `Check`."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch


class InteropError(ValueError):
    """A model cannot be converted. The message names the property, its value and the way out in one line."""


@dataclass(frozen=True)
class Check:
    """The result of one comparison between a model and its converted copy.

    Attributes:
        name: the compared output and its input, such as `"logits, random input"`.
        result: the outcome in words, such as `"maximum difference 1.2e-07"`.
        passed: whether the difference is within the tolerance.
    """

    name: str
    result: str
    passed: bool


def difference_check(name: str, ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> Check:
    """Checks that two tensors have the same shape and differ by at most `tolerance` times max(1, largest |theirs|).

    A difference that is not finite fails, even if both tensors hold the same infinity or NaN.
    """
    if ours.shape != theirs.shape:
        return Check(name, f"shapes {tuple(ours.shape)} and {tuple(theirs.shape)}", passed=False)
    ours, theirs = ours.detach().double().cpu(), theirs.detach().double().cpu()
    largest = (ours - theirs).abs().max().item() if ours.numel() else 0.0
    scale = max(1.0, theirs.abs().max().item() if theirs.numel() else 0.0)
    passed = math.isfinite(largest) and largest <= tolerance * scale
    return Check(name, f"maximum difference {largest:.1e}", passed)


def tokens_check(
    name: str, ours: Iterable[Sequence[int]], theirs: Iterable[Sequence[int]], at_least: float = 1.0
) -> Check:
    """Checks that the share of rows with the same tokens in both lists is at least `at_least` (0 to 1)."""
    pairs = list(zip(ours, theirs, strict=True))
    equal = sum(list(one) == list(other) for one, other in pairs)
    return Check(name, f"{equal} of {len(pairs)} rows equal", equal >= at_least * len(pairs))


def listed_checks(checks: Sequence[Check]) -> list[str]:
    """The checks as the lines of a table, one line for each check."""
    width = max(len(check.name) for check in checks)
    return [f"{'ok' if check.passed else 'FAILED':6} {check.name:{width}}  {check.result}" for check in checks]
