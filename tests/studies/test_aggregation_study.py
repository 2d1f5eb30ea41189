"""The comparison of strategies: equal budgets, chosen on validation, on a seed of its own."""

import pytest

from fedlab_helpers import strategies
from fedlab_helpers.core import rounds as federated
from fedlab_helpers.studies import aggregation as study
from fedlab_helpers.studies import results, tuning
from fedlab_helpers.studies.contenders import CENTRALISED_RATES, CONTENDERS, Tuning
from fedlab_helpers.studies.study import own_accuracy


def test_every_contender_has_the_same_budget():
    assert {len(set(c.tries)) for c in CONTENDERS.values()} == {len(set(CENTRALISED_RATES))} == {6}
    runs = study.AGGREGATION_RATES.runs
    assert {run["seed"] for run in runs} == {study.TUNING_SEED}
    for name in CONTENDERS:
        tried = {(r["partition"]) for r in runs if r["strategy"] == name}
        assert tried == set(study.TUNED_ON)


def test_what_was_chosen_is_what_the_table_says():
    rows = results.read(results.RESULTS / "aggregation_rates.csv")
    assert tuning.best_settings(rows) == study.CHOSEN
    assert "accuracy" not in rows[0]  # no test review was looked at


@pytest.mark.parametrize("name", CONTENDERS)
def test_each_contender_is_made_from_its_settings(name):
    contender = CONTENDERS[name]
    made = {repr(contender.make(tuning)) for tuning in contender.tries}
    parameters = {tuning.parameter for tuning in contender.tries}
    assert len(made) >= len(parameters)  # a parameter that is tuned reaches the strategy
    assert bool(contender.parameter) == (parameters != {None})


def rows(strategy, lr, partition, *accuracies, rounds=None):
    settings = {"strategy": strategy, "lr": lr, "parameter": "", "optimizer": "adam"}
    return [
        {
            **settings,
            "partition": partition,
            "rounds": str(rounds or len(accuracies)),
            "round": str(number),
            "validation_accuracy": str(accuracy),
        }
        for number, accuracy in enumerate(accuracies, 1)
    ]


def test_the_last_three_rounds_are_judged():
    assert tuning.merit(rows("fedavg", "0.1", "iid", 0.9, 0.5, 0.6, 0.7)) == pytest.approx(0.6)


def test_a_run_that_broke_down_is_worth_nothing():
    assert tuning.merit(rows("fedavg", "0.1", "iid", 0.9, 0.9, 0.9, rounds=4)) == 0


def test_centralised_training_may_stop_at_its_best_epoch():
    assert tuning.merit(rows("centralised", "0.1", "one place", 0.5, 0.9, 0.6)) == 0.9


def test_the_best_setting_is_best_in_the_mean_over_partitions():
    table = [
        *rows("fedavg", "0.1", "iid", 0.9, 0.9, 0.9),
        *rows("fedavg", "0.1", "dirichlet 0.1", 0.5, 0.5, 0.5),
        *rows("fedavg", "0.2", "iid", 0.8, 0.8, 0.8),
        *rows("fedavg", "0.2", "dirichlet 0.1", 0.7, 0.7, 0.7),
    ]
    assert tuning.best_settings(table) == {"fedavg": Tuning(0.2)}


@pytest.fixture
def short(monkeypatch, few):
    """The comparison over 100 clients, and a centralised model of one epoch."""
    monkeypatch.setattr(study, "CLIENTS", 100)
    monkeypatch.setattr(study, "COHORT", 2)
    monkeypatch.setattr(study, "ROUNDS", 1)


def test_a_row_holds_what_it_says(short, few):
    runs = study.AGGREGATION.runs
    settings = {**next(r for r in runs if r["strategy"] == "rowwise"), "rounds": 2}
    first, second = study.measure_strategy(settings)
    assert (first["round"], second["round"]) == (1, 2)
    tuning, clients = study.CHOSEN["rowwise"], few.clients(study.deal("iid", 0))
    plan = federated.Plan(2, 2, study.local_config(tuning, 1))
    sent = federated.run(study.new_model(0), clients, strategies.rowwise(), plan)
    assert second["bytes_up"] == sum(record.bytes_up for record in sent)
    assert second["total_bytes"] == sent.to_frame()["total_bytes"].iloc[-1]
    central = study.centralised_answers(0)
    advantage = (second["gained"] - second["lost"]) / len(central)
    assert second["accuracy"] - central.mean() == pytest.approx(advantage, abs=1e-4)
    assert 0 <= second["worst_client"] <= second["p10_client"] <= 1
    ((_, model, _, _), _) = study.trained(settings)
    right = (study.predict(model, few.test).argmax(1) == few.test.labels).numpy()
    own = own_accuracy(right, study.deal("iid", 0))
    assert second["worst_client"] == pytest.approx(own.min(), abs=1e-4)


def test_a_try_sees_validation_reviews_only(short, monkeypatch):
    monkeypatch.setattr(study, "predict", None)
    settings = {**study.AGGREGATION_RATES.runs[6], "rounds": 1}
    (row,) = study.measure_try(settings)
    assert row.keys() == {"round", "validation_accuracy"}
