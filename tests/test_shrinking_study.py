"""The studies of small models: what one run of each measures."""

import io
from dataclasses import replace

import onnx
import pytest
import torch

from fedlab_helpers import experiments
from fedlab_helpers.studies import federated_distillation, shrinking, small_models
from fedlab_helpers.studies.small_models import (
    DISTILLED,
    FITS,
    ON,
    WHOLE,
    Fit,
    cut,
    largest_units,
    stored_as,
    student,
    trained_on,
    whole,
)
from fedlab_helpers.studies.study import task

SHAPE = (20, 4, 3)


@pytest.fixture
def small(monkeypatch, small_task):
    """The tiny task in place of the real one, and one or two epochs of everything."""
    for module in (shrinking, small_models):
        monkeypatch.setattr(module, "task", lambda: small_task)
    monkeypatch.setattr(small_models, "WIDTH", 6)
    for kind in FITS:
        monkeypatch.setitem(FITS, kind, Fit(1 if kind == ON else 2, 1e-2, 0.1))
    for cached in (small_models.teacher, small_models._lesson):
        cached.cache_clear()
    yield small_task
    for cached in (small_models.teacher, small_models._lesson):
        cached.cache_clear()


def measured(recipe, monkeypatch):
    monkeypatch.setitem(shrinking.RECIPES, "this", recipe)
    (row,) = shrinking.measure({"seed": 0, "recipe": "this"})
    return row


def test_the_whole_model_agrees_with_itself(small, monkeypatch):
    row = measured(whole("onnx"), monkeypatch)
    assert row["gained"] == row["lost"] == 0
    assert row["agreement"] == 1.0
    assert 0 < row["off"] < 1e-4


@pytest.mark.parametrize(
    "recipe",
    [
        lambda: whole("torch"),
        lambda: whole("onnx 8"),
        lambda: whole("onnx 4"),
        lambda: whole("onnx dynamic"),
        lambda: cut(lambda model: model, 20),
        lambda: trained_on(cut(largest_units(3))),
        lambda: trained_on(whole("sparse"), pruned=0.5),
        lambda: trained_on(student(SHAPE), bits=4),
        lambda: student(SHAPE, DISTILLED),
        lambda: stored_as("onnx 8", student(SHAPE, cell="gru", hashed=True)),
    ],
)
def test_each_kind_of_recipe_is_measured(small, monkeypatch, recipe):
    row = measured(recipe(), monkeypatch)
    reference = measured(whole("onnx"), monkeypatch)
    assert row["bytes"] > 0
    assert row["parameters"] <= reference["parameters"]
    right, before = (60 * each["accuracy"] for each in (row, reference))
    assert row["gained"] - row["lost"] == pytest.approx(right - before, abs=0.01)


def test_bytes_are_those_of_the_file(small):
    made = whole("torch")(0)
    content, _ = shrinking.stored(made)
    loaded = torch.load(io.BytesIO(content))
    assert torch.equal(loaded["head.bias"], made.model.head.bias)
    content, _ = shrinking.stored(student(SHAPE)(0))
    onnx.checker.check_model(onnx.load_from_string(content))


def test_who_trains_on_leaves_the_model_it_began_with(small, bits):
    before = student(SHAPE)(0)
    weights = bits(before.model.state_dict())
    after = trained_on(lambda seed: before, pruned=0.5)(0)
    assert bits(before.model.state_dict()) == weights
    state = after.model.state_dict()
    assert float((state["embedding.weight"] == 0).double().mean()) >= 0.49


@pytest.mark.parametrize("kind", FITS)
def test_a_training_is_judged_by_validation_reviews(small, monkeypatch, kind):
    monkeypatch.setitem(shrinking._SHAPES, shrinking._TUNED, SHAPE)
    monkeypatch.setitem(shrinking._FEW, 4000, cut(lambda model: model, 20))
    settings = {"kind": kind, "seed": 100, "epochs": 1, "lr": 1e-2, "dropped": 0.1}
    (row,) = shrinking.measure_fit(settings)
    assert 0.3 < row["validation_accuracy"] <= 1
    (twice,) = shrinking.measure_fit(settings | {"epochs": 3, "lr": 0.1})
    assert twice != row


def test_the_best_training_is_so_in_the_mean_over_seeds():
    scores = {(2, 1e-3): (0.8, 0.7), (4, 1e-3): (0.76, 0.76), (4, 1e-2): (0.9, 0.1)}
    rows = [
        {"kind": WHOLE, "epochs": str(epochs), "lr": str(lr), "dropped": "0.1",
         "validation_accuracy": str(score)}
        for (epochs, lr), each in scores.items()
        for score in each
    ]  # fmt: skip
    assert shrinking.best_fits(rows) == {WHOLE: Fit(4, 1e-3, 0.1)}


def test_models_are_trained_as_their_table_chose():
    rows = experiments.read(experiments.RESULTS / "shrinking_rates.csv")
    assert shrinking.best_fits(rows) == FITS


def test_the_rate_falls_and_words_are_unknown_anew_each_epoch(small, monkeypatch):
    seen = []
    monkeypatch.setattr(
        small_models, "train", lambda model, data, config, **_: seen.append((config.lr, data))
    )
    small_models.fit(None, small.train, Fit(3, 1.0, 0.5), 0)
    assert [lr for lr, _ in seen] == pytest.approx([1.0, 0.55, 0.1])
    unknown = [(data.tokens == 1) for _, data in seen]
    assert not torch.equal(unknown[0], unknown[1])


# Federated distillation


def test_federated_distillation_is_measured_round_by_round(monkeypatch):
    values = {"CLIENTS": 2, "PUBLIC": 40, "ROUNDS": 2, "KINDS": federated_distillation.KINDS[1:3]}
    for name, value in values.items():
        monkeypatch.setattr(federated_distillation, name, value)
    test = task().test.subset(range(200))
    few = replace(task(), test=test, train=task().train.subset(range(300)))
    monkeypatch.setattr(federated_distillation, "task", lambda: few)
    one_step = federated_distillation.LocalConfig(batch_size=None)
    monkeypatch.setattr(federated_distillation, "LOCAL", one_step)
    monkeypatch.setattr(federated_distillation, "LEARN", one_step)
    settings = {"seed": 0, "partition": "iid", "way": "exchange"}
    rows = federated_distillation.measure(settings)
    assert [row["round"] for row in rows] == [1, 2]
    assert rows[1]["total_bytes"] == 2 * rows[0]["total_bytes"] > 0
    assert rows[0]["least"] <= rows[0]["accuracy"]
    alone = federated_distillation.measure(settings | {"way": "alone"})
    assert alone[1]["total_bytes"] == 0
    averaged = federated_distillation.measure(settings | {"way": "averaged"})
    assert averaged[0]["least"] == pytest.approx(averaged[0]["accuracy"], abs=1e-5)
    assert averaged[0]["total_bytes"] > 20 * rows[0]["total_bytes"]
    assert rows[0].keys() == alone[0].keys() == averaged[0].keys()


def test_public_reviews_are_nobodys_own():
    public, clients = federated_distillation.deal("iid", 0)
    assert len(public) == federated_distillation.PUBLIC
    assert len(public) + sum(map(len, clients)) == len(task().train)
    seen = {tuple(row.tolist()) for row in public.tokens}
    own = [tuple(row.tolist()) for data in clients for row in data.tokens]
    assert len(seen & set(own)) < 5  # short reviews may be alike
