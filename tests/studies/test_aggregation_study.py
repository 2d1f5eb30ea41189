"""The comparison of strategies: equal budgets, chosen on validation, on a seed of its own."""

from dataclasses import replace

import pandas as pd
import pytest

from fedlab_helpers import strategies
from fedlab_helpers.core import rounds as federated
from fedlab_helpers.studies import aggregation as study
from fedlab_helpers.studies import results
from fedlab_helpers.studies.contenders import CONTENDERS
from fedlab_helpers.studies.study import begin, own_accuracy


def test_every_contender_has_the_same_budget():
    assert {len(set(entrant.tries)) for entrant in study.ENTRANTS.values()} == {6}
    runs = study.AGGREGATION_RATES.runs
    assert {run["seed"] for run in runs} == {study.TUNING_SEED}
    for name in CONTENDERS:
        assert {r["partition"] for r in runs if r["strategy"] == name} == set(study.TUNED_ON)


def test_what_was_chosen_is_what_the_table_says():
    table = pd.read_csv(results.RESULTS / "aggregation_rates.csv")
    assert study.best_settings(table) == study.CHOSEN
    assert "accuracy" not in table  # no test review was looked at


@pytest.mark.parametrize("name", CONTENDERS)
def test_each_contender_is_made_from_its_settings(name):
    contender = CONTENDERS[name]
    recipes = [contender.recipe(*setting) for setting in contender.tries]
    assert [(each.lr, contender.number(each)) for each in recipes] == list(contender.tries)
    numbers = {number for _, number in contender.tries}
    made = {repr(contender.make(each)) for each in recipes}
    assert len(made) >= len(numbers)  # a number that is tuned reaches the strategy
    assert bool(contender.parameter) == (numbers != {None})


def tried(strategy, lr, partition, *accuracies, rounds=None):
    run = {"strategy": strategy, "lr": lr, "parameter": None, "partition": partition}
    run["rounds"] = rounds or len(accuracies)
    return [
        {**run, "round": number, "validation_accuracy": accuracy}
        for number, accuracy in enumerate(accuracies, 1)
    ]


@pytest.mark.parametrize(
    ("strategy", "first", "second"),
    [
        # The last three rounds are judged.
        ("fedavg", [0.9, 0.5, 0.6, 0.7], [0.1, 0.7, 0.7, 0.7]),
        # With all data in one place, one may stop at the best epoch.
        ("centralised", [0.5, 0.8, 0.8], [0.5, 0.9, 0.6]),
    ],
)
def test_what_a_run_is_judged_by(strategy, first, second):
    table = pd.DataFrame(
        tried(strategy, 0.1, "iid", *first) + tried(strategy, 0.2, "iid", *second)
    ).astype({"parameter": float})
    assert study.best_settings(table)[strategy].lr == 0.2


def test_the_best_setting_is_best_in_the_mean_over_partitions():
    table = [
        *tried("fedavg", 0.1, "iid", 0.9, 0.9, 0.9),
        *tried("fedavg", 0.1, "dirichlet 0.1", 0.5, 0.5, 0.5),
        *tried("fedavg", 0.2, "iid", 0.8, 0.8, 0.8),
        *tried("fedavg", 0.2, "dirichlet 0.1", 0.7, 0.7, 0.7),
        # One that breaks down is worth nothing there.
        *tried("fedavg", 0.3, "iid", 0.9, 0.9, 0.9, rounds=4),
        *tried("fedavg", 0.3, "dirichlet 0.1", 0.9, 0.9, 0.9),
    ]
    best = study.best_settings(pd.DataFrame(table).astype({"parameter": float}))
    assert best == {"fedavg": CONTENDERS["fedavg"].recipe(0.2)}


@pytest.fixture
def short(monkeypatch, few):
    """The comparison over 100 clients, and a centralised model of one epoch."""
    recipe_of = study.recipe_of
    smaller = lambda settings: replace(recipe_of(settings), clients=100, cohort=2)  # noqa: E731
    monkeypatch.setattr(study, "recipe_of", smaller)
    monkeypatch.setattr(study, "ROUNDS", 1)


def test_a_row_holds_what_it_says(short, few):
    runs = study.AGGREGATION.runs
    settings = {**next(r for r in runs if r["strategy"] == "rowwise"), "rounds": 2}
    first, second = study.measure_strategy(settings)
    assert (first["round"], second["round"]) == (1, 2)
    recipe = study.recipe_of(settings)
    model, clients, _, plan = begin(recipe)
    sent = federated.run(model, clients, strategies.rowwise(), plan)
    assert second["bytes_up"] == sum(record.bytes_up for record in sent)
    assert second["total_bytes"] == sent.to_frame()["total_bytes"].iloc[-1]
    right = (study.predict(model, few.test).argmax(1) == few.test.labels).numpy()
    assert second["accuracy"] == pytest.approx(right.mean(), abs=1e-4)
    central = study.centralised_answers(0)
    advantage = (second["gained"] - second["lost"]) / len(central)
    assert second["accuracy"] - central.mean() == pytest.approx(advantage, abs=1e-4)
    own = own_accuracy(right, recipe.deal(few))
    assert second["worst_client"] == pytest.approx(own.min(), abs=1e-4)
    assert 0 <= second["worst_client"] <= second["p10_client"] <= 1


def test_a_try_sees_validation_reviews_only(short, monkeypatch):
    monkeypatch.setattr(study, "predict", None)
    (row,) = study.measure_try({**study.AGGREGATION_RATES.runs[6], "rounds": 1})
    assert row.keys() == {"round", "validation_accuracy"}
