"""From text to tensors: tokens, vocabulary, padded ids, batches of similar length."""

import logging
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from fedlab_helpers.tasks.reviews.corpus import Review
from fedlab_helpers.tasks.reviews.token_cache import TokenCache

PADDING, UNKNOWN = 0, 1
_BATCHES_IN_POOL = 16  # texts are sorted by length within this many batches
_jieba_lock = threading.Lock()


@cache
def _jieba():
    """Import jieba once, without its log on stderr and its warnings on newer Pythons."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=SyntaxWarning)
        warnings.filterwarnings("ignore", message="invalid escape sequence")  # Python 3.11
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        import jieba
    jieba.setLogLevel(logging.WARNING)
    jieba.initialize()
    return jieba


@cache
def _cache() -> TokenCache:
    from importlib.metadata import version

    return TokenCache(f"jieba-{version('jieba')}-words")


def tokenize(text: str) -> list[str]:
    """Return the words of a text as jieba cuts it; white space is dropped."""
    with _jieba_lock:
        return [token for token in _jieba().cut(text) if not token.isspace()]


def tokenize_all(texts: Sequence[str]) -> list[list[str]]:
    """Return `tokenize` of each text, through the cache in `data/cache/`."""
    return _cache().tokenize(texts, tokenize)


def count_words(token_lists: Iterable[Sequence[str]]) -> Counter[str]:
    """Return how often each word occurs: all that a client sends for a federated vocabulary."""
    return Counter(word for tokens in token_lists for word in tokens)


class Vocabulary:
    """Words and their ids; id 0 is padding, id 1 stands for every unknown word.

    Args:
        words: the known words; the first gets id 2.
    """

    def __init__(self, words: Iterable[str]):
        self.words = ("<padding>", "<unknown>", *words)
        self._ids = {word: id_ for id_, word in enumerate(self.words) if id_ > UNKNOWN}

    @classmethod
    def build(
        cls,
        token_lists: Iterable[Sequence[str]],
        min_count: int = 3,
        max_size: int | None = None,
    ) -> "Vocabulary":
        """Return the vocabulary of tokenised texts that lie in one place.

        Args:
            token_lists: tokens of the training texts, never of validation or test texts.
            min_count: a word seen less often is unknown.
            max_size: keep only the most frequent words, so that `len` is at most this.
        """
        return cls.from_counts([count_words(token_lists)], min_count, max_size)

    @classmethod
    def from_counts(
        cls,
        counts: Iterable[Counter[str]],
        min_count: int = 3,
        max_size: int | None = None,
    ) -> "Vocabulary":
        """Return the same vocabulary from each client's word counts, without their texts.

        Words come most frequent first, equal counts in the order of their characters, so that
        neither the order of the clients nor how texts are spread over them changes an id.

        Raises:
            ValueError: `min_count` is below 1, or `max_size` below 2.
        """
        if min_count < 1:
            raise ValueError(f"min_count: got {min_count}, expected at least 1")
        if max_size is not None and max_size < 2:
            raise ValueError(f"max_size: got {max_size}, expected at least 2 (padding, unknown)")
        total: Counter[str] = Counter()
        for count in counts:
            total.update(count)
        ranked = sorted(total.items(), key=lambda item: (-item[1], item[0]))
        kept = [word for word, count in ranked if count >= min_count]
        return cls(kept if max_size is None else kept[: max_size - 2])

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Return the id of each token; 1 for a word that is not in the vocabulary."""
        return [self._ids.get(token, UNKNOWN) for token in tokens]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the word of each id."""
        return [self.words[id_] for id_ in ids]


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
