"""Clients with reviews of their own: to train on, to choose by, and to be tested on."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch.nn.functional import pad

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.require import require
from fedlab_helpers.personal.per_client import OwnTest, kinds
from fedlab_helpers.tasks.reviews import conventions
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.task import Task

VALIDATION = 0.125  # share of a client's reviews that it does not train on
LEAST = 4  # reviews to validate with, at least
PARTITIONS = ("by_domain", "domain_dirichlet", "dirichlet", *conventions.PAIRS)


@dataclass(frozen=True, eq=False)
class Member:
    """One client: what it trains on, what it chooses by, and the test that nothing is chosen by."""

    train: EncodedReviews  # labelled by its convention
    validation: EncodedReviews  # further ones of its own
    test: OwnTest  # test reviews like its own
    domain: str  # from which most of its reviews are
    convention: str = "sentiment"  # by which it labels, a name in `conventions.CONVENTIONS`


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
        task: what is dealt.
        kind: "by_domain", other words, the same meaning (covariate shift); "dirichlet", other
            shares of the labels (prior shift); "domain_dirichlet", mixtures of the domains;
            "strictness" and "two_desks", at random, but by two conventions, half of the clients
            by each (concept shift; see `conventions`).
        seed: decides the deal.
        clients: how many train together.
        newcomers: how many come later, spread evenly over the deal.
        alpha: of the Dirichlet distributions.
        asks: what tests are made of; with "validation", as panels do, the task's validation
            reviews are asked and not dealt, and its test reviews stay unseen.

    Raises:
        ValueError: the kind is not among these, or the numbers do not fit.
    """
    require(kind in PARTITIONS, "kind", kind, f"one of {PARTITIONS}")
    unseen = {"test_reviews": task.validation_reviews, "test": task.validation}
    pool = _pool(task) if asks == "test" else replace(task, **unseen)
    rng, pair = numpy_rng(seed, "members"), conventions.PAIRS.get(kind)
    parts = pool.deal("iid" if pair else kind, clients + newcomers, rng, alpha)
    labelled = {name: _labelled(pool, name) for name in pair or ("sentiment",)}
    members = []
    for k, part in enumerate(parts):
        convention = pair[k // 2 % 2] if pair else "sentiment"
        members.append(_member(pool, rng.permutation(part), convention, *labelled[convention]))
    later = {round((i + 0.5) * len(members) / newcomers) for i in range(newcomers)}
    return (
        [member for k, member in enumerate(members) if k not in later],
        [member for k, member in enumerate(members) if k in later],
    )


def _labelled(task: Task, convention: str) -> tuple[EncodedReviews, EncodedReviews]:
    """Return training and test reviews, labelled by a convention."""
    train, test = (
        reviews.with_targets(torch.from_numpy(conventions.labels(texts, convention)))
        for reviews, texts in ((task.train, task.train_reviews), (task.test, task.test_reviews))
    )
    return train, test


def _member(
    task: Task, own: np.ndarray, convention: str, train: EncodedReviews, test: EncodedReviews
) -> Member:
    """Return the client that holds these of the training reviews, in this order."""
    kept = max(LEAST, round(VALIDATION * len(own)))
    least = f"more than {kept}: these are to choose by, and the others to learn from"
    require(len(own) > kept, "clients: the reviews of one", len(own), least)
    parts = (train.subset(np.sort(part)) for part in (own[kept:], own[:kept]))
    held = [task.train_reviews[place] for place in own]
    like = OwnTest.like(kinds(held), kinds(task.test_reviews))
    asked = np.flatnonzero(like.weights)
    own_test = OwnTest(test.subset(asked), like.weights[asked], like.kinds[asked])
    names, counts = np.unique([review.domain for review in held], return_counts=True)
    return Member(*parts, own_test, str(names[counts.argmax()]), convention)


def _pool(task: Task) -> Task:
    """Return the task with its validation reviews among those that are dealt."""
    parts = (task.train, task.validation)
    width = max(part.tokens.shape[1] for part in parts)
    tokens = [pad(part.tokens, (0, width - part.tokens.shape[1])) for part in parts]
    rest = ([part.lengths for part in parts], [part.labels for part in parts])
    train = EncodedReviews(*map(torch.cat, (tokens, *rest)))
    return replace(task, train_reviews=task.train_reviews + task.validation_reviews, train=train)
