"""What becomes of FedAvg as clients' labels grow unlike: from alpha 100 to 0.03."""

import numpy as np

from fedlab_helpers import strategies
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
    rounded,
    task,
)
from fedlab_helpers.tasks import partition


def measure_skew(settings: Settings) -> list[Row]:
    """Return accuracy over all test reviews, and over the clients, after every round.

    A client's accuracy is that on reviews like its own (`study.own_accuracy`).
    """
    data, seed = task(), settings["seed"]
    parts = parts_of(settings)
    table, model = partition.describe(parts, data.train.labels), new_model(seed)
    local = LocalConfig(settings["epochs"])
    plan = Plan(settings["rounds"], settings["cohort"], local, seed, workers=1)
    rows = []
    for record in rounds(model, data.clients(parts), strategies.fedavg(), plan):
        answers = predict(model, data.test).argmax(1)
        right = (answers == data.test.labels).numpy()
        own = own_accuracy(right, parts)
        figures = {
            "accuracy": right.mean(),
            "positive_answers": answers.double().mean(),
            "mean_client": own.mean(),
            "p10_client": np.quantile(own, 0.1),
            "worst_client": own.min(),
            "best_client": own.max(),
        }
        skew = {"label_divergence": round(float(table["label divergence"].mean()), 4)}
        rows.append({"round": record.round, **skew, **rounded(figures)})
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
