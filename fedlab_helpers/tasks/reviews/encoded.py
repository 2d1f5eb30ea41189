"""Reviews as tensors: padded ids, labels, batches of similar length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fedlab_helpers.tasks.reviews.corpus import Review
from fedlab_helpers.tasks.reviews.words import PADDING, UNKNOWN, Vocabulary, tokenize_all

_BATCHES_IN_POOL = 16  # texts are sorted by length within this many batches


class Batch(NamedTuple):
    """Some reviews, padded on the right to the longest of them."""

    tokens: Tensor  # (B, T) int64
    lengths: Tensor  # (B,) int64
    labels: Tensor  # (B,) int64


@dataclass(frozen=True, eq=False)
class EncodedReviews:
    """Reviews as tensors, right-padded with id 0.

    Args:
        tokens: word ids, (N, T) int64.
        lengths: words in each review, (N,) int64, from 1 to T.
        labels: class of each review, (N,) int64; or, to learn from, its probability of each
            class, (N, C) floating point.

    Raises:
        ValueError: the shapes do not fit each other, or a length is not in 1..T.
    """

    tokens: Tensor
    lengths: Tensor
    labels: Tensor

    def __post_init__(self):
        shapes = [tuple(t.shape) for t in (self.tokens, self.lengths, self.labels)]
        rows = shapes[2][:-1] if self.labels.is_floating_point() else shapes[2]
        if self.tokens.dim() != 2 or not shapes[1] == rows == (len(self.tokens),):
            raise ValueError(f"EncodedReviews: shapes {shapes}, expected (N, T), (N,), (N,)")
        if len(self):
            low, high, width = *map(int, self.lengths.aminmax()), self.tokens.shape[1]
            if not 1 <= low <= high <= width:
                raise ValueError(
                    f"EncodedReviews: lengths from {low} to {high}, expected them in 1..{width}"
                )

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Sequence[int]) -> "EncodedReviews":
        """Return the reviews at these positions, in this order, as a copy.

        Raises:
            ValueError: `indices` holds something else than integers, e.g. a mask.
        """
        index = torch.as_tensor(indices, device=self.labels.device)
        whole = index.dtype != torch.bool and torch.can_cast(index.dtype, torch.int64)
        if index.numel() and not whole:
            raise ValueError(f"indices: got {index.dtype}, expected the positions, as integers")
        index = index.long()
        return EncodedReviews(self.tokens[index], self.lengths[index], self.labels[index])

    def to(self, device: str | torch.device) -> "EncodedReviews":
        """Return the reviews on `device`."""
        return EncodedReviews(*(t.to(device) for t in (self.tokens, self.lengths, self.labels)))

    def batches(
        self, batch_size: int | None, generator: torch.Generator | None = None
    ) -> Iterator[Batch]:
        """Yield every review once.

        Args:
            batch_size: reviews in a batch (the last may have fewer); None: all in one.
            generator: a CPU generator: reviews are shuffled, then put beside others of similar
                length, since an RNN also computes the padding. None: the order is kept.

        Raises:
            ValueError: `batch_size` is below 1.
        """
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size: got {batch_size}, expected at least 1, or None")
        size = batch_size or max(1, len(self))
        for index in self._index_batches(size, generator):
            longest = int(self.lengths[index].max())
            yield Batch(self.tokens[index, :longest], self.lengths[index], self.labels[index])

    def _index_batches(self, size: int, generator: torch.Generator | None) -> list[Tensor]:
        if not len(self):
            return []
        order = torch.arange(len(self), device=self.labels.device)
        if generator is None:
            return list(order.split(size))
        order = torch.randperm(len(self), generator=generator).to(order.device)
        batches = [
            batch
            for pool in order.split(size * _BATCHES_IN_POOL)
            for batch in pool[self.lengths[pool].argsort(stable=True)].split(size)
        ]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def encode_reviews(
    reviews: Sequence[Review], vocab: Vocabulary, max_len: int = 64
) -> EncodedReviews:
    """Return reviews as padded tensors.

    Args:
        reviews: texts and labels.
        vocab: built from training texts.
        max_len: words beyond this many are cut off. A text without words becomes one unknown.

    Raises:
        ValueError: there is no review, or `max_len` is below 1.
    """
    if not reviews:
        raise ValueError("reviews: got none, expected at least one")
    if max_len < 1:
        raise ValueError(f"max_len: got {max_len}, expected at least 1")
    rows = [
        vocab.encode(tokens[:max_len]) or [UNKNOWN]
        for tokens in tokenize_all([review.text for review in reviews])
    ]
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.full((len(rows), int(lengths.max())), PADDING)
    for position, row in enumerate(rows):
        tokens[position, : len(row)] = torch.tensor(row)
    return EncodedReviews(tokens, lengths, torch.tensor([review.label for review in reviews]))
