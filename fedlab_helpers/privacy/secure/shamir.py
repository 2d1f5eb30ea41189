"""Shamir's secret sharing: any `threshold` shares give the secret, fewer say nothing about it.

Shamir 1979, doi:10.1145/359168.359176. The secret is the value at 0 of a polynomial of degree
threshold - 1 whose other coefficients are random; a share is its value at the holder's number.
The field is that of the integers modulo the prime 2^521 - 1, far wider than a secret. So shares
that are too few, or of different secrets, give a number that is no secret, and this is noticed
(but for a chance of 2^-265). A share that somebody forged need not be.
"""

import secrets
from collections.abc import Iterable, Mapping
from math import prod
from numbers import Integral

from fedlab_helpers.core.require import require, require_count

PRIME = 2**521 - 1
SECRET_BYTES = 32  # of a key, or of the seed of a mask
SHARE_BYTES = 66  # what one share takes when it travels


def split(secret: bytes, threshold: int, holders: Iterable[int]) -> dict[int, int]:
    """Return a share for each holder, an integer below `PRIME`.

    Args:
        secret: of `SECRET_BYTES`.
        threshold: how many shares will be needed, from 1 to the number of holders.
        holders: numbers from 1 to `PRIME` - 1, all different. At 0 stands the secret itself.

    Raises:
        ValueError: one of these is not so.
    """
    points = list(holders)
    require(len(secret) == SECRET_BYTES, "secret", f"{len(secret)} bytes", f"{SECRET_BYTES}")
    _require_holders(points)
    require_count(threshold=threshold)
    require(threshold <= len(points), "threshold", threshold, f"at most {len(points)}, the holders")
    random = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    coefficients = [int.from_bytes(secret, "big"), *random]
    return {x: _value(coefficients, x) for x in points}


def join(shares: Mapping[int, int]) -> bytes:
    """Return the secret that was split, of `SECRET_BYTES`: the polynomial's value at 0.

    Lagrange's interpolation: the sum over holders i of share_i · prod over j ≠ i of j / (j - i).

    Args:
        shares: holder -> share, at least as many as the threshold was.

    Raises:
        ValueError: there is no share, a holder's number is out of range, or these shares give no
            secret: they are too few, or not of one secret.
    """
    points = list(shares)
    require(len(points) > 0, "shares", shares, "at least one")
    _require_holders(points)
    at_zero = sum(share * _weight(x, points) for x, share in shares.items()) % PRIME
    require(
        at_zero.bit_length() <= 8 * SECRET_BYTES,
        "shares",
        f"{len(points)} of holders {sorted(points)}",
        "as many as the threshold, all of one secret",
    )
    return at_zero.to_bytes(SECRET_BYTES, "big")


def _require_holders(points: list[int]) -> None:
    fine = all(isinstance(x, Integral) and 0 < x < PRIME for x in points)
    require(fine, "holders", points, "integers from 1 to PRIME - 1")
    require(len(set(points)) == len(points), "holders", points, "each of them once")


def _value(coefficients: list[int], x: int) -> int:
    """Return the polynomial's value, by Horner's rule; the constant comes first."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value


def _weight(x: int, points: list[int]) -> int:
    """Return how much the share at x counts in the value at 0, modulo `PRIME`."""
    others = [other for other in points if other != x]
    return prod(others) * pow(prod(other - x for other in others), -1, PRIME) % PRIME
