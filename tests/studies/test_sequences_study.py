"""Other sequences: what is compared learns from what it may learn from, and is chosen fairly."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from owner_toys import EACH, SLOPES, make_owners, series

from fedlab_helpers import strategies
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.state import of_model
from fedlab_helpers.core.training import LocalConfig, evaluate, judged
from fedlab_helpers.studies import plain_models as plain
from fedlab_helpers.studies import results, sequences
from fedlab_helpers.studies.sequences import CASES, CHOSEN, TUNING_SEED, WAYS, Case, judgements
from fedlab_helpers.tasks.next_word import NEXT_WORD, WORDS
from fedlab_helpers.tasks.ngrams import NGram
from fedlab_helpers.tasks.owners import score, together
from fedlab_helpers.tasks.series import SeriesRNN

RATE = 0.02


def now(data):
    return data.inputs[0].numpy()[plain.places(data)]


TINY = Case(
    lambda seed: make_owners(seed),
    lambda seed: SeriesRNN(1, 3, each_step=True, seed=seed),
    {"linear": (plain.on_table(now, plain.linear), (0.1, 1.0))},
    naive=lambda data: np.zeros(data.asked),
    batch=8,
    epochs=3,
    rounds=4,
    cohort=2,
    local_epochs=1,
    tuning=2,
    rates=(RATE,),
    tuning_rates=(RATE,),
    variants={
        "two rounds": {"rounds": 2},
        "own seed": {"new_model": lambda seed: SeriesRNN(1, 3, each_step=True, seed=seed + 1)},
    },
)
EVERY_WAY = ("naive", *WAYS, *TINY.variants, "linear", "linear alone")


def forget():
    sequences.owners_of.cache_clear()
    sequences.federated.cache_clear()


@pytest.fixture
def tiny(monkeypatch):
    """Return a function that puts a case, or TINY, into the place of all others."""

    def put(**changes):
        forget()
        case = replace(TINY, **changes)
        monkeypatch.setitem(CASES, "tiny", case)
        for way in sequences.tries("tiny"):
            monkeypatch.setitem(CHOSEN, ("tiny", way), RATE)
        return case, sequences.owners_of("tiny", 0)

    yield put
    forget()


def alike(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# The numbers


def test_the_numbers_are_those_that_the_table_chose():
    table = pd.read_csv(results.RESULTS / "sequences_rates.csv")
    assert sequences.best_numbers(table) == CHOSEN


def test_the_best_number_of_each_way_has_the_most_merit():
    rows = [("a", "alone", 1.0, -3.0), ("a", "alone", 2.0, -2.0), ("b", "alone", 1.0, 0.5)]
    table = pd.DataFrame(rows, columns=["task", "way", "number", "merit"])
    assert sequences.best_numbers(table) == {("a", "alone"): 2.0, ("b", "alone"): 1.0}


def test_every_way_is_tried_and_measured_on_each_task():
    tried = {(run["task"], run["way"]) for run in sequences.SEQUENCES_RATES.runs}
    measured = {(run["task"], run["way"]) for run in sequences.SEQUENCES.runs}
    assert measured - tried == {(name, "naive") for name, case in CASES.items() if case.naive}
    assert tried <= measured
    assert {run["seed"] for run in sequences.SEQUENCES_RATES.runs} == {TUNING_SEED}
    for name, case in CASES.items():
        assert {way for task, way in tried if task == name} >= {*WAYS, *case.plain, *case.variants}
        assert {f"{kind} alone" for kind in case.plain} <= {way for task, way in tried}


def test_each_way_has_as_many_numbers_to_choose_from():
    """Six; another federated way may have fewer, of the same; a unigram has none to choose."""
    for name, case in CASES.items():
        tried = sequences.tries(name)
        assert all(set(tried[way]) <= set(case.rates) for way in case.variants)
        few = {*case.variants, "unigram", "unigram alone"}
        assert {len(set(tried[way])) for way in tried.keys() - few} == {6}


# Plain models


def table_of(*rows):
    return np.array([row[:-1] for row in rows]), np.array([row[-1] for row in rows])


def test_a_power_curve_by_hand():
    """Bins of 1 m/s: four readings at 3 to 4 m/s, three at 4 to 5, which are too few, four at 5 to
    6. The fewest are bridged, and what lies beyond is as the last bin known."""
    wind = np.array([3.1, 3.2, 3.8, 3.9, 4.1, 4.2, 4.3, 5.1, 5.2, 5.3, 5.4])
    power = np.array([1.0, 2.0, 3.0, 2.0, 9.0, 9.0, 9.0, 6.0, 6.0, 8.0, 8.0])
    curve = plain.power_curve(((wind / 3 - 2)[:, None], power), 1.0, False)
    asked = np.array([3.5, 4.5, 5.99, 0.0, 20.0, 90.0])
    assert curve((asked / 3 - 2)[:, None]).tolist() == [2.0, 4.5, 7.0, 2.0, 7.0, 7.0]


@pytest.mark.parametrize("number", [0.1, 30.0])
def test_a_ridge_is_its_closed_form(number):
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, [1, 5, 0.1], (40, 3)), rng.normal(2, 1, 40)
    z = (x - x.mean(0)) / x.std(0)
    weights = np.linalg.solve(z.T @ z + number * np.eye(3), z.T @ (y - y.mean()))
    answer = plain.linear((x, y), number, False)
    np.testing.assert_allclose(answer(x), z @ weights + y.mean())


def test_a_risk_is_answered_with_logits_and_more_of_the_number_pulls_to_the_share():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    y = (x[:, 0] + rng.normal(size=60) > 0.8).astype(float)
    for fit in (plain.linear, plain.trees):
        logits = fit((x, y), 0.1, True)(x)
        assert logits.min() < 0 < logits.max()
        assert logits[y > 0].mean() > logits[y == 0].mean()
    share = plain.linear((x, y), 1e9, True)(x)
    np.testing.assert_allclose(share, np.log(y.mean() / (1 - y.mean())), atol=1e-3)


FEATURES = {  # what is seen, numbers a step, and the first step that is asked
    "glucose": (plain.glucose_features, 4, 24),
    "turbines": (plain.turbine_features, 6, 6),
    "ward": (plain.ward_features, 14, 0),
}


def asked_series(width, first, steps=40, count=3):
    rng = np.random.default_rng(width)
    seen = torch.from_numpy(rng.normal(size=(count, steps, width)).astype(np.float32))
    wanted = torch.from_numpy(rng.normal(size=(count, steps)).astype(np.float32))
    wanted[:, :first] = torch.nan
    wanted[1, first::3] = torch.nan  # as a sensor that reads nothing
    return Examples((seen,), wanted, EACH)


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("place", [1, 25, 33])
def test_features_do_not_look_ahead(name, place):
    features, width, first = FEATURES[name]
    data = asked_series(width, first)
    later = data.inputs[0].clone()
    later[:, place:] += 5.0
    before = plain.places(data)[1] < place
    own, other = (features(d) for d in (data, data.with_inputs(later)))
    assert np.array_equal(own[before], other[before])
    assert (own[~before] != other[~before]).any(1).all()


@pytest.mark.parametrize("name", FEATURES)
def test_features_stand_beside_their_targets(name):
    """The first feature is what is seen at the very step; so are the targets, here."""
    features, width, first = FEATURES[name]
    data = asked_series(width, first)
    asked = torch.where(data.targets.isnan(), torch.nan, data.inputs[0][..., 0])
    found, wanted = plain.table_of(data.with_targets(asked), features)
    assert len(found) == len(wanted) == data.asked
    assert np.array_equal(found[:, 0], wanted)


def test_what_is_seen_by_hand():
    steps = torch.arange(30.0)[None, :, None]
    wanted = torch.full((1, 30), torch.nan)
    wanted[0, 25] = 1.0
    glucose = Examples((torch.cat([steps, steps, -steps, steps + 100], 2),), wanted, EACH)
    assert plain.glucose_features(glucose).tolist() == [[*range(25, 1, -1), -25, 125]]
    turbines = Examples((steps.repeat(1, 1, 6),), wanted, EACH)
    assert plain.turbine_features(turbines).tolist() == [[25] * 6 + [24] * 6 + [23] * 6 + [21] * 6]
    ward = plain.ward_features(Examples((steps.repeat(1, 1, 14),), wanted, EACH))
    assert ward.tolist() == [[25] * 14 + [24] * 6 + [21.5] * 6 + [18] * 6 + [1] * 6]


def test_the_first_hours_of_a_stay_are_compared_with_what_there_is():
    data = Examples((torch.ones(1, 2, 14),), torch.ones(1, 2), EACH)
    data.inputs[0][0, 1] = 3.0
    first, second = plain.ward_features(data)
    assert first.tolist() == [1] * 32 + [0] * 6
    assert second.tolist() == [3] * 14 + [2] * 12 + [1] * 6 + [2] * 6


def test_credit_has_each_month_and_what_stays_once():
    seen = torch.arange(6.0)[None, :, None].repeat(1, 1, 16)
    seen[:, :, 8:] = 9.0
    data = Examples((seen,), torch.ones(1), EACH)
    assert plain.credit_features(data).tolist() == [
        [m for m in range(6) for _ in range(8)] + [9] * 8
    ]


def test_an_ngram_is_judged_by_its_probabilities():
    def texts(*rows):
        words = torch.tensor(rows)
        following = words[:, 1:].masked_fill(words[:, 1:] == 0, -100)
        lengths = (following != -100).sum(1)
        return Examples((words[:, :-1], lengths), following, NEXT_WORD, padded=True)

    train = texts([5, 6, 7, 8], [5, 6, 7, 0], [5, 6, 9, 0])
    test = texts([5, 6, 7, 0], [9, 5, 6, 9])
    rows = plain.ngram(3, train, 0.5)(test)
    model = NGram(train, WORDS, 3, 0.5)
    asked = [([5], 6), ([5, 6], 7), ([9], 5), ([9, 5], 6), ([9, 5, 6], 9)]
    losses = [-np.log(model.probabilities(words)[word]) for words, word in asked]
    np.testing.assert_allclose(rows[:, 0], losses, rtol=1e-5)
    assert rows[:, 1].tolist() == [1, 1, 0, 1, 0]


# The ways


@pytest.mark.parametrize("way", EVERY_WAY)
def test_every_way_answers_all_that_each_owner_is_asked(tiny, way):
    _, owners = tiny()
    rows = judgements("tiny", way, RATE, 0, "test")
    assert [own.shape for own in rows] == [(owner.test.asked, 2) for owner in owners]
    assert all(own.isfinite().all() for own in rows)


def test_naive_answers_are_judged_as_they_are(tiny):
    _, owners = tiny()
    rows = judgements("tiny", "naive", 0.0, 0, "test")
    errors = [-10 * own.test.targets[~own.test.targets.isnan()] for own in owners]
    assert alike([own[:, 1] for own in rows], errors)


def test_the_federated_model_is_the_round_with_the_least_loss_on_all_validation(tiny, bits):
    case, owners = tiny(rounds=6, rates=(0.3,))  # a rate at which losses go up and down
    model, losses, states = case.new_model(0), [], []
    plan = Plan(6, 2, LocalConfig(1, 4, 0.3), 0, 1)
    clients, chosen_by = [o.train for o in owners], together([o.validation for o in owners])
    for _ in rounds(model, clients, strategies.fedavg(), plan):
        losses.append(evaluate(model, chosen_by).loss)
        states.append(of_model(model))
    assert 0 < np.argmin(losses) < 5
    kept = sequences.federated("tiny", 0.3, 0)
    assert bits(kept) == bits(states[int(np.argmin(losses))])
    model.load_state_dict(kept)
    rows = judgements("tiny", "federated", 0.3, 0, "test")
    assert alike(rows, [judged(model, own.test) for own in owners])


def test_a_way_without_a_number_is_not_measured(tiny, monkeypatch):
    tiny()
    monkeypatch.delitem(CHOSEN, ("tiny", "linear"))
    with pytest.raises(KeyError):
        sequences.measure_sequences({"task": "tiny", "way": "linear", "seed": 0})


def test_the_choice_of_a_round_needs_only_sums_of_each_owner(tiny):
    """Each owner could tell its loss and how many it was asked; nobody needs the others' data."""
    case, owners = tiny()
    model = case.new_model(0)
    told = [evaluate(model, own.validation) for own in owners]
    mean = np.average([m.loss for m in told], weights=[m["examples"] for m in told])
    loss = evaluate(model, together([own.validation for own in owners])).loss
    assert mean == pytest.approx(loss, rel=1e-6)


class Spy:
    """Writes down what every fine-tuning is given."""

    def __init__(self, act):
        self.act, self.calls = act, []

    def __call__(self, model, start, data, config, epochs, **options):
        self.calls.append((start, data, config, epochs, options["validation"]))
        return self.act(model, start, data, config, epochs, **options)


@pytest.fixture
def spy(monkeypatch):
    spy = Spy(sequences.fine_tune)
    monkeypatch.setattr(sequences, "fine_tune", spy)
    return spy


def test_fine_tuning_begins_at_the_federated_weights(tiny, spy):
    case, owners = tiny()
    judgements("tiny", "fine-tuned", 0.01, 0, "test")
    shared = sequences.federated("tiny", RATE, 0)  # with the rate that was chosen for it
    for owner, (start, data, config, epochs, chosen_by) in zip(owners, spy.calls, strict=True):
        assert start is shared
        assert data is owner.train
        assert chosen_by is owner.validation
        assert (config.lr, config.batch_size, epochs) == (0.01, 4, case.tuning)


def test_without_an_epoch_fine_tuning_is_the_federated_model(tiny):
    tiny(tuning=0)
    ways = ("fine-tuned", "federated")
    assert alike(*(judgements("tiny", way, RATE, 0, "test") for way in ways))


def test_alone_begins_untrained_and_one_place_has_all_data_in_larger_batches(tiny, spy, bits):
    case, owners = tiny()
    fresh = bits(of_model(case.new_model(0)))
    judgements("tiny", "alone", RATE, 0, "test")
    judgements("tiny", "centralised", RATE, 0, "test")
    assert [bits(start) for start, *_ in spy.calls] == [fresh] * 4
    assert [data for _, data, *_ in spy.calls[:3]] == [own.train for own in owners]
    assert [config.batch_size for _, _, config, *_ in spy.calls] == [4, 4, 4, 8]
    assert {epochs for *_, epochs, _ in spy.calls} == {case.epochs}
    _, data, _, _, chosen_by = spy.calls[3]
    for came, part in ((data, "train"), (chosen_by, "validation")):
        seen = torch.cat([getattr(own, part).inputs[0] for own in owners])
        assert torch.equal(came.inputs[0], seen)


def changed(owners, part, name, to):
    """Return the owners with another part of one of them."""
    return [replace(own, **{part: to}) if own.name == name else own for own in owners]


@pytest.mark.parametrize("way", ["alone", "linear alone"])
def test_who_is_alone_learns_nothing_of_others(tiny, way):
    _, owners = tiny()
    before = judgements("tiny", way, RATE, 0, "test")
    other = changed(owners, "train", "ben", series(12, 3.0, 99))
    other = changed(other, "validation", "ben", series(4, 3.0, 98))
    tiny(owners=lambda seed: other)
    after = judgements("tiny", way, RATE, 0, "test")
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, False, True]


@pytest.mark.parametrize("way", ["centralised", "federated", "fine-tuned", "linear"])
def test_who_learns_with_others_learns_of_them(tiny, way):
    _, owners = tiny(cohort=3)
    before = judgements("tiny", way, RATE, 0, "test")
    other = changed(owners, "train", "ben", series(12, 3.0, 99))
    tiny(owners=lambda seed: other, cohort=3)
    after = judgements("tiny", way, RATE, 0, "test")
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def blinded(owners):
    """Return the owners with tests of which nothing can be learnt: whoever reads them gets NaN, and
    whoever fits to them an error."""
    nothing = {own.name: own.test.with_inputs(own.test.inputs[0] * torch.nan) for own in owners}
    return [replace(own, test=nothing[own.name]) for own in owners]


@pytest.mark.parametrize("way", EVERY_WAY[1:])
def test_a_number_is_tried_without_a_look_at_any_test(tiny, way):
    _, owners = tiny()
    settings = {"task": "tiny", "way": way, "number": RATE, "seed": 0}
    (before,) = sequences.measure_try(settings)
    tiny(owners=lambda seed: blinded(owners))
    assert sequences.measure_try(settings) == [before]
    assert np.isfinite(before["merit"])


def test_merit_is_larger_where_errors_are_smaller(tiny):
    tiny()
    settings = {"task": "tiny", "way": "linear", "number": 1.0, "seed": 0}
    (row,) = sequences.measure_try(settings)
    rows = judgements("tiny", "linear", 1.0, 0, "validation")
    assert row == {"merit": round(-score(EACH, rows)["own"]["rmse"], 5)}
    assert sequences.measure_try(settings | {"number": 1e9})[0]["merit"] < row["merit"]


@pytest.mark.parametrize("way", TINY.variants)
def test_a_variant_differs_in_what_it_says(tiny, bits, way):
    case, owners = tiny(cohort=3)
    states = sequences.trained("tiny", way, RATE, 0)
    expected = sequences.federate(replace(case, **case.variants[way]), owners, RATE, 0)
    assert [*states] == [*SLOPES]
    assert all(bits(state) == bits(expected) for state in states.values())
    assert bits(expected) != bits(sequences.federated("tiny", RATE, 0))


def test_owners_who_share_a_test_and_a_model_are_judged_once(tiny):
    owners = make_owners()
    shared = [replace(own, test=owners[0].test) for own in owners]
    tiny(owners=lambda seed: shared)
    first, second, third = judgements("tiny", "federated", RATE, 0, "test")
    assert first is second is third
    alone = judgements("tiny", "alone", RATE, 0, "test")
    assert not alike(alone[:1], alone[1:2])  # one test, two models


@pytest.mark.parametrize("way", EVERY_WAY)
def test_a_row_has_the_score_and_each_owners(tiny, way):
    tiny()
    (row,) = sequences.measure_sequences({"task": "tiny", "way": way, "seed": 0})
    assert row["number"] == (0 if way == "naive" else RATE)
    assert (row["measure"], row["second_measure"]) == ("rmse", "mae")
    rows = judgements("tiny", way, RATE, 0, "test")
    for column, name in (("each", "rmse"), ("each_second", "mae")):
        told = [float(value) for value in row[column].split()]
        own = [EACH.metrics(judged_)[name] for judged_ in rows]
        assert told == pytest.approx(own, abs=1e-4)
        shown = "score" if column == "each" else "second"
        assert row[shown] == pytest.approx(np.mean(own), abs=1e-4)
    errors = [float(value) for value in row["each"].split()]
    assert row["own"] == row["score"]
    assert row["worst"] == pytest.approx(max(errors), abs=1e-4)


def test_a_pooled_score_is_of_all_answers_together(tiny):
    tiny(by="pooled")
    (row,) = sequences.measure_sequences({"task": "tiny", "way": "alone", "seed": 0})
    figures = score(EACH, judgements("tiny", "alone", RATE, 0, "test"))
    assert row["score"] == pytest.approx(figures["pooled"]["rmse"], abs=1e-5)
    assert row["own"] == pytest.approx(figures["own"]["rmse"], abs=1e-5)
    assert row["score"] != row["own"]
