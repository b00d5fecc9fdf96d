"""What an import or export has to show before its result is kept: one `Check` for each comparison."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch


class InteropError(ValueError):
    """A model that cannot be converted, with the property, its value and the way out in one line."""


@dataclass(frozen=True)
class Check:
    """One comparison of the model before with the model after.

    Attributes:
        name: what was compared, such as `"logits, random input"`.
        result: what came out, as the table shows it.
        passed: whether it is within its tolerance.
    """

    name: str
    result: str
    passed: bool


def difference_check(name: str, ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> Check:
    """The largest difference of two tensors of one shape, which must not exceed `tolerance` times their magnitude or 1.

    Values that are not finite fail, whatever stands on the other side.
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
    """How many rows have the same tokens; the share must be `at_least`."""
    pairs = list(zip(ours, theirs, strict=True))
    equal = sum(list(one) == list(other) for one, other in pairs)
    return Check(name, f"{equal} of {len(pairs)} rows equal", equal >= at_least * len(pairs))


def listed_checks(checks: Sequence[Check]) -> list[str]:
    """The table of some checks, a line for each."""
    width = max(len(check.name) for check in checks)
    return [f"{'ok' if check.passed else 'FAILED':6} {check.name:{width}}  {check.result}" for check in checks]
