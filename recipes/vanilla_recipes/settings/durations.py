"""Durations and intervals of training: `60 steps`, `5 epochs`, `2B tokens`, `10 minutes`."""

import math
import re
from dataclasses import dataclass
from typing import get_args

from vanilla_recipes.errors import UserError
from vanilla_recipes.settings.train_state import TrainState, Unit

_SECONDS = {"hours": 3600, "minutes": 60, "seconds": 1}
_MULTIPLIERS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKmMbB]?)\s*(step|epoch|token|second|minute|hour)s?\s*")
_DECIMALS = 6
_EXAMPLES = "write a positive number and a unit, such as `60 steps`, `10k steps`, `5 epochs`, `2B tokens`, `10 minutes`"


@dataclass(frozen=True)
class Duration:
    """A positive amount of training in steps, epochs, tokens or seconds.

    Raises:
        UserError: If the amount is not positive and finite, or the unit is unknown.
    """

    amount: float
    unit: Unit

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit) or not 0 < self.amount < math.inf:
            raise UserError(f"{self.amount} {self.unit} is not a duration: {_EXAMPLES}")

    @classmethod
    def parse(cls, text: object) -> "Duration":
        """Parses a text such as `60steps`, `10k steps` or `1.5 hours`.

        Raises:
            UserError: If the text is not a positive number followed by a unit, or has a fraction of a step or token.
        """
        match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise UserError(f"{text!r} is not a duration: {_EXAMPLES}")
        unit = f"{match[3]}s"
        amount = round(float(match[1]) * _MULTIPLIERS[match[2].lower()] * _SECONDS.get(unit, 1), _DECIMALS)
        if unit in ("steps", "tokens") and not amount.is_integer():
            raise UserError(f"{text!r} is not a duration: {unit} are whole numbers, such as `10 {unit}`")
        if not amount:
            raise UserError(f"{text!r} is not a duration: {_EXAMPLES}")
        return cls(amount, "seconds" if unit in _SECONDS else unit)  # type: ignore[arg-type]

    def __str__(self) -> str:
        if self.unit != "seconds":
            return f"{_plain(self.amount)} {self.unit}"
        name = next(name for name, seconds in _SECONDS.items() if self.amount % seconds == 0 or seconds == 1)
        return f"{_plain(self.amount / _SECONDS[name])} {name}"

    def ratio(self, state: TrainState) -> float:
        """Progress of the run divided by this duration: 0 at the start of the run, above 1 after the duration."""
        return state.position(self.unit) / self.amount

    def progress(self, state: TrainState) -> float:
        """The fraction of this duration that has passed, from 0 to 1."""
        return min(1.0, self.ratio(state))

    def reached(self, state: TrainState) -> bool:
        """Whether this duration has passed."""
        return self.ratio(state) >= 1.0

    def fell_due(self, before: TrainState, after: TrainState) -> bool:
        """Whether the run passed a multiple of this duration between `before` (exclusive) and `after` (inclusive)."""
        return math.floor(self.ratio(after)) > math.floor(self.ratio(before))


def _plain(number: float) -> str:
    """Formats a number without an exponent, because `Duration.parse` does not read exponents."""
    return f"{number:.{_DECIMALS}f}".rstrip("0").removesuffix(".")
