"""The study of open gates: what it opens, and what it keeps and counts."""

import pytest

from fedlab_helpers.core.training import evaluate, predict
from fedlab_helpers.studies import baselines, open_gates

SETTINGS = {"seed": 0, "pooling": "last", "bias": 2, "lr": 5e-3}


@pytest.fixture
def untrained(few, monkeypatch):
    """Leave models as they were drawn, and see them."""
    seen = []
    monkeypatch.setattr(baselines, "train", lambda model, *_, **__: seen.append(model))
    return seen


def test_only_the_forget_gates_begin_otherwise(untrained):
    for bias in (0, 2):
        open_gates.measure_gates(SETTINGS | {"bias": bias})
    plain, opened = (models.recurrent.bias_ih_l0.detach() for models in untrained[::6])
    assert (opened - plain).tolist() == pytest.approx([0] * 64 + [2] * 64 + [0] * 128, abs=1e-6)


def test_long_reviews_are_counted_and_the_first_of_equal_epochs_is_kept(untrained, few):
    (row,) = open_gates.measure_gates(SETTINGS)
    assert (row["epochs"], len(untrained)) == (1, 6)
    model = untrained[0]
    assert row["accuracy"] == evaluate(model, few.test).accuracy
    assert row["validation_accuracy"] == evaluate(model, few.validation).accuracy
    long = few.test.lengths >= 50
    right = predict(model, few.test).argmax(1) == few.test.labels
    assert row["long_accuracy"] == pytest.approx(float(right[long].double().mean()))
