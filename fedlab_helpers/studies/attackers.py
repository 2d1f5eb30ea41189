"""Attacks on what is seen of a client, each a figure that says how well it does.

Where a model's word vectors are public, rows are made up for what was sent without any.
"""

import copy

import numpy as np
import torch
from torch import Tensor, nn

from fedlab_helpers.core.state import State, add, of_model
from fedlab_helpers.privacy import leaks
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import FrozenWords


def as_told(model: nn.Module, data: EncodedReviews) -> EncodedReviews:
    """Return reviews as a model reads them: of words that it cannot tell apart, the first."""
    if isinstance(model.embedding, FrozenWords):
        tokens = leaks.alike(model.embedding.vectors)[data.tokens]
        return EncodedReviews(tokens, data.lengths, data.labels)
    return data


def word_scores(model: nn.Module, seen: State) -> Tensor:
    """Return how much speaks for each word, (V,), 0 where nothing does."""
    if isinstance(model.embedding, FrozenWords):
        return 1 - leaks.outside(model.embedding.vectors, seen)
    return seen["embedding.weight"].double().norm(dim=1)


def words(model: nn.Module, data: EncodedReviews, seen: State) -> float:
    """Return the AUC by which the target's words are told from all others."""
    scores = word_scores(model, seen)
    told = torch.arange(len(scores))
    if isinstance(model.embedding, FrozenWords):
        told = leaks.alike(model.embedding.vectors).unique()
    there = torch.zeros(len(scores), dtype=torch.bool)
    there[as_told(model, data).tokens.flatten()] = True
    return leaks.auc(there[told[1:]], scores[told[1:]])  # without padding


def clock(model: nn.Module, data: EncodedReviews, seen: State) -> float:
    """Return the rank correlation (Kendall) of the lengths of rows with the places where the
    target's words, which the attacker is told, stood last."""
    from scipy.stats import kendalltau

    data = as_told(model, data)
    if isinstance(model.embedding, FrozenWords):
        _, seen = leaks.with_table(model, seen)
    last = {word: place for place, word in enumerate(data.tokens[0, : data.lengths[0]].tolist())}
    rows = seen["embedding.weight"][list(last)].double().norm(dim=1)
    return float(np.nan_to_num(kendalltau(list(last.values()), rows).statistic))


def sentence(
    model: nn.Module, data: EncodedReviews, seen: State, count: int = 1
) -> tuple[bool, bool]:
    """Return whether the target's review is read out of a gradient of so many, and whether another
    text is certified."""
    data = as_told(model, data)
    if isinstance(model.embedding, FrozenWords):
        model, seen = leaks.with_table(model, seen)
    text = tuple(data.tokens[0, : data.lengths[0]].tolist())
    found = leaks.attempt(model, seen, count, len(set(text)))
    read = text in [each.tokens for each in found]
    return read, found[0].certified and not read


def exact(model: nn.Module, data: EncodedReviews, seen: State) -> bool:
    """Return whether the target's review is read out of its gradient."""
    return sentence(model, data, seen)[0]


def member_words(model: nn.Module, pool: EncodedReviews, seen: State) -> float:
    """Return the AUC of the first half of a pool by its words: the share of them that was touched;
    where all words were, by noise, how much speaks for them on average."""
    scores = word_scores(model, seen)
    told = leaks.touched_share(pool, scores.nonzero()[:, 0])
    if told.all() and bool(scores[1:].all()):
        rows = zip(pool.tokens, pool.lengths, strict=True)
        told = np.array([float(scores[row[:length].unique()].mean()) for row, length in rows])
    return leaks.auc(np.arange(len(pool)) < len(pool) // 2, told)


def member_loss(model: nn.Module, pool: EncodedReviews, seen: State) -> float:
    """Return the AUC of the first half of a pool by how sure the changed model is of it."""
    learner = copy.deepcopy(model)
    learner.load_state_dict(add(of_model(model), seen))
    told = leaks.confidence(learner, pool)
    return leaks.auc(np.arange(len(pool)) < len(pool) // 2, told)
