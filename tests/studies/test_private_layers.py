"""Each layer under noise: the rates that won, the noise of the budget, and a short run."""

from dataclasses import replace

import pandas as pd
import pytest
from brief_toys import entered, toy_brief

from fedlab_helpers.privacy.budget import Mechanism
from fedlab_helpers.studies import private_layers as layers
from fedlab_helpers.studies import results
from fedlab_helpers.studies.briefs import BRIEFS
from fedlab_helpers.studies.design import Outcome, noise_within

PRIVATE = {"task": "glucose", "cell": "gru", "epsilon": 8.0, "lr": 0.02, "clip": 0.5, "seed": 0,
           "server_rate": 1.0}  # fmt: skip


def read(name):
    return pd.read_csv(results.RESULTS / f"{name}.csv")


def test_the_rates_are_those_that_the_table_chose():
    assert layers.best_settings(read("private_layers_rates")) == layers.CHOSEN


def test_each_layer_had_as_many_tries():
    tried = read("private_layers_rates").groupby(["task", "cell"]).size()
    assert len(tried) == 18
    assert set(tried) == {6}


def test_what_the_table_calls_private_is_within_the_budget():
    table = read("private_layers")
    assert len(table) == 54
    assert (table["noise_multiplier"] > 0).all()
    assert (table["accounted"] <= 8 + 1e-3).all()


def test_the_noise_is_what_the_briefs_budget_asks_for():
    for name, (brief, _) in layers.BRIEFS.items():
        assert BRIEFS[brief].limits["epsilon"] == layers.EPSILON
        design = layers.design_of({**PRIVATE, "task": name})
        own = dict(design.parameters)
        assert 0 <= own["noise_multiplier"] - noise_within(brief, design) < 1e-3
        assert (design.cell, design.lr, own["clip"]) == ("gru", 0.02, 0.5)
        assert design.server_rate == 1.0


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("cell", ["bag", "transformer"])
def test_a_short_run_on_reviews(cell, monkeypatch):
    monkeypatch.setattr(layers, "WORLD", replace(layers.WORLD, clients=20, cohort=10, rounds=1))
    settings = {**PRIVATE, "task": "reviews", "cell": cell}
    (row,) = layers.measure_private_layers(settings)
    assert 0.3 < row["test"] < 0.8
    told = 1, 20, 10, "poisson", layers.WORLD.delta
    assert row["accounted"] == pytest.approx(8, abs=0.02)
    assert Mechanism(row["noise_multiplier"], *told).epsilon() == pytest.approx(8, abs=0.02)


def test_a_short_run_on_a_brief(monkeypatch):
    """Tries are judged on validation alone, less error is better."""
    limits = {**toy_brief().limits, "epsilon": 8.0}
    toy = toy_brief(limits=limits, protects="example", delta=1e-3)
    monkeypatch.setitem(layers.BRIEFS, "glucose", ("toy", "private"))
    usual = replace(layers.references("clinics")["private"], cohort=3, rounds=1, size=4)
    monkeypatch.setattr(layers, "references", lambda name: {"private": usual})
    with entered(monkeypatch, toy):
        (row,) = layers.measure_private_layers(PRIVATE)
        monkeypatch.setattr(Outcome, "exam", None)  # no try opens it
        (tried,) = layers.measure_try(PRIVATE)
    assert tried == {"merit": -row["validation"]}
    assert row["accounted"] <= 8
    assert row["test"] != row["validation"]
