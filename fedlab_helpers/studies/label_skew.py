"""What becomes of FedAvg as clients' labels grow unlike: from alpha 100 to 0.03."""

import numpy as np

from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.training import predict
from fedlab_helpers.studies import study
from fedlab_helpers.studies.study import Row, Settings, Study, grid, task
from fedlab_helpers.tasks import partition


def measure_skew(settings: Settings) -> list[Row]:
    """Return accuracy over all test reviews, and over the clients, after every round.

    A client's accuracy is that on reviews like its own (`study.own_accuracy`).
    """
    data, recipe, rows = task(), study.recipe_of(settings, lr=5e-3), []
    parts, (model, *others) = recipe.deal(data), study.begin(recipe)
    skew = partition.describe(parts, data.train.labels)["label divergence"].mean()
    for record in rounds(model, *others):
        answers = predict(model, data.test).argmax(1)
        right = (answers == data.test.labels).numpy()
        own = study.own_accuracy(right, parts)
        figures = study.rounded(
            accuracy=right.mean(),
            positive_answers=answers.double().mean(),
            mean_client=own.mean(),
            p10_client=np.quantile(own, 0.1),
            worst_client=own.min(),
            best_client=own.max(),
        )
        rows.append({"round": record.round, "label_divergence": round(float(skew), 4)} | figures)
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
