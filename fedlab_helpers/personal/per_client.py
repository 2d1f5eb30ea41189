"""How well a model serves each client: on test examples like the client's own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.require import require
from fedlab_helpers.strategies.labels import require_classes
from fedlab_helpers.tasks.reviews.corpus import Review


def kinds(reviews: Sequence[Review]) -> np.ndarray:
    """Return each review's kind, its domain and label together, as text (N,)."""
    return np.array([f"{review.domain} {review.label}" for review in reviews])


def score(outputs: Tensor, data: Examples) -> float:
    """Return the first measure of a model's outputs, (N, …) in the order of the examples."""
    rows = data.objective.judge(outputs, data.targets)
    return float(data.objective.metrics(rows)[data.objective.measure])


@dataclass(frozen=True, eq=False)
class OwnTest:
    """Test examples as one client meets them: every one that is of a kind it holds, weighted.

    A client of 580 reviews would have some 145 test reviews of its own, on which an accuracy is
    uncertain by 3 points. All test reviews of its kinds (domain and label), each kind weighted as
    among its own, estimate the same thing with less error: there are at least 400 for each domain.
    Clients of the same kinds have the same test, so they are not independent.

    Args:
        data: labelled by this client's convention, (N,); None where only answers are judged.
        weights: of each, summing to 1, (N,).
        kinds: of each, (N,).
    """

    data: Examples | None
    weights: np.ndarray
    kinds: np.ndarray

    @classmethod
    def like(cls, held: Sequence[str], test_kinds: Sequence[str]) -> "OwnTest":
        """Return the weights of all test examples for a client that holds examples of these kinds;
        of others they are 0. Raises ValueError: it holds nothing, or a kind that no test has."""
        test_kinds, weights = np.asarray(test_kinds), np.zeros(len(test_kinds))
        require(len(held), "held", len(held), "at least one example")
        for name, count in zip(*np.unique(held, return_counts=True), strict=True):
            same = test_kinds == name
            require(same.any(), "held", str(name), "kinds of which there are test examples")
            weights[same] = count / len(held) / same.sum()
        return cls(None, weights, test_kinds)

    def right(self, logits: Tensor) -> np.ndarray:
        """Return which answers are right, (N,) bool, for logits or probabilities (N, C). Raises
        ValueError: the examples are not asked for classes."""
        require_classes("right", self.data.objective)
        return (logits.argmax(1) == self.data.targets).numpy()

    def accuracy(self, right: np.ndarray) -> float:
        """Return the share of right answers to expect on examples like the client's own."""
        return round(float(self.weights @ right), 12)  # equal is equal, whatever was summed up

    def balanced_accuracy(self, right: np.ndarray) -> float:
        """Return the mean of the accuracies on each class: one half for who always says the same;
        NaN where the client holds one class only."""
        shares = [np.average(right[s], weights=self.weights[s]) for s in _groups(self.data.targets)]
        return float(np.mean(shares)) if len(shares) > 1 else float("nan")

    @property
    def majority(self) -> float:
        """The accuracy of always giving the client's more frequent class."""
        return max(float(self.weights[group].sum()) for group in _groups(self.data.targets))

    def standard_error(self, difference: np.ndarray) -> float:
        """Return the standard error of `weights @ difference` (N,), with each kind by itself."""
        variance = 0.0
        for group in _groups(self.kinds):
            share, n = self.weights[group].sum(), group.sum()
            variance += share**2 * difference[group].var(ddof=1) / n if n > 1 else 0.0
        return float(np.sqrt(variance))


def _groups(values: np.ndarray | Tensor) -> list[np.ndarray]:
    """Return for each value that occurs where it does, (N,) bool."""
    values = np.asarray(values)
    return [values == value for value in np.unique(values)]


def own_accuracy(
    correct: Sequence[bool],
    test_kinds: Sequence[str],
    parts: Sequence[np.ndarray],
    train_kinds: Sequence[str],
) -> np.ndarray:
    """Return the accuracy of one model on each client's `OwnTest`, (K,).

    A client that holds 30% of one kind and 70% of another gets 0.3 times the accuracy on test
    examples of the one and 0.7 times that on the other.

    Args:
        correct: whether each test example was answered rightly, (N,).
        test_kinds: their kinds, (N,), e.g. from `kinds`.
        parts: each client's indices into the training examples; as `OwnTest.like` accepts them.
        train_kinds: the kinds of all training examples.
    """
    correct, train_kinds = np.asarray(correct, dtype=float), np.asarray(train_kinds)
    tests = [OwnTest.like(train_kinds[part], test_kinds) for part in parts]
    return np.array([test.accuracy(correct) for test in tests])
