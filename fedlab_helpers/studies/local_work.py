"""How much local work pays: rounds and bytes to a target accuracy, by local epochs and batch size.

In the manner of McMahan et al. 2017 (arXiv:1602.05629), Table 2: plain SGD, no clipping, and for
each cell of the grid the learning rate that served it best beforehand, on another seed.
"""

from collections.abc import Iterable
from itertools import product

import pandas as pd

from fedlab_helpers import strategies
from fedlab_helpers.core.history import NoUpdateLeft, RoundRecord
from fedlab_helpers.core.rounds import Plan, rounds
from fedlab_helpers.core.training import LocalConfig, evaluate
from fedlab_helpers.studies.study import Row, Settings, Study, clients_of, task
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

Cell = tuple[str, int, int | None]  # partition, local epochs E, batch size B

PARTITIONS = ("iid", "by_domain")
CELLS = tuple(product(PARTITIONS, (1, 5), (None, 32, 8)))  # E = 1 with B = None is FedSGD

# Chosen by `best_rates` from the table of `local_work_rates`.
RATES: dict[Cell, float] = {
    ("iid", 1, None): 3.0,
    ("iid", 1, 32): 3.0,
    ("iid", 1, 8): 10.0,
    ("iid", 5, None): 10.0,
    ("iid", 5, 32): 10.0,
    ("iid", 5, 8): 10.0,
    ("by_domain", 1, None): 3.0,
    ("by_domain", 1, 32): 10.0,
    ("by_domain", 1, 8): 10.0,
    ("by_domain", 5, None): 10.0,
    ("by_domain", 5, 32): 30.0,
    ("by_domain", 5, 8): 10.0,
}


def measure_rounds_to_target(settings: Settings) -> list[Row]:
    """Return when a federated run first reached the target on the validation reviews, if it did.

    The test reviews are looked at once, where the run ends.
    """
    data, seed = task(), settings["seed"]
    model = SentimentLSTM(len(data.vocab), pooling="mean", seed=seed)
    local = LocalConfig(
        settings["epochs"], settings["batch_size"], settings["lr"], "sgd", max_grad_norm=None
    )
    plan = Plan(settings["cap"], settings["cohort"], local, seed)
    records = _until_target(model, plan, settings)
    accuracy = evaluate(model, data.test).accuracy
    validation = [record.metrics["accuracy"] for record in records]
    return [
        {
            "reached": bool(validation) and validation[-1] >= settings["target"],
            "rounds": len(records),
            "bytes_up": sum(record.bytes_up for record in records),
            "total_bytes": sum(record.bytes_up + record.bytes_down for record in records),
            "best_validation_accuracy": max(validation, default=0.0),
            "late_validation_accuracy": _mean(validation[-10:]),
            "accuracy": accuracy,
        }
    ]


def _until_target(model: SentimentLSTM, plan: Plan, settings: Settings) -> list[RoundRecord]:
    """Return the records of the rounds up to the target, or up to where training broke down."""
    clients, records = clients_of(settings), []
    federation = rounds(model, clients, strategies.fedavg(), plan, test=task().validation)
    try:
        for record in federation:
            records.append(record)
            if record.metrics["accuracy"] >= settings["target"]:
                break
    except NoUpdateLeft:
        pass  # the rate was too large: no client had finite weights to send
    return records


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def best_rates(table: pd.DataFrame) -> dict[Cell, float]:
    """Return each cell's learning rate from the table of `local_work_rates`.

    The first to reach the target wins; where none did, the highest accuracy over its last ten
    rounds.
    """
    early = 1 + 1 / table["rounds"]  # above any accuracy
    merit = early.where(table["reached"], table["late_validation_accuracy"])
    tried = table.assign(merit=merit, batch_size=table["batch_size"].fillna(0))
    by = ["partition", "epochs", "batch_size"]
    best = tried.loc[tried.groupby(by)["merit"].idxmax()].set_index(by)["lr"]
    return {cell: float(best[cell[0], cell[1], cell[2] or 0]) for cell in CELLS}


def _runs(rates: dict[Cell, tuple[float, ...]], seeds: Iterable[int]) -> tuple[Settings, ...]:
    return tuple(
        {
            "seed": seed,
            "partition": partition,
            "cap": 500,
            "epochs": epochs,
            "batch_size": size,
            "lr": lr,
            "clients": 200,
            "cohort": 10,
            "target": 0.75,
        }
        for seed in seeds
        for (partition, epochs, size), tried in rates.items()
        for lr in tried
    )


LOCAL_WORK_RATES = Study(
    "local_work_rates",
    _runs(dict.fromkeys(CELLS, (0.3, 1.0, 3.0, 10.0, 30.0)), seeds=[100]),
    measure_rounds_to_target,
)
LOCAL_WORK = Study(
    "local_work",
    _runs({cell: (lr,) for cell, lr in RATES.items()}, seeds=range(3)),
    measure_rounds_to_target,
)
