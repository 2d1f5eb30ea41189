"""Reviews as tensors: padded word ids, lengths, labels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fedlab_helpers.core.examples import Batch, Examples
from fedlab_helpers.core.require import require, require_count
from fedlab_helpers.tasks.reviews.corpus import Review
from fedlab_helpers.tasks.reviews.words import PADDING, UNKNOWN, Vocabulary, tokenize_all


class _Reviews:
    """What inputs and targets are called where they are reviews."""

    @property
    def tokens(self) -> Tensor:
        """Word ids, (N, T) int64, right-padded with id 0."""
        return self.inputs[0]

    @property
    def lengths(self) -> Tensor:
        """Words in each review, (N,) int64."""
        return self.inputs[1]

    @property
    def labels(self) -> Tensor:
        """Their classes, (N,) int64, or probabilities of each, (N, C)."""
        return self.targets


class ReviewBatch(_Reviews, Batch):
    """Some reviews, padded on the right to the longest of them."""


class EncodedReviews(_Reviews, Examples):
    """Reviews as `Examples`, right-padded with id 0.

    Args:
        tokens: word ids, (N, T) int64.
        lengths: words in each review, (N,) int64, from 1 to T.
        labels: class of each review, (N,) int64; or, to learn from, its probability of each
            class, (N, C) floating point.

    Raises:
        ValueError: the shapes do not fit each other, or a length is not in 1..T.
    """

    _batch = ReviewBatch

    def __init__(self, tokens: Tensor, lengths: Tensor, labels: Tensor):
        super().__init__((tokens, lengths), labels, padded=True)


def encode_reviews(
    reviews: Sequence[Review], vocab: Vocabulary, max_len: int | None = None
) -> EncodedReviews:
    """Return reviews as padded tensors.

    Args:
        reviews: texts and labels.
        vocab: built from training texts.
        max_len: words beyond this many are cut off; None: as many as the vocabulary says, or 64
            where it does not. A text without words becomes one unknown.

    Raises:
        ValueError: there is no review, or `max_len` is below 1.
    """
    require(len(reviews) > 0, "reviews", reviews, "at least one")
    if max_len is None:
        max_len = vocab.max_len or 64
    require_count(max_len=max_len)
    tokenized = tokenize_all([review.text for review in reviews])
    rows = [vocab.encode(tokens[:max_len]) or [UNKNOWN] for tokens in tokenized]
    here = {"dtype": torch.int64, "device": "cpu"}  # whatever torch's own defaults are
    lengths = torch.tensor([len(row) for row in rows], **here)
    tokens = torch.full((len(rows), int(lengths.max())), PADDING, **here)
    for position, row in enumerate(rows):
        tokens[position, : len(row)] = torch.tensor(row, **here)
    return EncodedReviews(tokens, lengths, torch.tensor([r.label for r in reviews], **here))
