"""Clients as people with reviews of their own: some to train on, some to choose by, and an exam."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.personal.per_client import kinds
from fedlab_helpers.tasks.reviews import conventions
from fedlab_helpers.tasks.reviews.corpus import Review
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.task import Task

VALIDATION = 0.125  # share of a client's reviews that it does not train on
LEAST = 4  # reviews to validate with, at least
PARTITIONS = ("by_domain", "domain_dirichlet", "dirichlet", *conventions.PAIRS)


@dataclass(frozen=True, eq=False)
class Exam:
    """Test reviews as one client meets them: every one that is of a kind it holds, weighted.

    A client of 580 reviews would have some 145 test reviews of its own, on which an accuracy is
    uncertain by 3 points. All test reviews of its kinds (domain and label), weighted so that each
    kind counts as much as among its own reviews, estimate the same thing with less error: there
    are at least 400 of them for each domain. Clients of the same kinds sit the same exam, so they
    are not independent; and a client's shares of the labels are those of its exam exactly.

    Args:
        reviews: labelled by this client's convention, (N,).
        weights: of each, summing to 1, (N,).
        kinds: of each, (N,).
    """

    reviews: EncodedReviews
    weights: np.ndarray
    kinds: np.ndarray

    def right(self, logits: Tensor) -> np.ndarray:
        """Return which answers are right, (N,) bool, for logits or probabilities (N, C)."""
        return (logits.argmax(1) == self.reviews.labels).numpy()

    def accuracy(self, right: np.ndarray) -> float:
        """Return the share of right answers to expect on reviews like the client's own."""
        return round(float(self.weights @ right), 12)  # equal is equal, whatever was summed up

    def balanced_accuracy(self, right: np.ndarray) -> float:
        """Return the mean of the accuracies on each class: one half for who always says the same;
        NaN where the client holds one class only."""
        labels = self.reviews.labels.numpy()
        if labels.min() == labels.max():
            return float("nan")
        return float(
            np.mean([np.average(right[s], weights=self.weights[s]) for s in _groups(labels)])
        )

    @property
    def majority(self) -> float:
        """The accuracy of always giving the client's more frequent class."""
        labels = self.reviews.labels.numpy()
        return max(float(self.weights[group].sum()) for group in _groups(labels))

    def standard_error(self, difference: np.ndarray) -> float:
        """Return the standard error of `weights @ difference` (N,), with each kind by itself."""
        variance = 0.0
        for group in _groups(self.kinds):
            share, n = self.weights[group].sum(), group.sum()
            variance += share**2 * difference[group].var(ddof=1) / n if n > 1 else 0.0
        return float(np.sqrt(variance))


@dataclass(frozen=True, eq=False)
class Member:
    """One client: what it trains on, what it chooses by, and the exam that nothing is chosen by.

    Args:
        train: reviews, labelled by its convention.
        validation: further ones of its own.
        exam: test reviews like its own.
        domain: from which most of its reviews are.
        convention: by which it labels, a name in `conventions.CONVENTIONS`.
    """

    train: EncodedReviews
    validation: EncodedReviews
    exam: Exam
    domain: str
    convention: str = "sentiment"


def deal(
    task: Task,
    kind: str,
    seed: int,
    *,
    clients: int = 20,
    newcomers: int = 4,
    alpha: float = 0.3,
    asks: Literal["test", "validation"] = "test",
) -> tuple[list[Member], list[Member]]:
    """Return the clients that train together, and those that come when training is over.

    The task's training and validation reviews are dealt together; each client keeps an eighth of
    its own to choose by.

    Args:
        task: real reviews in three parts.
        kind: "by_domain", other words, the same meaning (covariate shift); "dirichlet", other
            shares of the labels (prior shift); "domain_dirichlet", mixtures of the domains;
            "strictness" and "two_desks", at random, but by two conventions, half of the clients
            by each (concept shift; see `conventions`).
        seed: decides the deal.
        clients: how many train together.
        newcomers: how many come later; they are spread evenly over the deal.
        alpha: of the Dirichlet distributions.
        asks: what exams are made of; with "validation", for play, the task's validation reviews
            are asked and not dealt, and its test reviews stay unseen.

    Raises:
        ValueError: the kind is not among these, or the numbers do not fit.
    """
    if kind not in PARTITIONS:
        raise ValueError(f"kind: got {kind!r}, expected one of {PARTITIONS}")
    pool = _pool(task) if asks == "test" else _for_play(task)
    rng = numpy_rng(seed, "members")
    pair = conventions.PAIRS.get(kind)
    parts = pool.deal("iid" if pair else kind, clients + newcomers, rng, alpha)
    dealer = _Dealer(pool)
    members = [
        dealer.member(rng.permutation(part), pair[k // 2 % 2] if pair else "sentiment")
        for k, part in enumerate(parts)
    ]
    later = {round((i + 0.5) * len(members) / newcomers) for i in range(newcomers)}
    return (
        [member for k, member in enumerate(members) if k not in later],
        [member for k, member in enumerate(members) if k in later],
    )


class _Dealer:
    """Makes members of index lists; what all share is computed once."""

    def __init__(self, task: Task):
        self.task = task
        self.kinds = kinds(task.train_reviews)
        self.test_kinds = kinds(task.test_reviews)
        self.domains = np.array(task.domains)
        self._known: dict[str, tuple[EncodedReviews, EncodedReviews]] = {}

    def member(self, own: np.ndarray, convention: str) -> Member:
        """Return the client that holds these reviews, in this order."""
        kept = max(LEAST, round(VALIDATION * len(own)))
        reviews, _ = self._labelled(convention)
        names, counts = np.unique(self.domains[own], return_counts=True)
        return Member(
            reviews.subset(np.sort(own[kept:])),
            reviews.subset(np.sort(own[:kept])),
            self._exam(self.kinds[own], convention),
            str(names[counts.argmax()]),
            convention,
        )

    def _exam(self, held: np.ndarray, convention: str) -> Exam:
        weights = np.zeros(len(self.test_kinds))
        for kind, count in zip(*np.unique(held, return_counts=True), strict=True):
            same = self.test_kinds == kind
            if not same.any():
                raise ValueError(f"kind: there is no test review of {str(kind)!r}")
            weights[same] = count / len(held) / same.sum()
        asked = np.flatnonzero(weights)
        reviews = self._labelled(convention)[1].subset(asked)
        return Exam(reviews, weights[asked], self.test_kinds[asked])

    def _labelled(self, convention: str) -> tuple[EncodedReviews, EncodedReviews]:
        """Return training and test reviews, labelled by a convention."""
        if convention not in self._known:
            task = self.task
            self._known[convention] = tuple(
                reviews.with_targets(torch.from_numpy(conventions.labels(texts, convention)))
                for reviews, texts in (
                    (task.train, task.train_reviews),
                    (task.test, task.test_reviews),
                )
            )
        return self._known[convention]


def _groups(values: np.ndarray) -> list[np.ndarray]:
    return [values == value for value in np.unique(values)]


def _for_play(task: Task) -> Task:
    return replace(task, test_reviews=task.validation_reviews, test=task.validation)


def _pool(task: Task) -> Task:
    """Return the task with its validation reviews among those that are dealt."""
    reviews: Sequence[Review] = task.train_reviews + task.validation_reviews
    parts = (task.train, task.validation)
    width = max(part.tokens.shape[1] for part in parts)
    tokens = [pad(part.tokens, (0, width - part.tokens.shape[1])) for part in parts]
    return replace(
        task,
        train_reviews=reviews,
        train=EncodedReviews(
            torch.cat(tokens),
            torch.cat([part.lengths for part in parts]),
            torch.cat([part.labels for part in parts]),
        ),
    )
