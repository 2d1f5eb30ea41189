"""Which of the settings that were tried is the best: by validation reviews, equally for all."""

import numpy as np

from fedlab_helpers.studies.contenders import CENTRALISED, Tuning
from fedlab_helpers.studies.study import Row


def merit(rows: list[Row]) -> float:
    """Return how a tried setting is judged, from its rows on one partition, as read from a CSV:
    the mean validation accuracy of its last three rounds; 0 where it broke down before. With all
    data in one place, the best epoch's: one can always stop there."""
    if rows[0]["strategy"] == CENTRALISED:
        return max(float(row["validation_accuracy"]) for row in rows)
    if len(rows) < int(rows[0]["rounds"]):
        return 0.0
    last = sorted(rows, key=lambda row: int(row["round"]))[-3:]
    return float(np.mean([float(row["validation_accuracy"]) for row in last]))


def best_settings(rows: list[Row]) -> dict[str, Tuning]:
    """Return each strategy's setting with the highest `merit`, the mean over the partitions that
    it was tried on, from the rows of `aggregation_rates`."""
    tried: dict[tuple[str, Tuning], dict[str, list[Row]]] = {}
    for row in rows:
        parameter = float(row["parameter"]) if row["parameter"] else None
        tuning = Tuning(float(row["lr"]), parameter, row["optimizer"])
        runs = tried.setdefault((row["strategy"], tuning), {})
        runs.setdefault(row["partition"], []).append(row)
    best: dict[str, tuple[float, Tuning]] = {}
    for (strategy, tuning), runs in tried.items():
        score = float(np.mean([merit(run) for run in runs.values()]))
        if strategy not in best or score > best[strategy][0]:
            best[strategy] = score, tuning
    return {strategy: tuning for strategy, (_, tuning) in best.items()}
