"""What becomes of FedAvg as clients' labels grow unlike: from alpha 100 to 0.03."""

import numpy as np

from fedlab_helpers import strategies
from fedlab_helpers.core.compute import intra_op_threads
from fedlab_helpers.core.rounds import Plan, rounds
from fedlab_helpers.core.training import LocalConfig, predict
from fedlab_helpers.studies.study import (
    Row,
    Settings,
    Study,
    grid,
    new_model,
    own_accuracy,
    parts_of,
    task,
)
from fedlab_helpers.tasks import partition


def measure_skew(settings: Settings) -> list[Row]:
    """Return accuracy over all test reviews, and over the clients, after every round.

    A client's accuracy is that on reviews like its own (`study.own_accuracy`).
    """
    data, seed = task(), settings["seed"]
    parts = parts_of(settings)
    table = partition.describe(parts, data.train.labels)
    model = new_model(seed)
    local = LocalConfig(settings["epochs"])
    plan = Plan(settings["rounds"], settings["cohort"], local, seed, workers=1)
    rows = []
    with intra_op_threads(1):  # the same sums on a machine with more cores
        run = rounds(model, data.clients(parts), strategies.fedavg(), plan)
        for record in run:
            answers = predict(model, data.test).argmax(1)
            right = (answers == data.test.labels).numpy()
            own = own_accuracy(right, parts)
            rows.append(
                {
                    "round": record.round,
                    "label_divergence": round(float(table["label divergence"].mean()), 4),
                    "accuracy": round(float(right.mean()), 5),
                    "positive_answers": round(float(answers.double().mean()), 5),
                    "mean_client": round(float(own.mean()), 5),
                    "p10_client": round(float(np.quantile(own, 0.1)), 5),
                    "worst_client": round(float(own.min()), 5),
                    "best_client": round(float(own.max()), 5),
                }
            )
    return rows


_FIXED = {"partition": ["dirichlet"], "clients": [20], "cohort": [10], "rounds": [15]}
LABEL_SKEW = Study(
    "label_skew",
    tuple(
        run
        for seed in range(3)
        for run in (
            *grid(seed=[seed], **_FIXED, alpha=[100.0, 1.0, 0.5, 0.3, 0.1, 0.03], epochs=[1]),
            *grid(seed=[seed], **_FIXED, alpha=[100.0, 0.1], epochs=[4]),
        )
    ),
    measure_skew,
)
