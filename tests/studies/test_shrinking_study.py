"""The studies of small models: what one run of each measures."""

import io
from dataclasses import replace
from types import SimpleNamespace

import onnx
import pandas as pd
import pytest
import torch

from fedlab_helpers.shrinking import Rounded, unit_sizes
from fedlab_helpers.studies import federated_distillation, results, shrinking, small_models
from fedlab_helpers.studies.small_models import FITS, Fit, cut, student, trained_on, whole
from fedlab_helpers.studies.study import task

SHAPE = (20, 4, 3)


@pytest.fixture
def small(monkeypatch, small_task):
    """The tiny task in place of the real one, and one or two epochs of everything."""
    for module in (shrinking, small_models):
        monkeypatch.setattr(module, "task", lambda: small_task)
    monkeypatch.setattr(small_models, "WIDTH", 6)
    for kind in FITS:
        monkeypatch.setitem(FITS, kind, Fit(1 if kind == small_models.TRAINED_ON else 2, 1e-2, 0.1))
    for cached in (small_models.teacher, small_models._lesson):
        cached.cache_clear()
    yield small_task
    for cached in (small_models.teacher, small_models._lesson):
        cached.cache_clear()


def measured(recipe, monkeypatch):
    monkeypatch.setitem(shrinking.RECIPES, "this", recipe)
    (row,) = shrinking.measure({"seed": 0, "recipe": "this"})
    return row


@pytest.mark.parametrize(
    "recipe",
    [
        lambda: whole("torch"),
        lambda: whole("onnx 8"),
        lambda: whole("onnx 4"),
        lambda: whole("onnx dynamic"),
        lambda: cut(lambda model: model, 20),
        lambda: trained_on(cut(small_models.largest_units(3))),
        lambda: trained_on(whole("sparse"), pruned=0.5),
        lambda: trained_on(student(SHAPE), bits=4),
        lambda: student(SHAPE, small_models.DISTILLED),
        lambda: small_models.stored_as("onnx 8", student(SHAPE, cell="gru", hashed=True)),
    ],
)
def test_each_kind_of_recipe_is_measured(small, monkeypatch, recipe):
    row = measured(recipe(), monkeypatch)
    made = recipe()(0)
    content, answer = shrinking.stored(made)
    assert row["bytes"] == len(content) > 0
    for part, column in ((small.test, "accuracy"), (small.validation, "validation_accuracy")):
        right = answer(made.view(part)).argmax(1) == part.labels
        assert row[column] == pytest.approx(float(right.double().mean()), abs=1e-5)
    whole_one = measured(whole("onnx"), monkeypatch)
    assert (whole_one["gained"], whole_one["lost"], whole_one["agreement"]) == (0, 0, 1.0)
    assert 0 < whole_one["off"] < 1e-4
    assert row["parameters"] <= whole_one["parameters"]
    advantage = 60 * (row["accuracy"] - whole_one["accuracy"])
    assert row["gained"] - row["lost"] == pytest.approx(advantage, abs=0.01)


def test_the_file_holds_the_model(small):
    made = whole("torch")(0)
    loaded = torch.load(io.BytesIO(shrinking.stored(made)[0]))
    assert torch.equal(loaded["head.bias"], made.model.head.bias)
    onnx.checker.check_model(onnx.load_from_string(shrinking.stored(student(SHAPE)(0))[0]))


def test_fewer_bits_are_fewer_bytes_and_other_answers(small):
    made = [shrinking.stored(whole(form)(0)) for form in ("onnx", "onnx 8", "onnx 4", "onnx 2")]
    sizes = [len(content) for content, _ in made]
    assert sizes == sorted(sizes, reverse=True)
    logits = [answer(small.test) for _, answer in made]
    off = [float((each - logits[0]).abs().max()) for each in logits]
    assert 0 == off[0] < off[1] < off[2] < off[3]
    _, answer = shrinking.stored(whole("sparse")(0))  # in 16 bits
    assert 0 < float((answer(small.test) - logits[0]).abs().max()) < 0.01
    with pytest.raises(KeyError, match="onnx 3"):
        shrinking.stored(whole("onnx 3")(0))


def test_a_hashed_model_needs_no_words(small):
    made = [student(SHAPE, hashed=hashed)(0) for hashed in (True, False)]
    sizes = [len(shrinking.stored(each)[0]) for each in made]
    assert sizes[0] < sizes[1]
    hashed, plain = (each.view(small.test).tokens for each in made)
    assert int(hashed.max()) < 20
    assert (hashed == 1).sum() < (plain == 1).sum()


@pytest.fixture
def trainings(small, monkeypatch):
    """What `train` was called with, while it trains nothing."""
    seen = []

    def train(model, data, config, *, seed, hooks=None):
        seen.append(SimpleNamespace(model=model, data=data, lr=config.lr, seed=seed, hooks=hooks))

    monkeypatch.setattr(small_models, "train", train)
    return seen


def test_a_student_is_taught_by_labels_or_by_its_teacher(trainings, small):
    student(SHAPE)(0)
    assert not trainings[-1].data.labels.is_floating_point()
    assert trainings[-1].hooks is None
    student(SHAPE, small_models.DISTILLED)(0)
    lesson = trainings[-1]
    assert lesson.data.labels.is_floating_point()
    assert float(lesson.hooks.logits(torch.tensor(4.0))) == 2.0
    assert int(lesson.data.tokens.max()) < 20


def test_who_trains_on_knows_of_its_bits_and_draws_anew(trainings, small):
    recipe = student(SHAPE)
    recipe(0)
    first = trainings[0]
    made = trained_on(recipe, bits=4)(0)
    assert isinstance(trainings[-1].model, Rounded)
    assert trainings[-1].model.model is made.model
    assert trainings[-1].model.bits == 4
    assert made.stored == "onnx 4"
    assert trainings[-1].seed != first.seed
    assert trained_on(recipe)(0).model is trainings[-1].model


def test_each_epoch_has_an_order_of_its_own(trainings, small):
    small_models.fit(None, small.train, Fit(3, 1.0, 0.5), 0)
    assert [each.lr for each in trainings] == pytest.approx([1.0, 0.55, 0.1])
    assert len({each.seed for each in trainings}) == 3
    unknown = [(each.data.tokens == 1) for each in trainings]
    assert not torch.equal(unknown[0], unknown[1])


def test_the_largest_units_are_kept(small):
    model = whole("onnx")(0).model
    kept = small_models.largest_units(2)(model)
    order = unit_sizes(model).argsort(descending=True)[:2].sort().values
    assert torch.equal(kept.head.weight, model.head.weight[:, order])


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
    monkeypatch.setitem(shrinking._FEWER_WORDS, 4000, cut(lambda model: model, 20))
    settings = {"kind": kind, "seed": 100, "epochs": 1, "lr": 1e-2, "dropped": 0.1}
    (row,) = shrinking.measure_fit(settings)
    made = shrinking.TUNED[kind](Fit(1, 1e-2, 0.1))(100)
    validation = made.view(small.validation)
    right = shrinking.predict(made.model, validation).argmax(1) == validation.labels
    assert row["validation_accuracy"] == pytest.approx(float(right.double().mean()), abs=1e-5)
    flipped = replace(small, test=small.test.with_targets(1 - small.test.labels))
    monkeypatch.setattr(shrinking, "task", lambda: flipped)
    assert shrinking.measure_fit(settings) == [row]
    (other,) = shrinking.measure_fit(settings | {"epochs": 3, "lr": 0.1})
    assert other != row


def test_models_are_trained_as_their_table_chose():
    assert shrinking.best_fits(pd.read_csv(results.RESULTS / "shrinking_rates.csv")) == FITS


# Federated distillation


@pytest.fixture
def exchange(monkeypatch):
    """Two clients with 130 reviews each beside 40 public ones, and two rounds."""
    study = federated_distillation
    for name, value in {"CLIENTS": 2, "PUBLIC": 40, "ROUNDS": 2, "KINDS": study.KINDS[1:3]}.items():
        monkeypatch.setattr(study, name, value)
    few = {"test": task().test.subset(range(200)), "train": task().train.subset(range(300))}
    monkeypatch.setattr(study, "task", lambda: replace(task(), **few))
    return study


def test_federated_distillation_is_measured_round_by_round(exchange, monkeypatch):
    one_step = exchange.LocalConfig(batch_size=None)
    monkeypatch.setattr(exchange, "LOCAL", one_step)
    monkeypatch.setattr(exchange, "LEARN", one_step)
    settings = {"seed": 0, "partition": "iid"}
    rows, alone, averaged = (
        exchange.measure(settings | {"way": way}) for way in ("exchange", "alone", "averaged")
    )
    assert [row["round"] for row in rows] == [1, 2]
    assert rows[1]["total_bytes"] == 2 * rows[0]["total_bytes"] > 0
    assert rows[0]["least"] <= rows[0]["accuracy"]
    assert alone[1]["total_bytes"] == 0
    assert averaged[0]["least"] == pytest.approx(averaged[0]["accuracy"], abs=1e-5)
    assert averaged[0]["total_bytes"] > 20 * rows[0]["total_bytes"]
    assert rows[0].keys() == alone[0].keys() == averaged[0].keys()


def test_who_stays_alone_trains_as_often_and_anew_each_round(exchange, monkeypatch):
    seen = []
    note = lambda model, data, config, seed: seen.append((config, seed))  # noqa: E731
    monkeypatch.setattr(exchange, "train", note)
    monkeypatch.setattr(exchange, "PUBLIC", 100)
    exchange.measure({"seed": 0, "partition": "iid", "way": "alone"})
    # 100 reviews each, twice a round, and once the 100 public ones: a third pass
    assert {config.epochs for config, _ in seen} == {exchange.LOCAL.epochs + 1}
    assert len({seed for _, seed in seen}) == len(seen) == 4


def test_public_reviews_are_nobodys_own():
    public, clients = federated_distillation.deal("iid", 0)
    assert len(public) == federated_distillation.PUBLIC
    assert len(public) + sum(map(len, clients)) == len(task().train)
    seen = {tuple(row.tolist()) for row in public.tokens}
    own = [tuple(row.tolist()) for data in clients for row in data.tokens]
    assert len(seen & set(own)) < 5  # short reviews may be alike
