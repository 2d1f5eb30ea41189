"""The training loop of the article that the series grew from, raced against FedAvg.

The loop never returns to the global weights between two clients, so its clients train one after
another; FedAvg's train side by side. Both are counted in serial hops: local trainings, each of
which has to wait for the one before. Each loop runs with one local epoch, and with as many as
served it best beforehand, on validation reviews and another seed.
"""

from collections.abc import Iterator, Sequence
from itertools import product

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
    each = 1 if settings["loop"] == "fedavg" else CLIENTS
    return [
        {"round": number, "hops": number * each, **_judged(model, task().test, clients)}
        for number, model, clients in _played(settings)
        if number <= ROUNDS or number % CLIENTS == 0
    ]


def measure_epochs(settings: Settings) -> list[Row]:
    """Return the mean accuracy on the validation reviews over a run's last three rounds."""
    late = [
        evaluate(model, task().validation).accuracy
        for number, model, _ in _played(settings)
        if number > settings["rounds"] - 3
    ]
    return [{"merit": sum(late) / len(late)}]


def _played(settings: Settings) -> Iterator[tuple[int, SentimentLSTM, list[EncodedReviews]]]:
    """Yield the number of each finished round, the model as it is then, and the clients."""
    seed, loop = settings["seed"], settings["loop"]
    clients = clients_in_order(settings["partition"], seed)
    model = SentimentLSTM(len(task().vocab), seed=seed)
    local = LocalConfig(epochs=settings["epochs"])
    if loop == "fedavg":
        plan = Plan(settings["rounds"], local=local, seed=seed)
        for record in rounds(model, clients, strategies.fedavg(), plan):
            yield record.round, model, clients
    else:
        options = {"rounds": settings["rounds"], "seed": seed, "own_adam": loop == "own_adam"}
        for number in chained_rounds(model, clients, local, **options):
            yield number, model, clients


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


LOOPS = ("printed", "own_adam", "fedavg")
# The first eight rounds are the race round by round; FedAvg goes on until its clients have read
# their reviews as many times one after another as all visits of a chain do at one epoch.
# Local epochs that did best in the table of `article_loop_epochs`.
EPOCHS = dict(zip(product(DEALS, LOOPS), (2, 1, 2, 1, 3, 3, 1, 1, 1), strict=True))


def _runs() -> tuple[Settings, ...]:
    def to_run(loop: str, epochs: int) -> int:
        return ROUNDS * -(-CLIENTS // epochs) if loop == "fedavg" else ROUNDS

    return tuple(
        {**rest, "loop": loop, "rounds": to_run(loop, epochs), "epochs": epochs}
        for rest in grid(clients=[CLIENTS], reviews=[REVIEWS], seed=range(3), partition=DEALS)
        for loop in LOOPS
        for epochs in sorted({1, EPOCHS[rest["partition"], loop]})
    )


ARTICLE_LOOP = Study("article_loop", _runs(), measure_loop)
ARTICLE_LOOP_EPOCHS = Study(
    "article_loop_epochs",
    grid(
        clients=[CLIENTS], reviews=[REVIEWS], seed=[100], partition=DEALS, loop=LOOPS,
        rounds=[ROUNDS], epochs=(1, 2, 3, 5),
    ),
    measure_epochs,
)  # fmt: skip
