"""Fewer rows in the table of words: rare ones unknown, or several sharing a row."""

from dataclasses import replace

import torch

from fedlab_helpers.devices import child_seed
from fedlab_helpers.models import SentimentLSTM
from fedlab_helpers.shrinking.prune import resized
from fedlab_helpers.state import of_model
from fedlab_helpers.task import Task
from fedlab_helpers.text import EncodedReviews, Vocabulary

UNKNOWN = 1


def trim_reviews(reviews: EncodedReviews, size: int) -> EncodedReviews:
    """Return the reviews with the first `size` word ids; all others are unknown. Ids are by how
    often a word is seen, so these are the most frequent."""
    tokens = reviews.tokens
    return replace(reviews, tokens=tokens.where(tokens < size, UNKNOWN))


def trim_model(model: SentimentLSTM, size: int) -> SentimentLSTM:
    """Return the model with the first `size` rows of its table of words."""
    state = of_model(model)
    state["embedding.weight"] = state["embedding.weight"][:size]
    return resized(model, state)


def trim_task(task: Task, size: int) -> Task:
    """Return the task with the `size` most frequent words of its vocabulary.

    Raises:
        ValueError: the vocabulary has fewer, or padding and unknown would be all.
    """
    if not 3 <= size <= len(task.vocab):
        raise ValueError(
            f"size: got {size!r}, expected 3 to {len(task.vocab)}, the words there are"
        )
    parts = (trim_reviews(part, size) for part in (task.train, task.validation, task.test))
    train, validation, test = parts
    vocab = Vocabulary(task.vocab.words[2:size])
    return replace(task, vocab=vocab, train=train, validation=validation, test=test)


def hash_reviews(reviews: EncodedReviews, vocab: Vocabulary, size: int) -> EncodedReviews:
    """Return the reviews with `size` word ids, several words sharing one by the hash of their text.

    Weinberger et al. 2009, arXiv:0902.2206. No vocabulary is needed to read a review; padding and
    unknown keep their ids.
    """
    shared = [0, UNKNOWN, *(2 + child_seed(0, word) % (size - 2) for word in vocab.words[2:])]
    return replace(reviews, tokens=torch.tensor(shared)[reviews.tokens])


def drop_words(reviews: EncodedReviews, share: float, rng: torch.Generator) -> EncodedReviews:
    """Return the reviews with a random share of their words unknown, against learning by heart."""
    hit = torch.rand(reviews.tokens.shape, generator=rng) < share
    return replace(reviews, tokens=reviews.tokens.where(~hit | (reviews.tokens == 0), UNKNOWN))
