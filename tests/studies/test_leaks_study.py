"""What an update gives away, measured: each row says what it says, on few reviews."""

import numpy as np
import pytest
import torch

from fedlab_helpers.core.state import of_model
from fedlab_helpers.core.training import LocalConfig, train
from fedlab_helpers.privacy import leaks
from fedlab_helpers.studies import leaks as study
from fedlab_helpers.tasks.reviews.model import SentimentLSTM


@pytest.fixture
def quick(monkeypatch, few):
    """Models before and after a short central training, in the place of a federated run."""

    def stages(seed, cell="lstm", pooling="last"):
        model = SentimentLSTM(len(few.vocab), cell=cell, pooling=pooling, seed=seed)
        first = of_model(model)
        train(model, few.train.subset(range(320)), LocalConfig(epochs=2), seed=seed)
        return {stage: of_model(model) if stage >= 5 else first for stage in study.STAGES}

    made = {}
    keep = lambda *kind: made.setdefault(kind, stages(*kind))  # noqa: E731
    monkeypatch.setattr(study, "stages", keep)
    monkeypatch.setattr(study, "_MANY", 4)
    monkeypatch.setattr(study, "_FEW", 2)
    return few


def test_stages_are_those_of_a_federated_run(monkeypatch, few):
    monkeypatch.setattr(study, "STAGES", (0, 1))
    rounds = study.rounds
    monkeypatch.setattr(study, "rounds", lambda *args: (r for r, _ in zip(rounds(*args), [1])))  # noqa: B905
    found = study.stages(0)
    first = of_model(SentimentLSTM(len(few.vocab), seed=0))
    assert list(found) == [0, 1]
    assert all(torch.equal(found[0][name], first[name]) for name in first)
    assert any(not torch.equal(found[1][name], first[name]) for name in first)


def test_all_conditions_are_measured_for_the_first_model_and_gradients_for_others(quick):
    rows = study.measure_sentences({"seed": 0, "cell": "lstm", "pooling": "last"})
    seen = {(row["round"], row["condition"]) for row in rows}
    everywhere = {(stage, "gradient") for stage in study.STAGES}
    assert seen == everywhere | {(s, c) for s in (0, 10) for c in study.CONDITIONS}
    by = {(row["round"], row["condition"]): row for row in rows}
    plain = by[10, "gradient"]
    assert (plain["attacks"], plain["false_certificates"]) == (4, 0)
    assert plain["labels"] == plain["word_auc"] == 1
    assert plain["exact"] >= plain["certified"] >= 0.5
    assert by[10, "clipped"]["exact"] >= 0.5  # a gradient's length says nothing of its words
    assert by[10, "noise 1e-02"]["word_auc"] < plain["word_auc"]
    assert by[10, "mean of 100"]["exact"] == 0
    assert by[10, "mean of 10"]["word_auc"] == 1  # of all that was written in the mean

    rows = study.measure_sentences({"seed": 0, "cell": "gru", "pooling": "mean"})
    assert [row["condition"] for row in rows] == ["gradient"] * len(study.STAGES)


def test_an_attack_is_scored_by_hand(quick):
    model, data = study.model_at(10, 0), quick.test.subset([3])
    row = study._attack(model, study.CONDITIONS["gradient"], data, 0)
    words = data.tokens[0, : data.lengths[0]].tolist()
    (found,) = leaks.read(model, leaks.gradient_of(model, data))
    assert row["exact"] == (list(found.tokens) == words)
    assert row["rouge_l"] == leaks.rouge_l(words, found.tokens)
    assert model.dropout.p == 0


def test_rows_of_a_change_are_its_words(quick):
    rows = study.measure_words({"seed": 0, "reviews": 12, "optimizer": "sgd", "epochs": 1})
    assert [row["round"] for row in rows] == [0, 20]
    assert all(row["precision"] == 1 for row in rows)
    assert all(0.5 < row["recall"] <= 1 for row in rows)


def test_row_scores_by_hand():
    class Data:
        tokens = torch.tensor([[1, 2, 2, 0], [3, 3, 3, 0]])

    table = torch.tensor([[0.0], [1.0], [2.0], [3.0], [9.0]])
    scores = study._row_scores({"embedding.weight": table}, Data)
    assert scores["recall"] == 1
    assert scores["precision"] == 3 / 4  # row 4 moved, and nobody wrote it
    assert scores["spearman"] == pytest.approx(1)


def test_the_clock_of_an_untrained_model_is_right(quick):
    by = {row["round"]: row for row in study.measure_clock({"seed": 0})}
    assert by[0]["kendall"] > 0.95
    assert 0.7 < by[0]["rouge_l"] <= 1


def test_members_are_told_apart_by_their_words(quick, monkeypatch):
    monkeypatch.setattr(study, "_SHADOWS", 4)
    rows = study.measure_membership({"seed": 0, "reviews": 6, "clients": 2})
    by = {row["attack"]: row for row in rows}
    assert list(by) == ["words", "loss", "lira"]
    assert by["words"]["auc"] > 0.9
    assert all(0 <= row["auc"] <= 1 and 0 <= row["true_positives"] <= 1 for row in rows)
    assert np.isfinite([row["auc"] for row in rows]).all()


def test_matching_and_dominoes_read_the_same_reviews(quick):
    rows = study.measure_matching({"seed": 0, "round": 10, "longest": 6})
    assert [(row["attack"], row["attacks"]) for row in rows] == [("matching", 2), ("dominoes", 2)]
    matching, dominoes = rows
    assert dominoes["exact"] == 1
    assert 0 < matching["rouge_l"] <= 1
    assert matching["milliseconds"] > dominoes["milliseconds"]
