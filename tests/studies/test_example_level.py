"""The study of protected examples: its budgets are kept, and its numbers are the table's."""

import math

import pandas as pd
import pytest

from fedlab_helpers.studies import example_level, results
from fedlab_helpers.studies.study import task


def test_what_was_chosen_is_what_the_table_says_and_on_another_seed():
    table = pd.read_csv(results.RESULTS / "example_level_rates.csv")
    assert example_level.best_numbers(table) == example_level.NUMBERS
    tuned, shown = example_level.EXAMPLE_LEVEL_RATES.runs, example_level.EXAMPLE_LEVEL.runs
    assert not {run["seed"] for run in tuned} & {run["seed"] for run in shown}


def test_clients_share_no_review():
    clients = example_level.ten_clients(0)
    assert [len(client) for client in clients] == [600] * 10
    texts = {tuple(row) for client in clients for row in client.tokens.tolist()}
    every = {tuple(row) for row in task().train.tokens.tolist()}
    assert len(texts) == pytest.approx(6000 * len(every) / len(task().train), rel=0.01)


@pytest.mark.parametrize(("epsilon", "spent"), [(None, math.inf), (2.0, 2.0)])
def test_a_run_spends_its_budget(monkeypatch, few, epsilon, spent):
    for name, value in {"CLIENTS": 2, "REVIEWS": 60, "BATCH": 30, "ROUNDS": 2}.items():
        monkeypatch.setattr(example_level, name, value)
    (row,) = example_level.measure_example_level({"epsilon": epsilon, "seed": 0})
    assert row["spent"] == pytest.approx(spent, rel=0.01)
    assert row["spent"] <= spent
    assert (row["noise_multiplier"] > 0) == (epsilon is not None)
    assert 0.4 < row["accuracy"] < 0.7
    (tuned,) = example_level.measure_rate({"epsilon": epsilon, "clip": 0.3, "lr": 0.01, "seed": 0})
    assert 0.3 < tuned["merit"] < 0.75
