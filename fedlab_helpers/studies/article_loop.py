"""The training loop of the article that the series grew from, raced against FedAvg.

The loop never returns to the global weights between two clients, so its clients train one after
another; FedAvg's train side by side. Both are counted in serial hops: local trainings, each of
which has to wait for the one before.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fedlab_helpers import strategies
from fedlab_helpers.core.compute import child_seed, numpy_rng, torch_rng
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.require import require
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.state import weighted_mean
from fedlab_helpers.core.training import LocalConfig, clip_gradients, evaluate, predict
from fedlab_helpers.studies.study import Row, Settings, Study, grid, task
from fedlab_helpers.tasks import partition
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

CLIENTS, REVIEWS, ROUNDS = 8, 320, 8
DEALS = ["iid", "one_label_alternating", "one_label_in_blocks"]


def chained_rounds(
    model: nn.Module,
    clients: Sequence[EncodedReviews],
    local: LocalConfig,
    *,
    rounds: int,
    seed: int = 0,
    own_adam: bool = False,
) -> Iterator[int]:
    """Train as the article's loop does, in place, and yield the number of each finished round.

    Args:
        model: walks from client to client and is not reset in between.
        clients: the reviews of each client, in the order in which they are visited.
        local: epochs, batches, learning rate and clipping; the optimiser is Adam.
        rounds: how many times each client is visited.
        seed: decides the order of the reviews, as in `rounds`.
        own_adam: False: one Adam for the whole run, so that its moments pass from client to
            client. True: each visit begins with a new one.
    """
    adam = torch.optim.Adam(model.parameters(), lr=local.lr)
    for number in range(1, rounds + 1):
        states = []
        for client, data in enumerate(clients):
            if own_adam:
                adam = torch.optim.Adam(model.parameters(), lr=local.lr)
            _visit(model, data, local, adam, child_seed(seed, "local", number, client))
            states.append(model.state_dict())  # the live tensors: each entry is the same
        model.load_state_dict(weighted_mean(states, [1] * len(states)))
        yield number


def _visit(
    model: nn.Module,
    data: EncodedReviews,
    local: LocalConfig,
    optimizer: torch.optim.Optimizer,
    seed: int,
) -> None:
    """Train like `training.train`, but with an optimiser that may come from another client."""
    order = torch_rng(seed, "order")
    model.train()
    for _ in range(local.epochs):
        for batch in data.batches(local.batch_size, order):
            loss = cross_entropy(model(batch.tokens, batch.lengths), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            if local.max_grad_norm is not None:
                clip_gradients(model, local.max_grad_norm)
            optimizer.step()


def clients_in_order(dealt: str, seed: int) -> list[EncodedReviews]:
    """Return eight clients of 320 reviews each, in the order in which a chain visits them.

    Args:
        dealt: "iid"; "one_label_alternating": one label a client, negative and positive in
            turn; "one_label_in_blocks": the same clients, the four negative ones first.
        seed: decides who holds what.

    Raises:
        ValueError: `dealt` is none of these.
    """
    require(dealt in DEALS, "dealt", dealt, f"one of {DEALS}")
    labels, rng = task().train.labels.numpy(), numpy_rng(seed, "partition")
    if dealt == "iid":
        parts = (part[:REVIEWS] for part in partition.iid(labels, CLIENTS, rng))
    else:
        order = [0, 1] * (CLIENTS // 2)
        order = sorted(order) if dealt == "one_label_in_blocks" else order
        piles = [iter(rng.permutation(np.flatnonzero(labels == label))) for label in (0, 1)]
        parts = (np.sort([next(piles[label]) for _ in range(REVIEWS)]) for label in order)
    return task().clients(parts)


def measure_loop(settings: Settings) -> list[Row]:
    """Return hops, accuracy and loss after the rounds of one run, and what the answers lean to."""
    data, seed, loop = task(), settings["seed"], settings["loop"]
    clients = clients_in_order(settings["partition"], seed)
    model = SentimentLSTM(len(data.vocab), seed=seed)
    plan = Plan(settings["rounds"], seed=seed)
    if loop == "fedavg":
        strategy = strategies.fedavg()
        played = (record.round for record in rounds(model, clients, strategy, plan))
    else:
        options = {"rounds": plan.rounds, "seed": seed, "own_adam": loop == "own_adam"}
        played = chained_rounds(model, clients, plan.local, **options)
    return [
        {
            "round": number,
            "hops": number * (1 if loop == "fedavg" else CLIENTS),
            **_judged(model, data.test, clients),
        }
        for number in played
        if number <= ROUNDS or number % CLIENTS == 0
    ]


def _judged(model: nn.Module, test: EncodedReviews, clients: list[EncodedReviews]) -> Row:
    """Return metrics on the test reviews, and accuracies on two clients' own reviews."""
    logits = predict(model, test)
    answers = logits.argmax(1)
    return {
        "accuracy": float((answers == test.labels).double().mean()),
        "loss": float(cross_entropy(logits, test.labels)),
        "positive_share": float(answers.double().mean()),
        "first_client": evaluate(model, clients[0]).accuracy,
        "last_client": evaluate(model, clients[-1]).accuracy,
    }


# FedAvg goes on to as many hops as the chains take: 64 rounds, of which the first 8 are the race
# round by round.
_LOOPS = {"printed": ROUNDS, "own_adam": ROUNDS, "fedavg": ROUNDS * CLIENTS}
ARTICLE_LOOP = Study(
    "article_loop",
    tuple(
        {**rest, "loop": loop, "rounds": rounds}
        for rest in grid(clients=[CLIENTS], reviews=[REVIEWS], seed=range(3), partition=DEALS)
        for loop, rounds in _LOOPS.items()
    ),
    measure_loop,
)
