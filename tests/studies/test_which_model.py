"""Which model to federate: every model of the study is measured as it says."""

from dataclasses import replace

import pandas as pd
import pytest

from fedlab_helpers.studies import results
from fedlab_helpers.studies import which_model as which
from fedlab_helpers.tasks.owners import Owner
from fedlab_helpers.tasks.reviews.model import SentimentLSTM


@pytest.fixture
def small(small_task, monkeypatch):
    """The task of reviews, small: four clients and few rounds."""

    def owners(seed):
        parts = [small_task.train.subset(range(k, 240, 4)) for k in range(4)]
        return [Owner(f"{k}", own, small_task.validation, small_task.test)
                for k, own in enumerate(parts)]  # fmt: skip

    def new_model(layer, seed):
        return SentimentLSTM(len(small_task.vocab), 8, 8, cell=layer, seed=seed)

    name, numbers, _ = which.FIELDS["reviews"].sums
    fit = lambda clients, number: which.by_sums.tfidf_logistic(  # noqa: E731
        clients, number, len(small_task.vocab), 6
    )
    field = replace(
        which.FIELDS["reviews"], owners=owners, new_model=new_model, sums=(name, numbers, fit),
        target=0.52, epochs=3, rounds=3, cohort=2,
    )  # fmt: skip
    monkeypatch.setitem(which.FIELDS, "small", field)
    which.owners_of.cache_clear()
    yield field
    which.owners_of.cache_clear()


@pytest.mark.parametrize(
    ("model", "way"),
    [("lstm", "federated"), ("bag", "federated"), ("mingru", "centralised"), ("tfidf", "sums")],
)
def test_a_row_says_what_was_measured(small, monkeypatch, model, way):
    number = 3.0 if way == "sums" else 0.02
    monkeypatch.setitem(which.CHOSEN, ("small", model, way), number)
    (row,) = which.measure_which("small", {"model": model, "way": way, "seed": 0})
    curve = [float(value) for value in row["curve"].split()]
    assert 0.4 < row["score"] <= 1
    if row["reached"]:
        assert curve[row["reached"] - 1] >= 0.52
        assert all(value < 0.52 for value in curve[: row["reached"] - 1])
    assert (row["all_megabytes"] > 0) == (way != "centralised")
    assert row["bytes_in_8_bits"] >= row["numbers"]
    (again,) = which.measure_which("small", {"model": model, "way": way, "seed": 0})
    assert {**again, "seconds": 0} == {**row, "seconds": 0}


def test_the_best_moment_is_kept_and_not_the_last(small, monkeypatch):
    """A model of which every epoch makes the loss worse is that of the first epoch."""
    losses = iter([0.1, 0.5, 0.9])
    judged = which.judged_on

    def worse(name, seed, part, judge):
        found = judged(name, seed, part, judge)
        return found | {"loss": next(losses)} if part == "validation" else found

    made = which.course("small", "lstm", "centralised", 0.02, 0)
    monkeypatch.setattr(which, "judged_on", worse)
    first = which.course("small", "lstm", "centralised", 0.02, 0)
    monkeypatch.setattr(which, "judged_on", judged)
    monkeypatch.setitem(which.FIELDS, "small", replace(small, epochs=1))
    one = which.course("small", "lstm", "centralised", 0.02, 0)
    found = [judged("small", 0, "test", own.judge)["loss"] for own in (first, one, made)]
    assert found[0] == found[1] != found[2]


def test_every_way_has_as_many_numbers_to_choose_from():
    for name in ("reviews", "words", "glucose"):
        assert {len(numbers) for numbers in which._ways(name).values()} == {6}
        assert len(which._rates(name).runs) == 6 * 13
        assert len(which._table(name).runs) == 3 * 13


def test_the_numbers_are_those_that_did_best_on_validation():
    found = {}
    for name in which.FIELDS:
        found |= which.best_numbers(name, pd.read_csv(results.RESULTS / f"which_{name}_rates.csv"))
    assert found == which.CHOSEN


@pytest.mark.parametrize("up", [True, False])
def test_of_an_error_less_is_better(small, monkeypatch, up):
    """The target is met from above, and the merit of a number is the larger the smaller it is."""
    objective = small.owners(0)[0].test.objective
    monkeypatch.setattr(type(objective), "higher_is_better", up)
    made = which.Course(lambda data: None, [0.9, 0.6, 0.3], [1.0, 2.0, 3.0], 0.0, 1, 1)
    monkeypatch.setattr(which, "course", lambda *_: made)
    monkeypatch.setattr(which, "judged_on", lambda *_: {"accuracy": 0.3, "loss": 1.0})
    monkeypatch.setitem(which.CHOSEN, ("small", "lstm", "federated"), 1.0)
    settings = {"model": "lstm", "way": "federated", "number": 1.0, "seed": 0}
    assert which.measure_try("small", settings) == [{"merit": 0.3 if up else -0.3}]
    (row,) = which.measure_which("small", settings)
    assert (row["reached"], row["megabytes"]) == ((1, 1.0) if up else (3, 3.0))
