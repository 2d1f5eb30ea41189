"""Strategies by kinds of difference between clients, beside training with all data in one place."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
from torch.nn.functional import cross_entropy

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.history import NoUpdateLeft
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.training import evaluate, predict, train
from fedlab_helpers.recipe import Recipe
from fedlab_helpers.studies import study
from fedlab_helpers.studies.contenders import CENTRAL, CENTRALISED, CONTENDERS
from fedlab_helpers.studies.study import Row, Settings, Study, task
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

PARTITIONS = ("iid", "by_domain", "dirichlet 0.5", "dirichlet 0.1")
TUNED_ON = ("iid", "dirichlet 0.1")
ROUNDS, TUNING_SEED, TUNING_ROUNDS = 20, 100, 12
ENTRANTS = {CENTRALISED: CENTRAL} | CONTENDERS

# Chosen by `best_settings` from the table of `aggregation_rates`: the clients' learning rate; the
# strategy's own number, too, where it is not that of the registry, which was tuned here as well.
CHOSEN: dict[str, Recipe] = {
    name: ENTRANTS[name].recipe(*setting)
    for name, setting in {
        "centralised": (5e-3,),
        "fedavg": (4e-2,),
        "fedavg_sgd": (1.0,),
        "uniform": (4e-2,),
        "inverse_loss": (8e-2,),
        "by_norm": (4e-2,),
        "rowwise": (2e-2,),
        "fedatt": (2e-2,),
        "fedprox": (2e-2,),
        "fedprox_sgd": (1.0, 1e-2),
        "fednova": (4e-2,),
        "scaffold": (0.3,),
        "feddyn": (2e-2,),
        "fedavgm": (1e-2,),
        "fedadagrad": (2e-2,),
        "fedadam": (2e-2,),
        "fedyogi": (2e-2,),
        "qfedavg_sgd": (3.0,),
        "worst_group": (2e-2,),
        "rowwise_momentum": (1e-2, 0.5),
        "rowwise_momentum_2": (1e-2, 0.5),
        "calibrated": (2e-2,),
        "calibrated_rowwise_momentum_2": (2e-2, 0.3),
        "calibrated_uniform_rowwise_2": (4e-2, 1.0),
    }.items()
}


def best_settings(table: pd.DataFrame) -> dict[str, Recipe]:
    """Return each strategy's recipe that did best in the table of `aggregation_rates`.

    A run counts by the mean validation accuracy of its last three rounds, 0 where it broke down
    before; with all data in one place by its best epoch's: one can always stop there. Runs on
    several partitions count alike.
    """
    by = ["strategy", "lr", "parameter", "partition"]
    runs = table.groupby(by, sort=False, dropna=False)
    merit = runs["validation_accuracy"].agg(lambda scores: scores.tail(3).mean())
    merit = merit.where(runs["round"].max() == runs["rounds"].first(), 0.0)
    highest = runs["validation_accuracy"].max()
    merit = merit.where(merit.index.get_level_values("strategy") != CENTRALISED, highest)
    chosen = study.best(merit.rename("merit").reset_index(), by[:1], by[1:3])
    return {
        name: ENTRANTS[name].recipe(lr, None if np.isnan(number) else number)
        for (name,), (lr, number) in chosen.items()
    }


def recipe_of(settings: Settings) -> Recipe:
    """Return the recipe of a run; the partition is e.g. "by_domain" or "dirichlet 0.1"."""
    kind, _, alpha = settings["partition"].partition(" ")
    tuned = ENTRANTS[settings["strategy"]].recipe(settings["lr"], settings["parameter"])
    recipe = replace(tuned, rounds=settings["rounds"], seed=settings["seed"])
    if settings["strategy"] == CENTRALISED:
        return recipe
    return replace(recipe, partition=kind, alpha=float(alpha or 1))


def trained(settings: Settings) -> Iterator[tuple[int, SentimentLSTM, int, int]]:
    """Train as the settings say; yield round, model, bytes sent by clients, and bytes both ways.

    Bytes are summed up. With all data in one place, a round is an epoch and nothing is sent. A run
    in which no client has finite weights left to send ends there.
    """
    recipe, name = recipe_of(settings), settings["strategy"]
    if name == CENTRALISED:
        model, plan = recipe.new_model(task()), recipe.plan()
        for epoch in range(1, plan.rounds + 1):
            train(model, task().train, plan.local, seed=child_seed(plan.seed, "epoch", epoch))
            yield epoch, model, 0, 0
        return
    (model, clients, _, plan), up, down = study.begin(recipe), 0, 0
    try:
        for record in rounds(model, clients, CONTENDERS[name].make(recipe), plan):
            up, down = up + record.bytes_up, down + record.bytes_down
            yield record.round, model, up, up + down
    except NoUpdateLeft:
        return  # the rate was too large


def measure_try(settings: Settings) -> list[Row]:
    """Return the validation accuracy after each round; the test reviews are not looked at."""
    return [
        {"round": number, "validation_accuracy": evaluate(model, task().validation).accuracy}
        for number, model, *_ in trained(settings)
    ]


def measure_strategy(settings: Settings) -> list[Row]:
    """Return a row after every round: accuracies, the worst client's, and bytes.

    "gained" and "lost" count the test reviews that are right here and wrong with the centralised
    model of this seed, and the other way round.
    """
    return [
        {
            "round": number,
            "validation_accuracy": evaluate(model, task().validation).accuracy,
            **_test_scores(model, settings),
            "bytes_up": up,
            "total_bytes": total,
        }
        for number, model, up, total in trained(settings)
    ]


def _test_scores(model: SentimentLSTM, settings: Settings) -> Row:
    test, logits = task().test, predict(model, task().test)
    right = (logits.argmax(1) == test.labels).numpy()
    clients = {"worst_client": "", "p10_client": ""}
    if settings["strategy"] != CENTRALISED:
        own = study.own_accuracy(right, recipe_of(settings).deal(task()))
        clients = study.rounded(worst_client=own.min(), p10_client=np.quantile(own, 0.1))
    return {
        "accuracy": round(float(right.mean()), 5),
        "loss": round(float(cross_entropy(logits, test.labels)), 4),
        **clients,
        **study.against(right, centralised_answers(settings["seed"])),
    }


@cache
def centralised_answers(seed: int) -> np.ndarray:
    """Return which test reviews the tuned centralised model answers rightly, after the epoch that
    does best on the validation reviews."""
    highest, answers = -1.0, np.array([])
    for _, model, *_ in trained(_run(CENTRALISED, "one place", CHOSEN[CENTRALISED], seed, ROUNDS)):
        accuracy = evaluate(model, task().validation).accuracy
        if accuracy > highest:
            highest, answers = accuracy, study.right_answers(model)
    return answers


def _run(name: str, partition: str, recipe: Recipe, seed: int, rounds: int) -> Settings:
    return {
        "seed": seed,
        "partition": partition,
        "strategy": name,
        "optimizer": recipe.optimizer,
        "lr": recipe.lr,
        "parameter": ENTRANTS[name].number(recipe),
        "rounds": rounds,
    }


AGGREGATION_RATES = Study(
    "aggregation_rates",
    tuple(
        _run(name, partition, entrant.recipe(*setting), TUNING_SEED, TUNING_ROUNDS)
        for name, entrant in ENTRANTS.items()
        for setting in entrant.tries
        for partition in (("one place",) if name == CENTRALISED else TUNED_ON)
    ),
    measure_try,
)


def _compared(
    seeds: range, partitions: Iterable[str], names: Iterable[str]
) -> tuple[Settings, ...]:
    """Return the runs of these strategies, each as it was tuned, beside centralised training."""
    cases = [("one place", CENTRALISED), *product(partitions, names)]
    return tuple(
        _run(name, partition, CHOSEN[name], seed, ROUNDS)
        for seed in seeds
        for partition, name in cases
    )


AGGREGATION = Study("aggregation", _compared(range(3), PARTITIONS, CONTENDERS), measure_strategy)

# The last contender was put together after the others had been measured: once more, other seeds.
# So were, under label skew, those that had gained there.
_AGAIN = ("fedavg", "rowwise", "rowwise_momentum_2", "calibrated_uniform_rowwise_2")
_SKEWED_ONLY = ("calibrated", "fedadam", "fedadagrad")
AGGREGATION_AGAIN = Study(
    "aggregation_again",
    tuple(
        run
        for run in _compared(
            range(3, 6), ("iid", "by_domain", "dirichlet 0.1"), (*_AGAIN, *_SKEWED_ONLY)
        )
        if run["strategy"] not in _SKEWED_ONLY or run["partition"] == "dirichlet 0.1"
    ),
    measure_strategy,
)
