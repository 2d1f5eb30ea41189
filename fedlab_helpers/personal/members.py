"""Clients with reviews of their own: to train on, to choose by, and to be tested on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch.nn.functional import pad

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.personal.per_client import OwnTest, kinds
from fedlab_helpers.tasks.reviews import conventions
from fedlab_helpers.tasks.reviews.corpus import Review
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.task import Task

VALIDATION = 0.125  # share of a client's reviews that it does not train on
LEAST = 4  # reviews to validate with, at least
PARTITIONS = ("by_domain", "domain_dirichlet", "dirichlet", *conventions.PAIRS)


@dataclass(frozen=True, eq=False)
class Member:
    """One client: what it trains on, what it chooses by, and the test that nothing is chosen by.

    Args:
        train: reviews, labelled by its convention.
        validation: further ones of its own.
        test: test reviews like its own.
        domain: from which most of its reviews are.
        convention: by which it labels, a name in `conventions.CONVENTIONS`.
    """

    train: EncodedReviews
    validation: EncodedReviews
    test: OwnTest
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
        asks: what tests are made of; with "validation", as panels do, the task's validation
            reviews are asked and not dealt, and its test reviews stay unseen.

    Raises:
        ValueError: the kind is not among these, or the numbers do not fit.
    """
    if kind not in PARTITIONS:
        raise ValueError(f"kind: got {kind!r}, expected one of {PARTITIONS}")
    pool = _pool(task) if asks == "test" else _asking_validation(task)
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
            self._test(self.kinds[own], convention),
            str(names[counts.argmax()]),
            convention,
        )

    def _test(self, held: np.ndarray, convention: str) -> OwnTest:
        whole = OwnTest.like(held, self.test_kinds)
        asked = np.flatnonzero(whole.weights)
        reviews = self._labelled(convention)[1].subset(asked)
        return OwnTest(reviews, whole.weights[asked], whole.kinds[asked])

    def _labelled(self, convention: str) -> tuple[EncodedReviews, EncodedReviews]:
        """Return training and test reviews, labelled by a convention."""
        if convention not in self._known:
            task = self.task
            parts = ((task.train, task.train_reviews), (task.test, task.test_reviews))
            self._known[convention] = tuple(
                EncodedReviews(
                    reviews.tokens,
                    reviews.lengths,
                    torch.from_numpy(conventions.labels(texts, convention)),
                )
                for reviews, texts in parts
            )
        return self._known[convention]


def _asking_validation(task: Task) -> Task:
    """Return the task with its validation reviews in the place of those for the test."""
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
