"""What it costs to protect every single review: DP-SGD on ten clients, over public word vectors."""

from functools import cache

import numpy as np
import pandas as pd
from torch import Tensor

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import run
from fedlab_helpers.core.training import LocalConfig, evaluate
from fedlab_helpers.privacy.budget import noise_multiplier_for
from fedlab_helpers.privacy.per_example import PerExample
from fedlab_helpers.privacy.public_vectors import public_vectors
from fedlab_helpers.strategies.dp_sgd import DpSgd
from fedlab_helpers.studies import study
from fedlab_helpers.studies.study import Row, Settings, Study, best, grid, task
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import PublicWordsLSTM

CLIENTS, REVIEWS, BATCH, ROUNDS, DELTA = 10, 600, 60, 8, 1e-5
BUDGETS = (None, 8.0, 2.0)  # epsilon of each review after all rounds; None: clipped, without noise
# Clip and learning rate of Adam, chosen by `best_numbers` from the table of `example_level_rates`.
NUMBERS = {None: (1.0, 0.1), 8.0: (1.0, 0.1), 2.0: (0.3, 0.1)}
TRIED = {"clip": [0.3, 1.0], "lr": [0.01, 0.03, 0.1]}


@cache
def _vectors() -> Tensor:
    return public_vectors(task().vocab, 64)


def ten_clients(seed: int) -> list[EncodedReviews]:
    """Return the reviews of the clients, equally many each, drawn at random."""
    drawn = numpy_rng(seed, "clients").choice(len(task().train), CLIENTS * REVIEWS, replace=False)
    return task().clients(np.split(drawn, CLIENTS))


def trained(
    budget: float | None, clip: float, lr: float, seed: int
) -> tuple[PublicWordsLSTM, PerExample, LocalConfig]:
    """Return the common model after all rounds, and how its clients trained. Noise is drawn from
    the seed: this is a measurement, and protects nobody."""
    local = LocalConfig(1, BATCH, lr, "adam", max_grad_norm=None)
    steps, noise = ROUNDS * local.steps(REVIEWS), 0.0
    if budget is not None:
        noise = noise_multiplier_for(budget, steps, REVIEWS, BATCH, "poisson", DELTA)
    private = PerExample(clip, noise, DELTA, repeatable=True)
    model = PublicWordsLSTM(_vectors(), seed=seed)
    run(model, ten_clients(seed), DpSgd(private=private), Plan(ROUNDS, None, local, seed, 1))
    return model, private, local


def measure_rate(settings: Settings) -> list[Row]:
    """Return the validation accuracy with a clip and a rate; the test reviews are not looked at."""
    model, *_ = trained(*(settings[name] for name in ("epsilon", "clip", "lr", "seed")))
    return [{"merit": round(evaluate(model, task().validation).accuracy, 5)}]


def best_numbers(table: pd.DataFrame) -> dict[float | None, tuple[float, float]]:
    """Return the clip and the rate of each budget that did best in the table of
    `example_level_rates`."""
    won = best(table, ["epsilon"], list(TRIED))
    return {None if np.isnan(budget) else budget: numbers for (budget,), numbers in won.items()}


def measure_example_level(settings: Settings) -> list[Row]:
    """Return loss and accuracy on the test reviews after all rounds, and each review's epsilon as
    the accountant has it: inf without noise."""
    budget, seed = settings["epsilon"], settings["seed"]
    model, private, local = trained(budget, *NUMBERS[budget], seed)
    scores = evaluate(model, task().test)
    spent = private.epsilon(REVIEWS, local, ROUNDS)
    figures = study.rounded(loss=scores.loss, accuracy=scores.accuracy, spent=spent)
    noise = study.rounded(clip=private.clip, noise_multiplier=private.noise_multiplier)
    return [{**noise, "lr": local.lr, **figures}]


EXAMPLE_LEVEL_RATES = Study(
    "example_level_rates", grid(epsilon=BUDGETS, **TRIED, seed=[100]), measure_rate
)
EXAMPLE_LEVEL = Study("example_level", grid(epsilon=BUDGETS, seed=range(3)), measure_example_level)
