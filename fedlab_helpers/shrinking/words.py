"""Fewer rows in the table of words: rare ones unknown, or several sharing a row."""

import torch

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.require import require, require_share
from fedlab_helpers.core.state import of_model
from fedlab_helpers.shrinking.prune import require_plain, resized
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.words import UNKNOWN, Vocabulary


def _reading(reviews: EncodedReviews, tokens: torch.Tensor) -> EncodedReviews:
    return reviews.with_inputs(tokens, reviews.lengths)


def trim_reviews(reviews: EncodedReviews, size: int) -> EncodedReviews:
    """Return the reviews with the first `size` word ids; all others are unknown. Ids are by how
    often a word is seen, so these are the most frequent."""
    return _reading(reviews, reviews.tokens.where(reviews.tokens < size, UNKNOWN))


def trim_model(model: SentimentLSTM, size: int) -> SentimentLSTM:
    """Return a copy of the model with the first `size` rows of its table of words.

    Raises ValueError for more than there are, or fewer than 3: two are padding and unknown.
    """
    require_plain(model)
    state = of_model(model)
    rows = len(state["embedding.weight"])
    require(3 <= size <= rows, "size", size, f"3 to {rows}, the rows there are")
    state["embedding.weight"] = state["embedding.weight"][:size]
    return resized(model, state)


def hash_reviews(reviews: EncodedReviews, vocab: Vocabulary, size: int) -> EncodedReviews:
    """Return the reviews with `size` word ids, several words sharing one by the hash of their text.

    Weinberger et al. 2009, arXiv:0902.2206. A file of the model needs no words: a hash tells the
    row. Padding and unknown keep their ids; so do words that the vocabulary does not have.
    The vocabulary is that of the reviews. Raises ValueError for a size below 3.
    """
    require(size >= 3, "size", size, "at least 3")
    shared = [0, UNKNOWN, *(2 + child_seed(0, word) % (size - 2) for word in vocab.words[2:])]
    return _reading(reviews, torch.tensor(shared, device="cpu")[reviews.tokens])


def drop_words(reviews: EncodedReviews, share: float, rng: torch.Generator) -> EncodedReviews:
    """Return the reviews with a random share of their words, in [0, 1), unknown, against learning
    by heart."""
    require_share(share=share)
    drawn = torch.rand(reviews.tokens.shape, generator=rng, dtype=torch.float32, device="cpu")
    hit = drawn < share
    return _reading(reviews, reviews.tokens.where(~hit | (reviews.tokens == 0), UNKNOWN))
