"""Refusals in one form: the argument, what came, and what is accepted."""

import math
from numbers import Integral, Real


def require(fine: bool, name: str, got: object, expected: str) -> None:
    """Raise a ValueError that says so, unless `fine`."""
    if not fine:
        raise ValueError(f"{name}: got {got!r}, expected {expected}")


def is_count(value: object) -> bool:
    """Return whether a value is an integer of at least 1."""
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 1


def is_number(value: object, least: float = -math.inf) -> bool:
    """Return whether a value is a finite number, not below `least`."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and math.isfinite(value) and value >= least


def require_count(**values: object) -> None:
    """Raise a ValueError that names the first value that is not an integer of at least 1."""
    for name, value in values.items():
        require(is_count(value), name, value, "an integer of at least 1")


def require_positive(**values: object) -> None:
    """Raise a ValueError that names the first value that is not a finite number above 0."""
    for name, value in values.items():
        require(is_number(value) and value > 0, name, value, "a finite number above 0")


def require_share(**values: object) -> None:
    """Raise a ValueError that names the first value that is not in [0, 1)."""
    for name, value in values.items():
        require(is_number(value, 0) and value < 1, name, value, "a number in [0, 1)")
