"""Does drift hurt this LSTM? Eight epochs of ten clients, averaged every 1, 2, 4 or 8 of them.

Beside it, from the same weights and with as many steps: the same reviews dealt to the clients at
random, and one model trained on all of them, its batches ten times as large.
"""

from functools import cache

import numpy as np

from fedlab_helpers.core.compute import child_seed, numpy_rng
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import rounds, run
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.training import LocalConfig, evaluate, train
from fedlab_helpers.recipe import Recipe
from fedlab_helpers.strategies import fedavg
from fedlab_helpers.studies import study
from fedlab_helpers.studies.study import Row, Settings, Study, grid, task
from fedlab_helpers.tasks.partition import Parts
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

EPOCHS, REVIEWS, BATCH = 8, 320, 32  # in all; of a client; of a step


@cache
def warm_weights(seed: int) -> State:
    """Return the weights after four rounds with clients that are alike."""
    model, *others = study.begin(Recipe("rowwise", partition="iid", lr=5e-3, rounds=4, seed=seed))
    run(model, *others)
    return of_model(model)


def ten_clients(settings: Settings) -> Parts:
    """Return the reviews of every second of 20 clients, equally many each: its own, or dealt anew
    among the ten at random. With "shards" a client has one label."""
    seed, labels = settings["seed"], task().train.targets.numpy()
    parts = task().deal(settings["partition"], 20, numpy_rng(seed, "partition"))
    if settings["partition"] == "shards":
        parts.sort(key=lambda part: labels[part].mean())
    rng = numpy_rng(seed, "cut")
    ours = [np.sort(rng.choice(part, REVIEWS, replace=False)) for part in parts[::2]]
    if settings["reviews"] == "own":
        return ours
    return [np.sort(part) for part in np.split(rng.permutation(np.concatenate(ours)), len(ours))]


def measure_drift(settings: Settings) -> list[Row]:
    """Return loss and accuracy on the test reviews after each mean of the clients' models."""
    seed, epochs, parts = settings["seed"], settings["epochs"], ten_clients(settings)
    model, rows = Recipe(partition="iid", seed=seed).new_model(task()), []
    model.load_state_dict(warm_weights(seed))
    for number, _ in enumerate(_trained(model, parts, settings["reviews"], epochs, seed), 1):
        scores = evaluate(model, task().test)
        figures = study.rounded(loss=scores.loss, accuracy=scores.accuracy)
        rows.append({"round": number, "epochs_done": number * epochs, **figures})
    return rows


def _trained(model: SentimentLSTM, parts: Parts, reviews: str, epochs: int, seed: int):
    """Train the model in place, and yield whenever the clients' models were averaged."""
    local, times = LocalConfig(epochs, BATCH), EPOCHS // epochs
    if reviews != "pooled":
        yield from rounds(model, task().clients(parts), fedavg(), Plan(times, None, local, seed, 1))
        return
    pool, local = task().train.subset(np.concatenate(parts)), LocalConfig(epochs, BATCH * 10)
    for number in range(times):
        yield train(model, pool, local, seed=child_seed(seed, "pooled", number))


DRIFT = Study(
    "drift",
    grid(
        seed=range(3),
        partition=["by_domain", "shards"],
        reviews=["own", "mixed", "pooled"],
        epochs=[1, 2, 4, 8],
    ),
    measure_drift,
)
