"""How much local work pays: rounds and bytes to a target accuracy, by local epochs and batch size.

In the manner of McMahan et al. 2017 (arXiv:1602.05629), Table 2: plain SGD, no clipping, and for
each cell of the grid the learning rate that served it best beforehand, on another seed.
"""

from collections.abc import Iterable
from itertools import chain, product

import pandas as pd

from fedlab_helpers.core.history import NoUpdateLeft, RoundRecord
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.training import evaluate
from fedlab_helpers.studies.study import Row, Settings, Study, begin, best, grid, recipe_of, task

Cell = tuple[str, int, int | None]  # partition, local epochs E, batch size B

PARTITIONS = ("iid", "by_domain")
CELLS = tuple(product(PARTITIONS, (1, 5), (None, 32, 8)))  # E = 1 with B = None is FedSGD

# Chosen by `best_rates` from the table of `local_work_rates`; those of a partition as in `CELLS`.
_RATES = {
    "iid": (3.0, 3.0, 10.0, 10.0, 10.0, 10.0),
    "by_domain": (3.0, 10.0, 10.0, 10.0, 30.0, 10.0),
}
RATES: dict[Cell, float] = dict(zip(CELLS, chain(*_RATES.values()), strict=True))


def measure_rounds_to_target(settings: Settings) -> list[Row]:
    """Return when a federated run first reached the target on the validation reviews, if it did.

    The test reviews are looked at once, where the run ends.
    """
    how = {"rounds": settings["cap"], "optimizer": "sgd", "dropout": 0.0}
    model, *others = begin(recipe_of(settings, **how), batch_size=settings["batch_size"])
    records: list[RoundRecord] = []
    try:
        for record in rounds(model, *others, test=task().validation):
            records.append(record)
            if record.metrics["accuracy"] >= settings["target"]:
                break
    except NoUpdateLeft:
        pass  # the rate was too large: no client had finite weights to send
    validation = [record.metrics["accuracy"] for record in records]
    return [
        {
            "reached": bool(validation) and validation[-1] >= settings["target"],
            "rounds": len(records),
            "bytes_up": sum(record.bytes_up for record in records),
            "total_bytes": sum(record.bytes_up + record.bytes_down for record in records),
            "best_validation_accuracy": max(validation, default=0.0),
            "late_validation_accuracy": sum(validation[-10:]) / max(1, len(validation[-10:])),
            "accuracy": evaluate(model, task().test).accuracy,
        }
    ]


def best_rates(table: pd.DataFrame) -> dict[Cell, float]:
    """Return each cell's learning rate from the table of `local_work_rates`.

    The first to reach the target wins; where none did, the highest accuracy over its last ten
    rounds.
    """
    early = 1 + 1 / table["rounds"]  # above any accuracy
    merit = early.where(table["reached"], table["late_validation_accuracy"])
    tried = table.assign(merit=merit, batch_size=table["batch_size"].fillna(0))
    won = best(tried, ["partition", "epochs", "batch_size"], ["lr"])
    return {(kind, epochs, size or None): lr for (kind, epochs, size), (lr,) in won.items()}


def _runs(rates: dict[Cell, tuple[float, ...]], seeds: Iterable[int]) -> tuple[Settings, ...]:
    rest = {"clients": [200], "cohort": [10], "target": [0.75]}
    return tuple(
        run
        for seed in seeds
        for (kind, epochs, size), lrs in rates.items()
        for run in grid(
            seed=[seed], partition=[kind], cap=[500],
            epochs=[epochs], batch_size=[size], lr=lrs, **rest,
        )
    )  # fmt: skip


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
