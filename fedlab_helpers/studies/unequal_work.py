"""Clients that do unequal work: wait for the slow, drop them, keep what they have, or do not wait.

Speeds are simulated, log-normal, and go with the data: hotel guests have devices four times as
slow. Everybody else has time to finish before the deadline, as a rule.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from fedlab_helpers import strategies
from fedlab_helpers.core.compute import intra_op_threads, numpy_rng
from fedlab_helpers.core.history import History, RoundRecord
from fedlab_helpers.core.plan import Pace, Plan, speeds
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.strategy import Strategy
from fedlab_helpers.core.training import LocalConfig, evaluate
from fedlab_helpers.strategies.asynchronous import buffered_rounds
from fedlab_helpers.studies.study import (
    Row,
    Settings,
    Study,
    clients_of,
    grid,
    new_model,
    parts_of,
    task,
)
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
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
    data, seed = task(), settings["seed"]
    parts = parts_of(settings)
    drawn = speeds(settings["clients"], numpy_rng(seed, "speeds"), SPREAD)
    slow = [data.domains[part[0]] == SLOW for part in parts]  # a client's reviews are of one domain
    return tuple(v * FACTOR if late else v for v, late in zip(drawn, slow, strict=True))


def measure_unequal_work(settings: Settings) -> list[Row]:
    """Return accuracies, simulated seconds and bytes after every server step of one run."""
    data, seed = task(), settings["seed"]
    model = new_model(seed)
    reviews = enumerate(data.test_reviews)
    slow = data.test.subset([at for at, review in reviews if review.domain == SLOW])
    records, rows = [], []
    with intra_op_threads(1):
        for record, clock in _run(model, clients_of(settings), settings):
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


def _run(
    model: SentimentLSTM, clients: list[EncodedReviews], settings: Settings
) -> Iterator[tuple[RoundRecord, float]]:
    """Yield the record of each server step, and the simulated seconds up to it."""
    speed, test = client_speeds(settings), task().test
    strategy = STRATEGIES[settings["strategy"]]()
    local = LocalConfig(settings["epochs"], settings["batch_size"], settings["lr"])
    plan = Plan(settings["rounds"], None, local, settings["seed"], workers=1)
    cohort, clock = settings["cohort"], 0.0
    if settings["late"] == "asynchronous":
        flushes = plan.rounds * cohort // BUFFER  # as many clients train as in the other cases
        for record in buffered_rounds(
            model,
            clients,
            strategy,
            replace(plan, rounds=flushes),
            speeds=speed,
            concurrency=cohort,
            buffer=BUFFER,
            test=test,
        ):
            yield record, record.metrics["clock"]
        return
    deadline = float("inf") if settings["late"] == "waited for" else DEADLINE
    pace = Pace(speed, deadline, partial=settings["late"] != "dropped")
    plan = replace(plan, clients_per_round=cohort, pace=pace)
    for record in rounds(model, clients, strategy, plan, test=test):
        clock += pace.seconds({c: local.steps(len(clients[c])) for c in record.cohort})
        yield record, clock


def _runs() -> tuple[Settings, ...]:
    fixed = {"partition": ["by_domain"], "clients": [20], "cohort": [10], "rounds": [15]}
    local = {"epochs": [2], "batch_size": [32], "lr": [5e-3]}
    return tuple(
        {"strategy": strategy, "late": late, **rest}
        for rest in grid(**fixed, **local, seed=range(3))
        for strategy, late in CASES
    )


UNEQUAL_WORK = Study("unequal_work", _runs(), measure_unequal_work)
