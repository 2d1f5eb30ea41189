"""Pairs of sentences that only word order tells apart: the same words, the opposite opinion."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

PAIRS = Path(__file__).with_suffix(".csv")  # written for this course


class Pair(NamedTuple):
    """One pair; the direction says where the good half of the positive sentence stands."""

    kind: str  # what turns the opinion, such as "not but"
    direction: str  # "last": who believes the last words is right; "first": is wrong
    positive: str
    negative: str
    positive_english: str
    negative_english: str


def order_pairs() -> list[Pair]:
    """Return the pairs: the same number in each direction, of each kind."""
    with PAIRS.open(newline="", encoding="utf-8") as file:
        return [Pair(**row) for row in csv.DictReader(file)]


def ordered(positive: ArrayLike, negative: ArrayLike) -> np.ndarray:
    """Return for each pair 1 where the positive sentence has the higher score, 0 where the lower,
    and one half where the scores are alike but for rounding, (N,)."""
    gap = np.asarray(positive, dtype=float) - np.asarray(negative, dtype=float)
    return np.where(abs(gap) < 1e-5, 0.5, gap > 0)
