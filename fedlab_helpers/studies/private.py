"""What a budget of privacy costs: DP-FedAvg at several epsilons, with word vectors from public text
and without, and with noise that each client adds itself.

In each round every client of the cohort takes three plain gradient steps on all it holds.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from torch import Tensor, nn

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import run
from fedlab_helpers.core.strategy import Strategy
from fedlab_helpers.core.training import LocalConfig, evaluate
from fedlab_helpers.privacy.budget import noise_multiplier_for
from fedlab_helpers.privacy.noise import Clip, GaussianNoise
from fedlab_helpers.privacy.private_mean import PrivateMean
from fedlab_helpers.privacy.public_vectors import public_vectors, public_vocabulary
from fedlab_helpers.strategies.server_steps import Momentum
from fedlab_helpers.studies import study
from fedlab_helpers.studies.study import Row, Settings, Study, task
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews, encode_reviews
from fedlab_helpers.tasks.reviews.model import PublicWordsLSTM, SentimentLSTM
from fedlab_helpers.tasks.reviews.words import Vocabulary

TUNING_SEED = 100
EPOCHS, BETA = 3, 0.8
DELTA = 1e-5


@dataclass(frozen=True)
class World:
    """Who trains what.

    Args:
        clients, cohort, rounds: of whom every one is drawn by its own coin, in every round.
        model: "vectors": a small LSTM, H = 16, over vectors from public text, E = 64, which nobody
            trains; "tiny" with H = 4 and E = 16. "small": an LSTM with a table of its own, E = H =
            16; "full": E = H = 64.
        noise: "sum": on the sum. "own": every client adds its own, and takes part in every round;
            epsilon then holds against the server, too, for neighbours of which one is replaced.
        times: so many times as many clients and so large a cohort are pretended: noise and epsilon
            are theirs, the clients trained are not. This is a simulation, and no guarantee.
        words: "reviews": the vocabulary of the clients' own reviews, which epsilon does not cover.
            "public": that of the public text.
        cell: the layer that reads, a name in `LAYERS`.
    """

    clients: int
    cohort: int
    rounds: int
    model: str = "vectors"
    noise: str = "sum"
    times: int = 1
    delta: float = DELTA
    words: str = "reviews"
    cell: str = "lstm"


class _OfRows(PrivateMean):
    """The same mean, noise on every row and all. Clients train and send touched rows only: faster,
    and nobody is there from whom to hide which they are."""

    dense = False


WORLDS = {
    "1,000 clients": World(1_000, 300, 20),
    "200 clients": World(200, 100, 20),
    "1,000 clients, public words": World(1_000, 300, 20, words="public"),
    "own vectors": World(1_000, 300, 20, model="small"),
    "noise of their own": World(1_000, 1_000, 3, "tiny", noise="own"),
    "100,000 clients, simulated": World(1_000, 300, 20, "full", times=100, delta=1e-6),
}
EPSILONS = {  # None: no noise
    "1,000 clients": (None, 8.0, 2.0, 1.0),
    "200 clients": (None, 8.0, 2.0),
    "1,000 clients, public words": (8.0,),
    "own vectors": (8.0,),
    "noise of their own": (8.0,),
    "100,000 clients, simulated": (8.0,),
}
# (clients' rate, clip, server's rate), tried on another seed; `best_settings` chose one for each.
# What clip and server's rate multiply to is how far a round goes, and so does its noise.
_FAR, _HALF, _QUARTER, _EIGHTH = (
    (4.0, clip, rate) for clip, rate in ((2.0, 2.0), (2.0, 1.0), (1.0, 1.0), (1.0, 0.5))
)
TRIES = {
    ("1,000 clients", 8.0): (_FAR, _HALF, _QUARTER, _EIGHTH),
    ("1,000 clients", 2.0): (_FAR, _HALF, _QUARTER),
    ("200 clients", 8.0): (_FAR, _HALF, _QUARTER),
    ("200 clients", 2.0): (_HALF, _QUARTER, _EIGHTH),
    ("own vectors", 8.0): (_FAR, _HALF),
    ("noise of their own", 8.0): (_QUARTER, _EIGHTH),
    ("100,000 clients, simulated", 8.0): (_FAR, (4.0, 4.0, 1.0)),
}
CHOSEN: dict[tuple[str, float], tuple[float, float, float]] = {
    ("1,000 clients", 8.0): _FAR,
    ("1,000 clients", 2.0): _HALF,
    ("200 clients", 8.0): _QUARTER,
    ("200 clients", 2.0): _EIGHTH,
    ("own vectors", 8.0): _FAR,
    ("noise of their own", 8.0): _EIGHTH,
    ("100,000 clients, simulated", 8.0): _FAR,
}


def best_settings(table: pd.DataFrame) -> dict[tuple[str, float], tuple[float, float, float]]:
    """Return for each world and epsilon what did best in the table of `private_rates`."""
    tried = table.assign(merit=table["validation_accuracy"])
    return study.best(tried, ["world", "epsilon"], ["lr", "clip", "server_rate"])


@cache
def noise_of(world: World, epsilon: float | None) -> float:
    """Return the noise that a budget needs, in clips: on the sum, or on what each client sends."""
    if epsilon is None:
        return 0.0
    if world.noise == "own":  # whatever it sends might be another's, in every round
        return noise_multiplier_for(epsilon, world.rounds, 1, 1, "fixed", world.delta)
    pretended = world.clients * world.times, world.cohort * world.times
    return noise_multiplier_for(epsilon, world.rounds, *pretended, delta=world.delta)


def new_model(world: World, seed: int) -> nn.Module:
    """Return the model of a world, untrained."""
    options = {"cell": world.cell, "seed": seed}
    options["pooling"] = "last" if world.cell == "bag" else "mean"  # a bag's last mean is of all
    if world.model in ("vectors", "tiny"):
        size, hidden = {"vectors": (64, 16), "tiny": (16, 4)}[world.model]
        return PublicWordsLSTM(_vectors(size, world.words), hidden, **options)
    sizes = {"small": (16, 16), "full": (64, 64)}[world.model]
    return SentimentLSTM(len(task().vocab), *sizes, **options)


@cache
def _vectors(size: int, words: str) -> Tensor:
    return public_vectors(_vocab(words), size)


def _vocab(words: str) -> Vocabulary:
    return public_vocabulary() if words == "public" else task().vocab


@cache
def _encoded(words: str) -> tuple[EncodedReviews, EncodedReviews]:
    """Return training and test reviews."""
    if words == "reviews":
        return task().train, task().test
    both = (task().train_reviews, task().test_reviews)
    train, test = (encode_reviews(reviews, _vocab(words)) for reviews in both)
    return train, test


def clients_of(world: World, seed: int) -> list[EncodedReviews]:
    """Return as many reviews for each client, to within one, dealt at random."""
    train, _ = _encoded(world.words)
    order = numpy_rng(seed, "private clients").permutation(len(train))
    return [train.subset(part) for part in np.array_split(order, world.clients)]


def trained(world: World, settings: Settings) -> tuple[nn.Module, float]:
    """Return the model of a run after its last round, and its noise."""
    epsilon, seed = settings["epsilon"], settings["seed"]
    noise, clip = noise_of(world, epsilon), settings["clip"]
    local = LocalConfig(EPOCHS, None, settings["lr"], "sgd", max_grad_norm=1.0)
    sampling = "poisson" if world.cohort < world.clients else "fixed"
    plan = Plan(world.rounds, world.cohort, local, seed, 1, world.rounds, sampling=sampling)
    own = world.noise == "own"
    # Noise makes a change longer: the server must not clip it then.
    at_server = (math.inf, 0.0) if own else (clip, noise / world.times)
    strategy = Strategy(
        _OfRows(*at_server, repeatable=True), Momentum(settings["server_rate"], BETA)
    )
    sends = [Clip(clip), GaussianNoise(noise * clip, repeatable=True)] if own else []
    model = new_model(world, seed)
    run(model, clients_of(world, seed), strategy, plan, transforms=sends)
    return model, noise


def measure_try(settings: Settings) -> list[Row]:
    """Return the accuracy on the validation reviews. The test reviews are not looked at."""
    model, _ = trained(WORLDS[settings["world"]], settings)
    accuracy = evaluate(model, task().validation).accuracy
    return [study.rounded(validation_accuracy=accuracy)]


def measure_private(settings: Settings) -> list[Row]:
    """Return the accuracy on the test reviews, and the noise that gives epsilon."""
    world = WORLDS[settings["world"]]
    model, noise = trained(world, settings)
    shown = {"clients": world.clients, "cohort": world.cohort, "rounds": world.rounds}
    shown["values"] = sum(parameter.numel() for parameter in model.parameters())
    found = evaluate(model, _encoded(world.words)[1])
    return [shown | study.rounded(noise_multiplier=noise, **found)]


def _settings(world: str, epsilon: float | None, rates: tuple, seed: int) -> Settings:
    chosen = dict(zip(("lr", "clip", "server_rate"), rates, strict=True))
    return {"world": world, "epsilon": epsilon, **chosen, "seed": seed}


def _rates(world: str, epsilon: float | None) -> tuple[float, float, float]:
    """Return the settings chosen for an epsilon, or for the nearest that was tuned."""
    return CHOSEN[world.split(", public")[0], 2.0 if epsilon in (1.0, 2.0) else 8.0]


PRIVATE_RATES = Study(
    "private_rates",
    tuple(_settings(*of, rates, TUNING_SEED) for of, tries in TRIES.items() for rates in tries),
    measure_try,
)
PRIVATE = Study(
    "private",
    tuple(
        _settings(world, epsilon, _rates(world, epsilon), seed)
        for seed in range(3)
        for world, epsilons in EPSILONS.items()
        for epsilon in epsilons
    ),
    measure_private,
)
