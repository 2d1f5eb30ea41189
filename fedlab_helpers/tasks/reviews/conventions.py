"""Conventions by which clients label the same reviews: concept shift, by stated rules.

Two pairs. Each pair disagrees on 30% of the built-in corpus; the rest goes by the sentiment that
the corpus gives. The words were chosen by counting reviews, before any model was trained on these
labels.

- "strict" and "lenient" differ over reviews with a reservation, those that say "but": for the one
  any reservation is a complaint, the other takes it as a sign of good will. One labels more
  reviews 1 than the other.
- "price desk" and "service desk" sort reviews into cases that need attention (0) and others (1).
  Each attends to what concerns its own subject only, whatever the tone, and passes on what concerns
  only the other's. Both give 1 equally often.
"""

from collections.abc import Sequence

import numpy as np

from fedlab_helpers.core.require import require
from fedlab_helpers.tasks.reviews.corpus import Review

# But (four ways to say it), only that.
RESERVATION = ("但", "不过", "可是", "就是", "只是")
# Price, money, expensive, cheap, yuan, yuan (spoken).
PRICE = ("价", "钱", "贵", "便宜", "元", "块")
# Service, staff, to deliver, front desk.
SERVICE = ("服务", "员", "送", "前台")

PAIRS = {"strictness": ("strict", "lenient"), "two_desks": ("price desk", "service desk")}
CONVENTIONS = ("sentiment", *(name for pair in PAIRS.values() for name in pair))


def labels(reviews: Sequence[Review], convention: str) -> np.ndarray:
    """Return the labels (N,) int64 that a client with this convention gives to the reviews.

    Args:
        reviews: texts, and the labels of the corpus.
        convention: one of `CONVENTIONS`; "sentiment" keeps the labels.

    Raises:
        ValueError: there is no such convention.
    """
    require(convention in CONVENTIONS, "convention", convention, f"one of {CONVENTIONS}")
    given = np.array([review.label for review in reviews], dtype=np.int64)
    if convention == "sentiment":
        return given
    if convention in PAIRS["strictness"]:
        return np.where(mention(reviews, RESERVATION), int(convention == "lenient"), given)
    price, service = mention(reviews, PRICE), mention(reviews, SERVICE)
    others = service if convention == "price desk" else price
    return np.where(price != service, others, given)


def mention(reviews: Sequence[Review], words: Sequence[str]) -> np.ndarray:
    """Return which reviews hold at least one of the words anywhere in their text, (N,) bool."""
    return np.array([any(word in review.text for word in words) for review in reviews], dtype=bool)
