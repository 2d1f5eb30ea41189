"""Clients that do unequal work: wait for the slow, drop them, keep what they have, or do not wait.

Speeds are simulated, log-normal, and go with the data: hotel guests have devices four times as
slow. Everybody else has time to finish before the deadline, as a rule.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from fedlab_helpers import strategies
from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.history import History, RoundRecord
from fedlab_helpers.core.plan import Pace, speeds
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.strategy import Strategy
from fedlab_helpers.core.training import evaluate
from fedlab_helpers.strategies.asynchronous import buffered_rounds
from fedlab_helpers.studies.study import Row, Settings, Study, begin, grid, recipe_of, task
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

SLOW, FACTOR = "hotel", 0.25
SPREAD = 0.5  # of the logarithm of the speeds, whose median is one step a second
DEADLINE = 60.0  # seconds; two epochs of a client are some 38 steps
BUFFER = 5

STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "fedavg": strategies.fedavg,
    "fedprox": lambda: strategies.fedprox(0.01),
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


def client_speeds(settings: Settings) -> tuple[float, ...]:
    """Return each client's speed in steps a second; the same for all cases of a seed."""
    parts = recipe_of(settings).deal(task())
    drawn = speeds(settings["clients"], numpy_rng(settings["seed"], "speeds"), SPREAD)
    # A client's reviews are of one domain.
    slow = [task().domains[part[0]] == SLOW for part in parts]
    return tuple(v * FACTOR if late else v for v, late in zip(drawn, slow, strict=True))


def measure_unequal_work(settings: Settings) -> list[Row]:
    """Return accuracies, simulated seconds and bytes after every server step of one run."""
    reviews = enumerate(task().test_reviews)
    slow = task().test.subset([at for at, review in reviews if review.domain == SLOW])
    records, rows = [], []
    for record, model, clock in _run(settings):
        records.append(record)
        rows.append(
            {
                "accuracy": record.metrics["accuracy"],
                "slow_accuracy": evaluate(model, slow).accuracy,
                "clock": round(clock, 2),
                "staleness": record.metrics.get("staleness", 0.0),
            }
        )
    columns = ["left_out", "examples", "steps", "train_loss", "bytes_up", "total_bytes"]
    frame = History(tuple(records)).to_frame()[columns].reset_index()
    return [measured | row for measured, row in zip(frame.to_dict("records"), rows, strict=True)]


def _run(settings: Settings) -> Iterator[tuple[RoundRecord, SentimentLSTM, float]]:
    """Yield the record of each server step, the model, and the simulated seconds up to it."""
    speed, clock, cohort = client_speeds(settings), 0.0, settings["cohort"]
    model, clients, _, plan = begin(recipe_of(settings), batch_size=settings["batch_size"])
    strategy, test = STRATEGIES[settings["strategy"]](), task().test
    if settings["late"] == "asynchronous":
        flushes = plan.rounds * cohort // BUFFER  # as many clients train as in the other cases
        plan = replace(plan, rounds=flushes, clients_per_round=None)
        how = {"speeds": speed, "concurrency": cohort, "buffer": BUFFER, "test": test}
        for record in buffered_rounds(model, clients, strategy, plan, **how):
            yield record, model, record.metrics["clock"]
        return
    deadline = float("inf") if settings["late"] == "waited for" else DEADLINE
    pace = Pace(speed, deadline, partial=settings["late"] != "dropped")
    for record in rounds(model, clients, strategy, replace(plan, pace=pace), test=test):
        clock += pace.seconds({c: plan.local.steps(len(clients[c])) for c in record.cohort})
        yield record, model, clock


def _runs() -> tuple[Settings, ...]:
    fixed = {"partition": ["by_domain"], "clients": [20], "cohort": [10], "rounds": [15]}
    local = {"epochs": [2], "batch_size": [32], "lr": [5e-3]}
    return tuple(
        {"strategy": strategy, "late": late, **rest}
        for rest in grid(**fixed, **local, seed=range(3))
        for strategy, late in CASES
    )


UNEQUAL_WORK = Study("unequal_work", _runs(), measure_unequal_work)
