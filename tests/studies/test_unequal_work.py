"""The study of unequal work: who is slow, and what each case measures."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fedlab_helpers.core.history import NoUpdateLeft
from fedlab_helpers.core.plan import Pace
from fedlab_helpers.studies import results, study, unequal_work

RUNS = {(run["strategy"], run["late"]): run for run in unequal_work.UNEQUAL_WORK.runs}
SHORT = {"clients": 200, "cohort": 10, "rounds": 1, "epochs": 1, "batch_size": 5}  # 2 steps each


def test_the_clients_of_one_domain_are_slow_and_speeds_are_those_of_the_seed(monkeypatch):
    settings = {"partition": "by_domain", "clients": 20, "seed": 0}
    speeds = unequal_work.client_speeds(settings)
    monkeypatch.setattr(unequal_work, "FACTOR", 1.0)
    plain = unequal_work.client_speeds(settings)
    slow = [at for at in range(20) if speeds[at] != plain[at]]
    assert slow == list(range(4, 12)), "the hotels' clients, after four bookshops'"
    assert [speeds[at] for at in slow] == [plain[at] / 4 for at in slow]
    assert speeds != unequal_work.client_speeds(settings | {"seed": 1})


@pytest.mark.parametrize("case", unequal_work.CASES, ids=" ".join)
def test_a_case_is_the_run_it_names(monkeypatch, few, case):
    """All clients have two steps to take; the median client gets halfway by the deadline."""
    monkeypatch.setattr(unequal_work, "DEADLINE", 1.5)
    rows = unequal_work.measure_unequal_work(RUNS[case] | SHORT)
    asynchronous, last = case[0] == "fedbuff", rows[-1]
    assert [row["round"] for row in rows] == ([1, 2] if asynchronous else [1])
    assert not last.keys() & RUNS[case].keys(), "a measurement must not hide a setting"
    steps = sum(row["steps"] for row in rows)
    whole = case[1] in ("waited for", "asynchronous")
    assert steps == 20 if whole else 0 < steps < 20
    assert (last["left_out"] > 0) == (case[1] == "dropped") or case[1] == "partial work"
    assert last["clock"] > 1.5 if whole else last["clock"] == 1.5
    assert last["total_bytes"] > last["bytes_up"] > 0
    assert 0.4 < last["accuracy"] < 0.7  # ten clients of some 60 reviews, one round
    assert 0.3 < last["slow_accuracy"] < 0.7


def test_the_slow_are_judged_on_hotel_reviews_alone(monkeypatch, few):
    hotels = np.array([review.domain == "hotel" for review in few.test_reviews])
    monkeypatch.setattr(study, "right_answers", lambda model: hotels)  # right on hotels, only there
    (row,) = unequal_work.measure_unequal_work(RUNS["fedavg", "waited for"] | SHORT)
    assert row["slow_accuracy"] == 1.0
    assert row["accuracy"] == pytest.approx(hotels.mean(), abs=1e-4)


def test_every_strategy_has_the_same_budget_and_a_seed_of_its_own():
    assert {len(set(tries)) for tries in unequal_work.TRIES.values()} == {5}
    runs = unequal_work.UNEQUAL_WORK_RATES.runs
    assert {run["seed"] for run in runs} == {unequal_work.TUNING_SEED}
    assert not {run["seed"] for run in unequal_work.UNEQUAL_WORK.runs} & {
        run["seed"] for run in runs
    }


def test_what_was_chosen_is_what_the_table_says():
    table = pd.read_csv(results.RESULTS / "unequal_work_rates.csv")
    assert unequal_work.best_settings(table) == unequal_work.CHOSEN
    assert "accuracy" not in table  # no test review was looked at


def test_a_try_counts_by_its_last_three_steps_and_not_if_it_breaks_down(monkeypatch, few):
    settings = RUNS["fedprox", "partial work"] | SHORT
    (row,) = unequal_work.measure_try(settings)
    assert 0.4 < row["validation_accuracy"] < 0.7
    scores = iter([0.9, 0.1, 0.2, 0.3])
    monkeypatch.setattr(unequal_work, "evaluate", lambda *_: results_of(next(scores)))
    monkeypatch.setattr(unequal_work, "_run", lambda _: [(None, None, 0.0)] * 4)
    assert unequal_work.measure_try(settings) == [{"validation_accuracy": 0.2}]

    def breaks_down(_):
        yield None, None, 0.0
        raise NoUpdateLeft("round 2")

    scores = iter([0.9])
    monkeypatch.setattr(unequal_work, "_run", breaks_down)
    assert unequal_work.measure_try(settings) == [{"validation_accuracy": 0.0}]


def results_of(accuracy):
    return type("Scores", (), {"accuracy": accuracy})


def test_mu_reaches_the_strategy(monkeypatch, few):
    made = []
    original = unequal_work.STRATEGIES["fedprox"]
    watched = lambda mu: made.append(mu) or original(mu)  # noqa: E731
    monkeypatch.setitem(unequal_work.STRATEGIES, "fedprox", watched)
    settings = RUNS["fedprox", "partial work"] | SHORT | {"parameter": 0.5}
    unequal_work.measure_unequal_work(settings)
    assert made == [0.5]


def test_the_server_waits_for_the_slowest_and_at_most_until_the_deadline():
    pace = Pace((0.5, 2.0, 1.0), 13.0)
    assert unequal_work.waited(pace, {1: 20, 2: 9}) == 10.0
    assert unequal_work.waited(pace, {0: 7, 1: 20}) == 13.0
    assert unequal_work.waited(replace(pace, deadline=math.inf), {0: 7, 1: 20}) == 14.0
