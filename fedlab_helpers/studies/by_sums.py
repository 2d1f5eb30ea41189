"""Models whose parts are few sums over examples: clients send these, and the server has the model
that all data in one place would give. Where they have a fixed length a secure sum hides each part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.sparse import csr_array, diags_array
from scipy.special import expit
from torch import Tensor

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.studies.plain_models import (
    Judge,
    glucose_features,
    judge,
    table_of,
    turbine_features,
    wind_bins,
)
from fedlab_helpers.tasks.ngrams import NGram, asked_places
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews


@dataclass(frozen=True)
class Fitted:
    """A model made of sums, after an exchange between server and clients.

    Args:
        judges: examples -> how good its answers are.
        bytes_up, bytes_down: of all clients, in this exchange.
        numbers, bytes_held: what the model holds, and on a device: a byte for a number, two for
            a word; coefficients of a few features as they are.
    """

    judges: Judge
    bytes_up: int
    bytes_down: int
    numbers: int
    bytes_held: int


# TF-IDF with logistic regression


def counts(data: EncodedReviews, words: int) -> csr_array:
    """Return how often each word stands in each review, (N, V)."""
    there = torch.arange(data.tokens.shape[1]) < data.lengths[:, None]
    row, _ = there.nonzero(as_tuple=True)
    column = data.tokens[there]
    ones = np.ones(len(row))
    return csr_array((ones, (row.numpy(), column.numpy())), (len(data), words))


def tfidf(counted: csr_array, idf: np.ndarray) -> csr_array:
    """Return (1 + log count) idf, each row divided by its length, (N, V)."""
    told = counted.copy()
    told.data = 1 + np.log(told.data)
    told = (told @ diags_array(idf)).tocsr()
    lengths = np.sqrt((told * told).sum(1))
    return (diags_array(1 / np.maximum(lengths, 1e-12)) @ told).tocsr()


def tfidf_logistic(
    clients: Sequence[EncodedReviews], strength: float, words: int, most: int = 100
) -> Iterator[Fitted]:
    """Yield logistic regression over TF-IDF as it gets better: after each exchange but the first.

    In the first, each client sends in how many of its reviews each word stands, and how many there
    are; the sums give the weight of each word, idf = log((1 + n) / (1 + df)) + 1. In every further
    one it sends, of the coefficients it is sent, loss and gradient, summed over its reviews, as
    float32; the server takes a step of L-BFGS with the sums. Loss and solution are those of
    scikit-learn.

    Args:
        clients: reviews of two classes.
        strength: C of scikit-learn: weight of the reviews' loss against that of the coefficients.
        words: how many word ids there are.
        most: after so many exchanges the search for a step that has begun is the last.
    """
    counted = [counts(data, words) for data in clients]
    found = sum((own > 0).sum(0) for own in counted)
    n = sum(own.shape[0] for own in counted)
    idf = np.log((1 + n) / (1 + found)) + 1
    features = [tfidf(own, idf) for own in counted]
    signs = [2.0 * data.labels.numpy() - 1 for data in clients]
    tried: list[tuple[np.ndarray, float]] = []

    def answer(own: csr_array, sign: np.ndarray, sent: np.ndarray) -> tuple[float, np.ndarray]:
        """Return what one client sends."""
        margins = sign * (own @ sent[:-1] + sent[-1])
        pull = -sign * expit(-margins)
        gradient = np.append(own.T @ pull, pull.sum())
        return float(np.logaddexp(0, -margins).sum()), gradient.astype(np.float32)

    def asked(sent: np.ndarray) -> tuple[float, np.ndarray]:
        replies = [answer(*own, sent) for own in zip(features, signs, strict=True)]
        loss = strength * sum(one for one, _ in replies) + 0.5 * sent[:-1] @ sent[:-1]
        gradient = strength * sum(one.astype(np.float64) for _, one in replies)
        gradient[:-1] += sent[:-1]
        tried.append((sent.copy(), loss))
        return loss, gradient

    minimize(asked, np.zeros(words + 1), jac=True, method="L-BFGS-B", options={"maxfun": most})
    each = 4 * (words + 1)  # coefficients down; counts, or a gradient, up
    best, kept = np.inf, None
    for number, (sent, loss) in enumerate(tried):
        if loss <= best:
            best, kept = loss, sent
        exchanges = 2 if number == 0 else 1  # the counts come before the first gradient
        up, down = exchanges * (each + 4), exchanges * each
        judges = _logistic(kept, idf, words)
        held = 2 * words + 1  # a coefficient and an idf for each word
        yield Fitted(judges, up * len(clients), down * len(clients), held, held)


def _logistic(weights: np.ndarray, idf: np.ndarray, words: int) -> Judge:
    def judges(data: Examples) -> Tensor:
        margins = tfidf(counts(data, words), idf) @ weights[:-1] + weights[-1]
        logits = torch.from_numpy(np.stack([-margins / 2, margins / 2], 1))
        return data.objective.judge(logits, data.targets)

    return judges


# Counts of words that follow each other


def trigram(clients: Sequence[Examples], discount: float, words: int) -> Fitted:
    """Return the trigram of all counts together. Of each that it has, a client sends its three
    words in two bytes each and the count in four; the server sends the sums."""
    made = [NGram(data, words, 3, discount) for data in clients]
    whole = NGram.of_counts([own.counts for own in made], words, discount)

    def size(one: NGram) -> int:
        return sum(
            (2 * (order + 1) + 4) * sum(map(len, one.counts[order].values())) for order in range(3)
        )

    def judges(data: Examples) -> Tensor:
        return data.objective.judge(whole.answer(data), asked_places(data).targets)

    held = [sum(map(len, order.values())) for order in whole.counts]
    on_device = sum((2 * (order + 1) + 1) * count for order, count in enumerate(held))
    down = size(whole) * len(clients)
    return Fitted(judges, sum(map(size, made)), down, sum(held), on_device)


# Ridge regression


def ridge(clients: Sequence[Examples], number: float) -> Fitted:
    """Return ridge regression on standardized features: every client sends the sums over its rows
    of all products of features, target and 1, in float64, once; the server sends the model.

    Args:
        clients: people with their readings.
        number: weight of the squared coefficients, as in scikit-learn.
    """
    moments = 0
    for data in clients:
        seen, target = table_of(data, glucose_features)
        rows = np.column_stack([np.ones(len(target)), seen, target]).astype(np.float64)
        moments = moments + rows.T @ rows
    n = moments[0, 0]
    means = moments[0, 1:] / n
    centred = moments[1:, 1:] / n - np.outer(means, means)
    spread = np.sqrt(np.diag(centred)[:-1])
    inner = n * centred[:-1, :-1] / np.outer(spread, spread)
    outer = n * centred[:-1, -1] / spread
    weights = np.linalg.solve(inner + number * np.eye(len(inner)), outer) / spread

    def judges(data: Examples) -> Tensor:
        return judge(data, (glucose_features(data) - means[:-1]) @ weights + means[-1])

    size = len(moments)
    up = 8 * size * (size + 1) // 2 * len(clients)
    held = len(weights) + 1
    return Fitted(judges, up, 8 * size * len(clients), held, 8 * held)


# A power curve


def power_curve(clients: Sequence[Examples], width: float) -> Fitted:
    """Return the mean power in each bin of wind, of all readings: every client sends how many of
    its readings are in each bin, and their sum, in four bytes each, once.

    Args:
        clients: turbines with their readings.
        width: of a bin, in m/s.
    """
    bins = int(wind_bins(np.array([[np.inf]]), width)[0]) + 1
    counted, summed = np.zeros(bins), np.zeros(bins)
    for data in clients:
        features, power = table_of(data, turbine_features)
        at = wind_bins(features, width)
        counted += np.bincount(at, minlength=bins)
        summed += np.bincount(at, power.astype(np.float64), bins).astype(np.float32)
    known = np.flatnonzero(counted > 3)
    means = summed[known] / counted[known]

    def judges(data: Examples) -> Tensor:
        return judge(data, np.interp(wind_bins(turbine_features(data), width), known, means))

    sent = 8 * bins * len(clients)
    return Fitted(judges, sent, 4 * bins * len(clients), bins, 4 * bins)
