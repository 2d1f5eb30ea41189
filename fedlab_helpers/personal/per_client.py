"""How well one global model serves each client: accuracy on reviews like the client's own."""

from collections.abc import Sequence

import numpy as np

from fedlab_helpers.tasks.reviews.corpus import Review


def kinds(reviews: Sequence[Review]) -> np.ndarray:
    """Return each review's kind, its domain and label together, as text (N,)."""
    return np.array([f"{review.domain} {review.label}" for review in reviews])


def own_accuracy(
    correct: Sequence[bool],
    test_kinds: Sequence[str],
    parts: Sequence[np.ndarray],
    train_kinds: Sequence[str],
) -> np.ndarray:
    """Return what accuracy each client can expect, if tomorrow's reviews are like those it holds.

    A client that holds 30% of one kind and 70% of another gets 0.3 times the accuracy on test
    reviews of the one and 0.7 times that on the other. So every test review is used for every
    client that has its kind, and a client of twenty reviews is not judged on two.

    Args:
        correct: whether each test review was answered rightly, (N,).
        test_kinds: their kinds, (N,), e.g. from `kinds`.
        parts: each client's indices into the training reviews.
        train_kinds: the kinds of all training reviews.

    Returns:
        One accuracy a client, (K,).

    Raises:
        ValueError: a client holds a kind of which there is no test review, or nothing.
    """
    correct, test_kinds = np.asarray(correct, dtype=float), np.asarray(test_kinds)
    accuracy = {kind: correct[test_kinds == kind].mean() for kind in np.unique(test_kinds).tolist()}
    train_kinds = np.asarray(train_kinds)
    own = []
    for client, part in enumerate(parts):
        held = train_kinds[part].tolist()
        if unknown := set(held) - accuracy.keys():
            raise ValueError(f"client {client}: no test review of {sorted(unknown)}")
        if not held:
            raise ValueError(f"client {client}: holds no review, expected at least one")
        own.append(np.mean([accuracy[kind] for kind in held]))
    return np.array(own)
