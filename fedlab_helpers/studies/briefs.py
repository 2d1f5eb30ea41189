"""Four customers, each with data, clients and hard budgets: what a design is made for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from torch import nn

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.require import require, require_count
from fedlab_helpers.strategies import attacks
from fedlab_helpers.studies import by_sums
from fedlab_helpers.studies.plain_models import Judge
from fedlab_helpers.studies.study import task
from fedlab_helpers.tasks import glucose, next_word, partition, turbines
from fedlab_helpers.tasks.owners import Owner
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.series import SeriesRNN

# What a budget can limit. A client's megabytes and seconds are the mean over all clients, of the
# whole run; "losing" is the share of clients that would do better alone, "seen" whether the server
# sees single updates (1), or sums only (0).
BUDGETS = ("megabytes_up", "cpu_seconds", "device_kilobytes", "epsilon", "losing", "seen")
KEYBOARDS, HOTELS = 200, 20
OWN_TEST = 60  # reviews of a hotel


@dataclass(frozen=True)
class Brief:
    """What a customer wants.

    Args:
        name: of the customer.
        owners: seed -> who holds what.
        new_model: layer, size, seed -> the untrained network.
        sums: clients -> the model that is made of sums, as it gets better.
        alone: a client's examples -> what it can make of them without anybody else.
        limits: budget -> the most that is accepted, names in `BUDGETS`.
        measure, higher_is_better: of the objective, known before any data are.
        protects: whom epsilon must be about: every "client", or every "example"; empty: nobody
            asked.
        delta: at which epsilon is counted.
        attackers, attack: share of the clients that are hostile, and what they do, as in
            `attacks.STRENGTHS`; they are not asked how good the model is.
        every: every so many-th client is asked.
        stands_for: so many clients each one that is simulated stands for: noise and epsilon are
            those of so many times as many clients, and cohorts.
        most_examples: of a client, a public bound, by which secure sums weigh.

    Raises ValueError for a name or number that is not among those.
    """

    name: str
    owners: Callable[[int], Sequence[Owner]]
    new_model: Callable[[str, int, int], nn.Module]
    sums: Callable[[list[Examples]], Iterable[by_sums.Fitted]]
    alone: Callable[[Examples], Judge]
    limits: Mapping[str, float]
    measure: str = "accuracy"
    higher_is_better: bool = True
    protects: str = ""
    delta: float = 1e-5
    attackers: float = 0.0
    attack: str = "sign"
    every: int = 1
    stands_for: int = 1
    most_examples: float = 1e4

    def __post_init__(self):
        odd = sorted(self.limits.keys() - {*BUDGETS})
        require(not odd, "limits", odd, f"some of {BUDGETS}")
        known = {"protects": ("", "client", "example"), "attack": tuple(attacks.STRENGTHS)}
        for name, names in known.items():
            require(getattr(self, name) in names, name, getattr(self, name), f"one of {names}")
        require_count(every=self.every, stands_for=self.stands_for)
        require(0 <= self.attackers < 1, "attackers", self.attackers, "a share below 1")


def hotels(seed: int) -> list[Owner]:
    """Return 20 hotels with reviews of their own, whose shares of praise differ (Dirichlet, 1);
    a fifth of them to choose by, and 60 test reviews with the same share of praise as a test."""
    everything = task()
    parts = everything.train_reviews, everything.train, everything.test_reviews, everything.test
    reviews, encoded, asked_reviews, asked = parts
    rng = numpy_rng(seed, "hotels")
    own = np.flatnonzero([review.domain == "hotel" for review in reviews])
    labels = encoded.labels.numpy()[own]
    dealt = partition.dirichlet(labels, HOTELS, rng, 1.0, min_size=25)
    tests = np.flatnonzero([review.domain == "hotel" for review in asked_reviews])
    praise = asked.labels.numpy()[tests] == 1
    found = []
    for number, part in enumerate(dealt):
        held = rng.permutation(own[part])
        likes = round(OWN_TEST * labels[part].mean())
        chosen = [rng.permutation(tests[praise])[:likes], rng.permutation(tests[~praise])]
        test = np.sort(np.concatenate([chosen[0], chosen[1][: OWN_TEST - likes]]))
        cut = len(held) // 5
        train, validation = encoded.subset(np.sort(held[cut:])), encoded.subset(held[:cut])
        found.append(Owner(f"hotel {number}", train, validation, asked.subset(test)))
    return found


def _last(fitted: Iterable[by_sums.Fitted]) -> by_sums.Fitted:
    *_, last = fitted
    return last


def _logistic(clients: list[Examples]) -> Iterable[by_sums.Fitted]:
    return by_sums.tfidf_logistic(clients, 1.0, len(task().vocab), 20)


def _trigram(clients: list[Examples]) -> list[by_sums.Fitted]:
    return [by_sums.trigram(clients, 0.9, next_word.WORDS)]


def _alone(sums: Callable[[list[Examples]], Iterable[by_sums.Fitted]]) -> dict[str, Callable]:
    """Return the model of sums, for all and for one client alone."""
    return {"sums": sums, "alone": lambda data: _last(sums([data])).judges}


BRIEFS = {
    brief.name: brief
    for brief in (
        Brief(
            "keyboard",
            lambda seed: next_word.keyboards(task(), KEYBOARDS, seed),
            lambda cell, size, seed: next_word.TiedLSTM(
                next_word.WORDS, size, cell=cell, seed=seed
            ),
            **_alone(_trigram),
            limits={
                "megabytes_up": 0.6,
                "cpu_seconds": 0.5,
                "device_kilobytes": 120,
                "epsilon": 8,
                "losing": 0.25,
            },
            measure="recall@1",
            protects="client",
            delta=1e-6,
            every=8,
            stands_for=300,
        ),
        Brief(
            "hotels",
            hotels,
            lambda cell, size, seed: SentimentLSTM(
                len(task().vocab),
                size,
                size,
                cell=cell,
                pooling="last" if cell == "bag" else "mean",
                dropout=0.3,
                seed=seed,
            ),
            **_alone(_logistic),
            limits={
                "megabytes_up": 0.5,
                "cpu_seconds": 3,
                "device_kilobytes": 280,
                "losing": 0.35,
            },
            attackers=0.1,
            most_examples=1_000,
        ),
        Brief(
            "clinics",
            lambda seed: glucose.glucose(),
            lambda cell, size, seed: SeriesRNN(4, size, cell=cell, each_step=True, seed=seed),
            **_alone(lambda clients: [by_sums.ridge(clients, 1.0)]),
            limits={
                "megabytes_up": 0.2,
                "cpu_seconds": 12,
                "device_kilobytes": 5,
                "epsilon": 8,
                "losing": 0.5,
            },
            measure="rmse",
            higher_is_better=False,
            protects="example",
            delta=1e-3,
            most_examples=2_000,
        ),
        Brief(
            "turbines",
            lambda seed: turbines.turbines(),
            lambda cell, size, seed: SeriesRNN(
                turbines.FEATURES, size, cell=cell, each_step=True, seed=seed
            ),
            **_alone(lambda clients: [by_sums.power_curve(clients, 0.25)]),
            limits={
                "megabytes_up": 0.2,
                "cpu_seconds": 10,
                "device_kilobytes": 5,
                "losing": 0.25,
                "seen": 0,
            },
            measure="rmse",
            higher_is_better=False,
            most_examples=20_000,
        ),
    )
}


def brief_of(name: str) -> Brief:
    """Return a brief. Raises ValueError: none has this name."""
    require(name in BRIEFS, "brief", name, f"one of {sorted(BRIEFS)}")
    return BRIEFS[name]


@cache
def owners_of(name: str, seed: int) -> tuple[Owner, ...]:
    """Return who holds what in a brief, dealt by this seed."""
    return tuple(brief_of(name).owners(seed))


@cache
def alone(name: str, seed: int) -> dict[int, Judge]:
    """Return what each client that is asked can make of its own data, by its number."""
    owners = owners_of(name, seed)
    return {
        client: BRIEFS[name].alone(owners[client].train)
        for client in range(0, len(owners), BRIEFS[name].every)
    }
