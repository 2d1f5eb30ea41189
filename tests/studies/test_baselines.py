"""The study of centralised baselines: what its columns say, and what a bag cannot know."""

import numpy as np
import pandas as pd
import pytest
import torch

from fedlab_helpers.core.training import evaluate
from fedlab_helpers.studies import baselines, results
from fedlab_helpers.studies.study import task


@pytest.fixture
def short(monkeypatch, few):
    """Let the study train for one epoch on few reviews, and measure time but once."""
    monkeypatch.setattr(baselines, "EPOCHS", 1)
    monkeypatch.setattr(baselines, "_cost", lambda name, seed: 1.0)
    return few


def test_a_bag_hears_no_order(short):
    (row,) = baselines.measure_baseline({"model": "bag", "seed": 0})
    assert row["pairs_last"] == row["pairs_first"] == 0.5
    assert row["shuffled"] == pytest.approx(row["accuracy"], abs=0.004)
    assert row["parameters"] == 64 * len(short.vocab) + 2 * 65


def test_the_columns_are_those_of_the_model_that_did_best_on_validation(short):
    model, validation, epoch = baselines.trained(
        baselines._new("rnn_mean", 1), baselines.RATES["rnn_mean"], 1
    )
    (row,) = baselines.measure_baseline({"model": "rnn_mean", "seed": 1})
    tested = evaluate(model, short.test)
    assert (row["validation_accuracy"], row["epochs"]) == (validation, epoch)
    assert row["accuracy"] == pytest.approx(tested.accuracy, abs=1e-4)
    assert row["loss"] == pytest.approx(tested.loss, abs=1e-4)
    assert (model.pooling, type(model.recurrent)) == ("mean", torch.nn.RNN)


def test_padding_does_not_change_what_a_bag_says():
    bag = baselines.BagOfVectors(9, 4, dropout=0.5, seed=0).eval()
    tokens, lengths = torch.tensor([[2, 3, 4], [5, 0, 0]]), torch.tensor([3, 1])
    wide = torch.nn.functional.pad(tokens, (0, 5))
    assert torch.equal(bag(tokens, lengths), bag(wide, lengths))
    assert torch.allclose(bag(tokens, lengths)[1], bag(tokens[1:, :1], lengths[1:])[0])


def test_time_is_told_as_a_multiple_of_a_bags(few):
    assert 0.2 < baselines._cost("bag", 0, steps=3, turns=3) < 5


def test_tfidf_hears_pairs_of_words(few):
    validation, numbers, score = baselines._tfidf()
    assert 0.6 < validation < 0.9
    assert numbers > 5_000
    turned = score([["不", "满意"], ["满意", "不"]])
    assert turned[0] != turned[1]


def test_the_rates_are_those_that_the_table_chose():
    table = pd.read_csv(results.RESULTS / "baselines_rates.csv")
    assert baselines.best_rates(table) == baselines.RATES
    assert set(table["seed"]).isdisjoint(run["seed"] for run in baselines.BASELINES.runs)


def test_the_table_has_what_an_identity_demands():
    table = pd.read_csv(results.RESULTS / "baselines.csv").set_index("model")
    assert (table.loc["bag", ["pairs_last", "pairs_first"]] == 0.5).all(axis=None)
    assert np.allclose(table.loc["bag", "shuffled"], table.loc["bag", "accuracy"], atol=6e-4)
    assert (table.loc["lstm", "parameters"] == 768_834).all()
    assert len(task().vocab) * 64 + 130 == table.loc["bag", "parameters"].iloc[0]
