"""Strategies by kinds of difference between clients, beside training with all data in one place."""

from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np
from torch.nn.functional import cross_entropy

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.history import NoUpdateLeft
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.training import LocalConfig, evaluate, predict, train
from fedlab_helpers.strategies import STRATEGIES
from fedlab_helpers.studies.contenders import CENTRALISED, CENTRALISED_RATES, CONTENDERS, Tuning
from fedlab_helpers.studies.study import (
    Row,
    Settings,
    Study,
    against,
    new_model,
    own_accuracy,
    parts_of,
    right_answers,
    task,
)
from fedlab_helpers.tasks.partition import Parts
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

Runs = tuple[Settings, ...]

PARTITIONS = ("iid", "by_domain", "dirichlet 0.5", "dirichlet 0.1")
TUNED_ON = ("iid", "dirichlet 0.1")
CLIENTS, COHORT, ROUNDS = 20, 10, 20
TUNING_SEED, TUNING_ROUNDS = 100, 12


def _tuned(lr: float, name: str, optimizer: str = "adam") -> Tuning:
    """Return a contender's setting with the tuned number that the registry of strategies has."""
    contender = CONTENDERS[name]
    entry = STRATEGIES[contender.strategy]
    numbers = {own.name: own.default for own in entry.parameters}
    number = (numbers | {"server_rate": entry.server_rate})[contender.parameter]
    return Tuning(lr, number, optimizer)


# Chosen by `tuning.best_settings` from the table of `aggregation_rates`; the number of what has an
# entry in the registry is there.
CHOSEN = {
    "centralised": Tuning(5e-3),
    "fedavg": Tuning(4e-2),
    "fedavg_sgd": Tuning(1.0, None, "sgd"),
    "uniform": Tuning(4e-2),
    "inverse_loss": Tuning(8e-2),
    "by_norm": Tuning(4e-2),
    "rowwise": Tuning(2e-2),
    "fedatt": _tuned(2e-2, "fedatt"),
    "fedprox": _tuned(2e-2, "fedprox"),
    "fedprox_sgd": Tuning(1.0, 1e-2, "sgd"),
    "fednova": Tuning(4e-2),
    "scaffold": Tuning(0.3, None, "sgd"),
    "feddyn": _tuned(2e-2, "feddyn"),
    "fedavgm": _tuned(1e-2, "fedavgm"),
    "fedadagrad": _tuned(1e-2, "fedadagrad"),
    "fedadam": _tuned(2e-2, "fedadam"),
    "fedyogi": _tuned(2e-2, "fedyogi"),
    "qfedavg_sgd": _tuned(3.0, "qfedavg_sgd", "sgd"),
    "worst_group": _tuned(2e-2, "worst_group"),
    "rowwise_momentum": Tuning(1e-2, 0.5),
    "rowwise_momentum_2": Tuning(1e-2, 0.5),
    "calibrated": _tuned(2e-2, "calibrated"),
    "calibrated_rowwise_momentum_2": Tuning(2e-2, 0.3),
    "calibrated_uniform_rowwise_2": Tuning(4e-2, 1.0),
}


def deal(partition: str, seed: int) -> Parts:
    """Return each client's indices; `partition` is e.g. "by_domain" or "dirichlet 0.1"."""
    kind, _, alpha = partition.partition(" ")
    settings = {"partition": kind, "clients": CLIENTS, "seed": seed, "alpha": float(alpha or 1)}
    return parts_of(settings)


def local_config(tuning: Tuning, epochs: int) -> LocalConfig:
    """Return how clients train; gradients are clipped where Adam follows them."""
    clip = 1.0 if tuning.optimizer == "adam" else None
    return LocalConfig(epochs, 32, tuning.lr, tuning.optimizer, max_grad_norm=clip)


def trained(settings: Settings) -> Iterator[tuple[int, SentimentLSTM, int, int]]:
    """Train as the settings say; yield round, model, bytes sent by clients, and bytes both ways.

    Bytes are summed up. With all data in one place, a round is an epoch and nothing is sent. A run
    in which no client has finite weights left to send ends there.
    """
    data, seed, tuning = task(), settings["seed"], _tuning(settings)
    model = new_model(seed)
    if settings["strategy"] == CENTRALISED:
        for epoch in range(1, settings["rounds"] + 1):
            local = local_config(tuning, 1)
            train(model, data.train, local, seed=child_seed(seed, "epoch", epoch))
            yield epoch, model, 0, 0
        return
    contender = CONTENDERS[settings["strategy"]]
    clients = data.clients(deal(settings["partition"], seed))
    local = local_config(tuning, contender.epochs)
    plan = Plan(settings["rounds"], COHORT, local, seed, workers=1)
    up = down = 0
    try:
        for record in rounds(model, clients, contender.make(tuning), plan):
            up, down = up + record.bytes_up, down + record.bytes_down
            yield record.round, model, up, up + down
    except NoUpdateLeft:
        return  # the rate was too large


def measure_try(settings: Settings) -> list[Row]:
    """Return the validation accuracy after each round; the test reviews are not looked at."""
    return [
        {"round": number, "validation_accuracy": evaluate(model, task().validation).accuracy}
        for number, model, *_ in trained(settings)
    ]


def measure_strategy(settings: Settings) -> list[Row]:
    """Return a row after every round: accuracies, the worst client's, and bytes.

    "gained" and "lost" count the test reviews that are right here and wrong with the centralised
    model of this seed, and the other way round.
    """
    return [
        {
            "round": number,
            "validation_accuracy": evaluate(model, task().validation).accuracy,
            **_test_scores(model, settings),
            "bytes_up": up,
            "total_bytes": total,
        }
        for number, model, up, total in trained(settings)
    ]


def _test_scores(model: SentimentLSTM, settings: Settings) -> Row:
    test, logits, worst, tenth = task().test, predict(model, task().test), "", ""
    right = (logits.argmax(1) == test.labels).numpy()
    if settings["strategy"] != CENTRALISED:
        own = own_accuracy(right, deal(settings["partition"], settings["seed"]))
        worst, tenth = round(float(own.min()), 5), round(float(np.quantile(own, 0.1)), 5)
    return {
        "accuracy": round(float(right.mean()), 5),
        "loss": round(float(cross_entropy(logits, test.labels)), 4),
        "worst_client": worst,
        "p10_client": tenth,
        **against(right, centralised_answers(settings["seed"])),
    }


@cache
def centralised_answers(seed: int) -> np.ndarray:
    """Return which test reviews the tuned centralised model answers rightly, after the epoch that
    does best on the validation reviews."""
    run = _run(CENTRALISED, "one place", CHOSEN[CENTRALISED], seed, ROUNDS)
    best, answers = -1.0, np.array([])
    for _, model, *_ in trained(run):
        accuracy = evaluate(model, task().validation).accuracy
        if accuracy > best:
            best, answers = accuracy, right_answers(model)
    return answers


def _tuning(settings: Settings) -> Tuning:
    return Tuning(settings["lr"], settings["parameter"], settings["optimizer"])


def _run(strategy: str, partition: str, tuning: Tuning, seed: int, rounds: int) -> Settings:
    return {
        "seed": seed,
        "partition": partition,
        "strategy": strategy,
        "optimizer": tuning.optimizer,
        "lr": tuning.lr,
        "parameter": tuning.parameter,
        "rounds": rounds,
    }


AGGREGATION_RATES = Study(
    "aggregation_rates",
    (
        *(
            _run(CENTRALISED, "one place", tuning, TUNING_SEED, TUNING_ROUNDS)
            for tuning in CENTRALISED_RATES
        ),
        *(
            _run(name, partition, tuning, TUNING_SEED, TUNING_ROUNDS)
            for name, contender in CONTENDERS.items()
            for tuning in contender.tries
            for partition in TUNED_ON
        ),
    ),
    measure_try,
)


def _compared(seeds: range, partitions: tuple[str, ...], strategies: Iterable[str]) -> Runs:
    """Return the runs of these strategies, each as it was tuned, beside centralised training."""
    return tuple(
        run
        for seed in seeds
        for run in (
            _run(CENTRALISED, "one place", CHOSEN[CENTRALISED], seed, ROUNDS),
            *(
                _run(name, partition, CHOSEN[name], seed, ROUNDS)
                for partition in partitions
                for name in strategies
            ),
        )
    )


AGGREGATION = Study("aggregation", _compared(range(3), PARTITIONS, CONTENDERS), measure_strategy)

# The last contender was put together after the others had been measured: once more, other seeds.
AGGREGATION_AGAIN = Study(
    "aggregation_again",
    _compared(
        range(3, 6),
        ("iid", "by_domain", "dirichlet 0.1"),
        ("fedavg", "rowwise", "rowwise_momentum_2", "calibrated_uniform_rowwise_2"),
    ),
    measure_strategy,
)
