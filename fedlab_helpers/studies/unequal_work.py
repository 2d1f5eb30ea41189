"""Clients that do unequal work: wait for the slow, drop them, keep what they have, or do not wait.

Speeds are simulated, log-normal, and go with the data: hotel guests have devices four times as
slow. Everybody else has time to finish before the deadline, as a rule.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd

from fedlab_helpers import strategies
from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.history import History, NoUpdateLeft, RoundRecord
from fedlab_helpers.core.plan import Pace
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.training import evaluate
from fedlab_helpers.strategies.asynchronous import buffered_rounds, speeds
from fedlab_helpers.studies import study
from fedlab_helpers.studies.study import Row, Settings, Study, begin, recipe_of, task
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

SLOW, FACTOR = "hotel", 0.25
SPREAD = 0.5  # of the logarithm of the speeds, whose median is one step a second
DEADLINE = 60.0  # seconds; two epochs of a client are some 38 steps
BUFFER = 5
TUNING_SEED, ROUNDS = 100, 10

STRATEGIES = {
    "fedavg": strategies.fedavg,
    "fedprox": strategies.fedprox,
    "fednova": strategies.fednova,
    "fedbuff": strategies.uniform,
}
# (strategy, what becomes of those who are late)
CASES = (
    ("fedavg", "waited for"),
    ("fedavg", "dropped"),
    ("fedavg", "partial work"),
    ("fedprox", "partial work"),
    ("fednova", "partial work"),
    ("fedbuff", "asynchronous"),
)
# The clients' learning rate, and FedProx's mu: as many settings for each strategy, tried on another
# seed, where the late keep what they have (FedBuff has none). One was chosen by `best_settings`.
_RATES = tuple((lr, None) for lr in (5e-3, 1e-2, 2e-2, 4e-2, 8e-2))
_PROX = (*product((1e-2, 2e-2), (1e-4, 1e-3)), (4e-2, 1e-4))
TRIES = {"fedavg": _RATES, "fedprox": _PROX, "fednova": _RATES, "fedbuff": _RATES}
CHOSEN: dict[str, tuple[float, float | None]] = {
    "fedavg": (0.04, None),
    "fedprox": (0.04, 0.0001),
    "fednova": (0.08, None),
    "fedbuff": (0.04, None),
}


def best_settings(table: pd.DataFrame) -> dict[str, tuple[float, float | None]]:
    """Return each strategy's setting that did best in the table of `unequal_work_rates`."""
    tried = table.assign(merit=table["validation_accuracy"])
    won = study.best(tried, ["strategy"], ["lr", "parameter"])
    return {name: (lr, None if np.isnan(mu) else mu) for (name,), (lr, mu) in won.items()}


def client_speeds(settings: Settings) -> tuple[float, ...]:
    """Return each client's speed in steps a second; the same for all cases of a seed."""
    parts = recipe_of(settings).deal(task())
    drawn = speeds(settings["clients"], numpy_rng(settings["seed"], "speeds"), SPREAD)
    # A client's reviews are of one domain.
    slow = [task().domains[part[0]] == SLOW for part in parts]
    return tuple(v * FACTOR if late else v for v, late in zip(drawn, slow, strict=True))


def measure_try(settings: Settings) -> list[Row]:
    """Return the mean validation accuracy after the last three server steps; 0 for a run that broke
    down. The test reviews are not looked at."""
    try:
        scores = [evaluate(model, task().validation).accuracy for _, model, _ in _run(settings)]
    except NoUpdateLeft:
        scores = [0.0]  # the rate was too large
    return [study.rounded(validation_accuracy=np.mean(scores[-3:]))]


def measure_unequal_work(settings: Settings) -> list[Row]:
    """Return accuracies, simulated seconds and bytes after every server step of one run."""
    slow = np.array([review.domain == SLOW for review in task().test_reviews])
    records, rows = [], []
    for record, model, clock in _run(settings):
        right = study.right_answers(model)
        figures = study.rounded(accuracy=right.mean(), slow_accuracy=right[slow].mean())
        staleness = record.metrics.get("staleness", 0.0)
        records.append(record)
        rows.append({**figures, "clock": round(clock, 2), "staleness": staleness})
    columns = ["left_out", "examples", "steps", "train_loss", "bytes_up", "total_bytes"]
    frame = History(tuple(records)).to_frame()[columns].reset_index()
    return [measured | row for measured, row in zip(frame.to_dict("records"), rows, strict=True)]


def waited(pace: Pace, steps: Mapping[int, int]) -> float:
    """Return how many seconds the server waits in a round: for the slowest, at most until the
    deadline; `steps`: client of the cohort -> the steps that it has to take."""
    return min(pace.deadline, max(n / pace.steps_per_second[c] for c, n in steps.items()))


def _run(settings: Settings) -> Iterator[tuple[RoundRecord, SentimentLSTM, float]]:
    """Yield the record of each server step, the model, and the simulated seconds up to it."""
    speed, clock, cohort = client_speeds(settings), 0.0, settings["cohort"]
    model, clients, _, plan = begin(recipe_of(settings), batch_size=settings["batch_size"])
    mu = settings["parameter"]
    strategy = STRATEGIES[settings["strategy"]](**({} if mu is None else {"mu": mu}))
    if settings["late"] == "asynchronous":
        flushes = plan.rounds * cohort // BUFFER  # as many clients train as in the other cases
        plan = replace(plan, rounds=flushes, clients_per_round=None)
        how = {"speeds": speed, "concurrency": cohort, "buffer": BUFFER}
        for record in buffered_rounds(model, clients, strategy, plan, **how):
            yield record, model, record.metrics["clock"]
        return
    deadline = float("inf") if settings["late"] == "waited for" else DEADLINE
    pace = Pace(speed, deadline, partial=settings["late"] != "dropped")
    for record in rounds(model, clients, strategy, replace(plan, pace=pace)):
        clock += waited(pace, {c: plan.local.steps(len(clients[c])) for c in record.cohort})
        yield record, model, clock


def _settings(case: tuple[str, str], setting: tuple, seed: int) -> Settings:
    own = dict(zip(("strategy", "late", "lr", "parameter"), (*case, *setting), strict=True))
    fixed = {"partition": "by_domain", "clients": 20, "cohort": 10, "epochs": 2, "batch_size": 32}
    return {**own, **fixed, "rounds": ROUNDS, "seed": seed}


UNEQUAL_WORK_RATES = Study(
    "unequal_work_rates",
    tuple(
        _settings(case, setting, TUNING_SEED) for case in CASES[2:] for setting in TRIES[case[0]]
    ),
    measure_try,
)
UNEQUAL_WORK = Study(
    "unequal_work",
    tuple(_settings(case, CHOSEN[case[0]], seed) for seed in range(3) for case in CASES),
    measure_unequal_work,
)
