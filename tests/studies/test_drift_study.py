"""The study of drift: who holds what, and that the same work is compared."""

import numpy as np
import pytest

from fedlab_helpers.studies import drift

RUN = drift.DRIFT.runs[0]


@pytest.fixture
def short(monkeypatch, few):
    """Two epochs of ten clients with twenty reviews each."""
    monkeypatch.setattr(drift, "EPOCHS", 2)
    monkeypatch.setattr(drift, "REVIEWS", 20)
    return few


@pytest.mark.parametrize("kind", ["by_domain", "shards"])
def test_mixed_clients_hold_the_same_reviews_dealt_anew(short, kind):
    own, mixed = (
        drift.ten_clients(RUN | {"partition": kind, "reviews": reviews})
        for reviews in ("own", "mixed")
    )
    assert [len(part) for part in own] == [len(part) for part in mixed] == [20] * 10
    together = [np.sort(np.concatenate(parts)) for parts in (own, mixed)]
    assert np.array_equal(*together)
    of = np.array(short.domains) if kind == "by_domain" else short.train.targets.numpy()
    one_sided = [sum(len(set(of[part])) == 1 for part in parts) for parts in (own, mixed)]
    assert one_sided[0] >= 9  # with shards, one may lie across the border
    assert one_sided[1] == 0


@pytest.mark.parametrize("reviews", ["own", "mixed", "pooled"])
def test_all_begin_with_the_same_weights_and_take_as_many_steps(short, reviews):
    once = drift.measure_drift(RUN | {"reviews": reviews, "epochs": 2})
    twice = drift.measure_drift(RUN | {"reviews": reviews, "epochs": 1})
    assert [row["epochs_done"] for row in once] == [2]
    assert [(row["round"], row["epochs_done"]) for row in twice] == [(1, 1), (2, 2)]
    assert 0.4 < once[0]["accuracy"] < 0.8
    assert twice == drift.measure_drift(RUN | {"reviews": reviews, "epochs": 1})
