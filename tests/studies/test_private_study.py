"""The study of what a budget of privacy costs: its noise, its shortcut, and its chosen rates."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from fedlab_helpers import LocalConfig, Plan, run, state
from fedlab_helpers.core.strategy import Strategy
from fedlab_helpers.privacy.budget import Mechanism, delta_of
from fedlab_helpers.privacy.private_mean import PrivateMean
from fedlab_helpers.studies import private, results
from fedlab_helpers.studies.private import WORLDS, World
from fedlab_helpers.studies.study import task


def test_the_rates_are_those_that_the_table_chose():
    table = pd.read_csv(results.RESULTS / "private_rates.csv")
    assert private.best_settings(table) == private.CHOSEN


def test_noise_on_a_sum_is_what_the_accountant_asks_for():
    world = World(40, 10, 3)
    noise = private.noise_of(world, 4.0)
    assert Mechanism(noise, 3, 40, 10).epsilon() == pytest.approx(4.0, rel=2e-3)
    assert private.noise_of(world, None) == 0
    pretended = private.noise_of(replace(world, times=100), 4.0)
    assert Mechanism(pretended, 3, 4_000, 1_000).epsilon() == pytest.approx(4.0, rel=2e-3)


def test_who_adds_its_own_noise_is_two_clips_away_from_anybody_in_each_round():
    world = WORLDS["noise of their own"]
    noise = private.noise_of(world, 8.0)
    assert delta_of(8.0, 2 * math.sqrt(world.rounds) / noise) <= world.delta
    assert delta_of(8.0, 2 * math.sqrt(world.rounds) / (0.99 * noise)) > world.delta


def test_rows_only_give_the_same_mean(small_model, clients):
    """The study's shortcut: clients train touched rows, the noise is on all."""
    plan = Plan(2, 2, LocalConfig(2, None, 0.5, "sgd"), 1, 1, sampling="poisson")
    ends = []
    for kind in (PrivateMean, private._OfRows):
        model = small_model()
        run(model, clients, Strategy(kind(0.5, 0.7, repeatable=True)), plan)
        ends.append(state.of_model(model))
    for name, tensor in ends[0].items():
        assert torch.allclose(tensor, ends[1][name], atol=1e-6), name


@pytest.mark.usefixtures("few")
def test_a_short_run_of_a_world(monkeypatch):
    name = "own vectors"
    monkeypatch.setitem(WORLDS, name, replace(WORLDS[name], clients=20, cohort=10, rounds=1))
    settings = {"world": name, "epsilon": 8.0, "lr": 1.0, "clip": 1.0, "server_rate": 1.0}
    (row,) = private.measure_private({**settings, "seed": 0})
    assert (row["clients"], row["rounds"]) == (20, 1)
    assert 0.3 < row["accuracy"] < 0.8
    assert row["noise_multiplier"] > 0
    assert row["values"] == 16 * len(task().vocab) + 2_210


def test_a_bag_is_the_mean_of_all_words_and_not_of_its_means():
    """With other layers it is the mean of what they say."""
    for cell, pooling in (("bag", "last"), ("gru", "mean")):
        for model in ("vectors", "small"):
            assert private.new_model(World(20, 10, 1, model, cell=cell), 0).pooling == pooling
