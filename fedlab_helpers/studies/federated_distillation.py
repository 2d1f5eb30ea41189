"""Clients with models of their own kinds: alone, and exchanging answers on public reviews."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from fedlab_helpers import strategies
from fedlab_helpers.core import rounds
from fedlab_helpers.core.compute import child_seed, numpy_rng
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.training import LocalConfig, evaluate, train
from fedlab_helpers.shrinking import distillation_rounds, trim_reviews
from fedlab_helpers.studies.study import Row, Settings, Study, grid, rounded, task
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

Clients = list[EncodedReviews]

CLIENTS, PUBLIC, ROUNDS = 8, 2000, 8
LOCAL = LocalConfig(epochs=2, lr=5e-3)
LEARN = LocalConfig(epochs=1, lr=5e-3)
KINDS = (  # cell, words, numbers a word, hidden units: dealt to the clients in turn
    ("lstm", 11_491, 64, 64),
    ("gru", 4000, 32, 32),
    ("lstm", 2000, 16, 16),
    ("rnn", 4000, 16, 32),
)


def players(seed: int) -> tuple[list[SentimentLSTM], list[partial]]:
    """Return a model for each client, and how each reads reviews."""
    kinds = [KINDS[client % len(KINDS)] for client in range(CLIENTS)]
    models = [
        SentimentLSTM(
            words, width, hidden, cell=cell, pooling="mean", dropout=0.3, seed=1000 * seed + client
        )
        for client, (cell, words, width, hidden) in enumerate(kinds)
    ]
    return models, [partial(trim_reviews, size=words) for _, words, *_ in kinds]


def deal(partition: str, seed: int) -> tuple[EncodedReviews, list[EncodedReviews]]:
    """Return the public reviews, the first of a shuffle, and each client's, dealt of the rest."""
    order = numpy_rng(seed, "public").permutation(len(task().train))
    rest = np.sort(order[PUBLIC:])
    smaller = replace(
        task(),
        train=task().train.subset(rest),
        train_reviews=tuple(task().train_reviews[place] for place in rest),
    )
    parts = smaller.deal(partition, CLIENTS, numpy_rng(seed, "partition"))
    return task().train.subset(order[:PUBLIC]), smaller.clients(parts)


def measure(settings: Settings) -> list[Row]:
    """Return the mean and the least accuracy of the clients' models after each round, and bytes.

    "alone": as many passes as with the exchange, all over a client's own reviews. "averaged": the
    same reviews and rounds with one model, the largest, averaged row by row.
    """
    public, clients = deal(settings["partition"], settings["seed"])
    plan = rounds.Plan(ROUNDS, None, LOCAL, settings["seed"], workers=1)
    ways = {"alone": _alone, "exchange": _exchange, "averaged": _averaged}
    return list(ways[settings["way"]](plan, clients, public))


def _alone(plan: Plan, clients: Clients, public: EncodedReviews) -> Iterator[Row]:
    models, views = players(plan.seed)
    for number in range(1, plan.rounds + 1):
        for client, (model, view) in enumerate(zip(models, views, strict=True)):
            epochs = LOCAL.epochs + round(LEARN.epochs * len(public) / len(clients[client]))
            seed = child_seed(plan.seed, "local", number, client)
            train(model, view(clients[client]), replace(LOCAL, epochs=epochs), seed=seed)
        yield _row(number, models, views, 0)


def _exchange(plan: Plan, clients: Clients, public: EncodedReviews) -> Iterator[Row]:
    (models, views), sent = players(plan.seed), 0
    for record in distillation_rounds(models, clients, public, plan, learn=LEARN, views=views):
        sent += record.bytes_up + record.bytes_down
        yield _row(record.round, models, views, sent)


def _averaged(plan: Plan, clients: Clients, public: EncodedReviews) -> Iterator[Row]:
    (models, views), sent = players(plan.seed), 0
    seen = [views[0](own) for own in clients]
    for record in rounds.rounds(models[0], seen, strategies.rowwise(), plan):
        sent += record.bytes_up + record.bytes_down
        yield _row(record.round, models[:1] * len(KINDS), views[:1] * len(KINDS), sent)


def _row(number: int, models: list[SentimentLSTM], views: list[partial], sent: int) -> Row:
    test = task().test
    scores = [evaluate(m, view(test)).accuracy for m, view in zip(models, views, strict=True)]
    of_kinds = {
        f"accuracy_{cell}_{words}": np.mean(scores[place :: len(KINDS)])
        for place, (cell, words, *_) in enumerate(KINDS)
    }
    figures = rounded(accuracy=np.mean(scores), least=min(scores), **of_kinds)
    return {"round": number, **figures, "total_bytes": sent}


FEDERATED_DISTILLATION = Study(
    "federated_distillation",
    grid(seed=range(3), partition=["iid", "dirichlet"], way=["alone", "exchange", "averaged"]),
    measure,
)
