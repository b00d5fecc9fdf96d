"""Parses values of command-line options. Each function raises an ArgumentTypeError if the value breaks its rule.

Imports the standard library only.
"""

import argparse
import math


def positive(text: str) -> int:
    """Parses a whole number of at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def numbers(text: str) -> tuple[int, ...]:
    """Parses whole numbers of at least 0, separated by commas; repeated numbers are dropped."""
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not part.isascii() or not part.isdigit()]
    if wrong:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is not a whole number of at least 0; write 0,3 for several")
    return tuple(dict.fromkeys(map(int, parts)))


def kinds(text: str) -> tuple[str, ...]:
    """Parses kinds of attention, separated by commas; repeated kinds are dropped."""
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if part not in ("encoder", "decoder", "cross")]
    if wrong:
        raise argparse.ArgumentTypeError(
            f"{wrong[0]!r} is no kind of attention; the kinds are encoder, decoder and cross"
        )
    return tuple(dict.fromkeys(parts))


def port(text: str) -> int:
    """Parses a whole number from 1 to 65535."""
    if positive(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: the largest port is 65535")
    return int(text)


def seed(text: str) -> int:
    """Parses a whole number of at least 0 that fits into 63 bits."""
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^63 - 1")
    return int(text)


def temperature(text: str) -> float:
    """Parses a number above 0 and up to 100."""
    value = _number(text)
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number above 0 and up to 100; leave it out for greedy or beam search"
        )
    return value


def share(text: str) -> float:
    """Parses a number above 0 and up to 1."""
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to 1")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
