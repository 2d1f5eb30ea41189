"""Other sequences through all rooms: each part of the package takes them, or says why not."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from toys import VOCABULARY, make_reviews

from fedlab_helpers import LocalConfig, Plan, evaluate, of_model, predict, rounds, run, strategies
from fedlab_helpers.compression.registry import make_codec
from fedlab_helpers.core.history import NoUpdateLeft
from fedlab_helpers.core.plan import Pace
from fedlab_helpers.core.training import train
from fedlab_helpers.personal.fine_tuning import fine_tune, own_weights
from fedlab_helpers.privacy.secure import SecureSum
from fedlab_helpers.recipe import make_strategy
from fedlab_helpers.shrinking import (
    Rounded,
    agreement,
    distillation_rounds,
    factor_recurrent,
    keep_pruned,
    keep_units,
    narrow_embedding,
    smallest_masks,
    taught,
    trim_model,
    unit_sizes,
)
from fedlab_helpers.shrinking.onnx_model import to_onnx
from fedlab_helpers.strategies import STRATEGIES
from fedlab_helpers.strategies.asynchronous import buffered_rounds
from fedlab_helpers.strategies.attacks import attacked
from fedlab_helpers.strategies.clusters import ifca_rounds, random_starts
from fedlab_helpers.strategies.personal import APFL, Ditto, FedRep, PerFedAvg, keep_private
from fedlab_helpers.tasks import credit
from fedlab_helpers.tasks.glucose import glucose_owner
from fedlab_helpers.tasks.next_word import NextWordLSTM, TiedLSTM, next_words
from fedlab_helpers.tasks.owners import Owner
from fedlab_helpers.tasks.series import SeriesRNN

LOCAL = LocalConfig(batch_size=8, lr=0.01)
PLAN = Plan(2, local=LOCAL, workers=1)


def wearer(number, count=600):
    """Return somebody whose glucose swings in a way of their own."""
    rng = np.random.default_rng(number)
    times = pd.date_range("2014-02-03", periods=count, freq="5min")
    swing = (20 + 5 * number) * np.sin(np.arange(count) / (15 + 3 * number))
    return glucose_owner(f"{number}", pd.Series(130 + swing + rng.normal(0, 2, count), times))


def bank(number, count=40):
    """Return a bank of which those default who are late."""
    rng = np.random.default_rng(number)
    whole = {"LIMIT_BAL": np.full(count, 20_000.0 * (number + 1)), "AGE": np.full(count, 40)}
    late = rng.integers(-2, 4, count)
    whole |= {"SEX": rng.integers(0, 2, count), credit.DEFAULT: (late > 1).astype(int)}
    whole |= {f"PAY_{m}": late for m in (0, *range(2, 7))}
    whole |= {f"{k}_AMT{m}": rng.uniform(0, 9e4, count) for k in ("BILL", "PAY") for m in "123456"}
    kinds = [f"EDUCATION_{k}" for k in (1, 2, 3)] + ["MARRIAGE_1", "MARRIAGE_2"]
    data = credit.customers(pd.DataFrame(whole | dict.fromkeys(kinds, 1)))
    return Owner(f"{number}", *(data.subset(range(*ends)) for ends in pairwise([0, 20, 30, 40])))


def keyboard(number):
    """Return somebody who types; punctuation is not asked for."""
    parts = (next_words(make_reviews(n, 9 * number + n), skip=[2, 45]) for n in (12, 5, 8))
    return Owner(f"{number}", *parts)


@pytest.fixture(scope="module")
def glucose():
    return [wearer(number) for number in range(7)]


@pytest.fixture(scope="module")
def banks():
    return [bank(number) for number in range(3)]


@pytest.fixture(scope="module")
def keyboards():
    return [keyboard(number) for number in range(3)]


def series_model(seed=0):
    return SeriesRNN(4, 6, each_step=True, seed=seed)


def tied_model(seed=0):
    return TiedLSTM(VOCABULARY, 6, seed=seed)


def trains_of(owners):
    return [owner.train for owner in owners]


def nobody_trains(monkeypatch):
    """Make any client's training an error."""

    def began(*_, **__):
        raise AssertionError("a client trained")

    monkeypatch.setattr("fedlab_helpers.core.client.train", began)


def differ(first, second):
    return any(not torch.equal(first[name], second[name]) for name in first)


# Strategies

REFUSED = {
    "calibrated": "calibrated: needs a class for each example, got targets of Numbers",
    "rowwise": "strategy: got .* a shared `token_parameter` .* to average row by row",
}


@pytest.mark.parametrize("name", sorted(STRATEGIES.keys() - REFUSED))
def test_each_strategy_trains_on_glucose_and_on_keyboards(name, glucose, keyboards):
    strategy, seven = make_strategy(name, {}, LOCAL.lr), [keyboards[n % 3] for n in range(7)]
    for model, owners in ((series_model(), glucose), (tied_model(), seven)):
        before = of_model(model)
        history = run(model, trains_of(owners), strategy, PLAN, test=owners[0].validation)
        assert [record.left_out for record in history] == [{}, {}]
        assert all(math.isfinite(t) for record in history for t in record.client_losses.values())
        assert owners[0].train.objective.measure in history[1].metrics
        assert all(tensor.isfinite().all() for tensor in of_model(model).values())
        assert differ(before, of_model(model))


@pytest.mark.parametrize("name", REFUSED)
def test_strategies_that_need_something_else_are_refused_by_name(name, glucose, monkeypatch):
    nobody_trains(monkeypatch)
    with pytest.raises(ValueError, match=REFUSED[name]):
        run(series_model(), trains_of(glucose), strategies.make(name), PLAN)


@pytest.mark.parametrize("kind", ["banks", "keyboards"])
def test_shares_of_classes_are_of_classes_only(kind, request, monkeypatch):
    """A risk is no class, and next words are many."""
    nobody_trains(monkeypatch)
    owners = request.getfixturevalue(kind)
    model = tied_model() if kind == "keyboards" else SeriesRNN(credit.FEATURES, 6, seed=0)
    for attempt in (
        lambda: run(model, trains_of(owners), strategies.calibrated(), PLAN),
        lambda: attacked(trains_of(owners), [0], "flip_labels"),
    ):
        with pytest.raises(ValueError, match="needs a class for each example, got targets of"):
            attempt()


def test_rows_are_averaged_on_keyboards(keyboards):
    model = tied_model()
    before = of_model(model)
    history = run(model, trains_of(keyboards), strategies.rowwise(), PLAN)
    assert not history[1].left_out
    assert differ(before, of_model(model))


@pytest.mark.parametrize("attack", ["sign", "scale", "noise", "nan"])
def test_liars_may_be_among_them(attack, glucose):
    data, transforms = attacked(trains_of(glucose), [1], attack)
    history = run(series_model(), data, strategies.median(), PLAN, transforms=transforms)
    assert history[1].left_out.keys() == ({1} if attack == "nan" else set())


@pytest.mark.parametrize("kind", ["glucose", "keyboards"])
def test_other_ways_to_hold_rounds_take_them(kind, request):
    """Clusters, updates as they come, slow clients, and a start from which a step goes far."""
    data = trains_of(request.getfixturevalue(kind)[:3])
    new_model = tied_model if kind == "keyboards" else series_model
    models = random_starts(new_model, 2, seed=0)
    slow = replace(PLAN, pace=Pace((9.0, 2.0, 0.6), 2.0))
    options = {"speeds": (3.0, 2.0, 1.0), "concurrency": 2, "buffer": 2}
    ways = [
        ifca_rounds(models, data, strategies.fedavg(), PLAN),
        buffered_rounds(new_model(), data, strategies.uniform(), PLAN, **options),
        rounds(new_model(), data, strategies.fedavg(), slow),
        rounds(new_model(), data, PerFedAvg(), replace(PLAN, local=replace(LOCAL, batch_size=4))),
    ]
    for way in ways:
        records = list(way)
        assert [record.left_out for record in records] == [{}, {}]
        assert all(math.isfinite(t) for record in records for t in record.client_losses.values())


# Compression

LOSSY = {
    "topk, 8 bits": {"keep": "topk", "amount": 0.1, "write": "bits8"},
    "topk, signs, feedback": {"keep": "topk", "amount": 0.1, "write": "signs", "feedback": True},
    "randomk": {"keep": "randomk", "amount": 0.2},
    "low rank": {"keep": "lowrank", "amount": 1},
    "sketch": {"keep": "sketch", "amount": 0.2},
    "ternary": {"keep": "everything", "write": "ternary", "squeeze": 3},
    "2 bits, feedback": {"keep": "everything", "write": "bits2", "feedback": True},
    "half": {"keep": "everything", "write": "bfloat16"},
}


def coded(kind, owners, **parts):
    """Return the weights and the bytes of a run with this codec, in which nobody was left out."""
    model = tied_model() if kind == "keyboards" else SeriesRNN(credit.FEATURES, 16, seed=0)
    history = run(model, trains_of(owners), strategies.fedavg(), PLAN, codec=make_codec(**parts))
    assert not any(record.left_out for record in history)
    return of_model(model), sum(record.bytes_up for record in history)


@pytest.mark.parametrize("kind", ["banks", "keyboards"])
def test_codecs_send_their_updates(kind, request, bits):
    owners = request.getfixturevalue(kind)
    exact, full = coded(kind, owners)
    for parts in LOSSY.values():
        weights, sent = coded(kind, owners, **parts)
        assert sent < full
        assert differ(weights, exact)
        assert all(tensor.isfinite().all() for tensor in weights.values())
    packed, _ = coded(kind, owners, keep="everything", write="float32", squeeze=3)
    assert bits(packed) == bits(exact)


def test_a_table_that_is_sent_whole_is_that_of_risks_too(banks, bits):
    """Without a table of ids both lossless codecs are one."""
    assert bits(coded("banks", banks)[0]) == bits(coded("banks", banks, keep="dense")[0])


# Personalization

CASES = {
    "glucose": (series_model, {"shared": keep_private("head")}),
    "keyboards": (tied_model, {"shared": keep_private("recurrent")}),
    "keyboards with a head": (
        lambda: NextWordLSTM(VOCABULARY, 6, 8, seed=0),
        {"shared": keep_private("head")},
    ),
}
OPTIONS = {"Ditto": (Ditto(lam=0.1), False), "APFL": (APFL(), False),
           "FedPer": (strategies.fedavg(), True), "Ditto and FedPer": (Ditto(), True),
           "FedRep": (FedRep(), True)}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", OPTIONS)
def test_each_owner_comes_out_with_weights_of_its_own(case, way, request):
    (new_model, private), (strategy, keeps) = CASES[case], OPTIONS[way]
    owners, states, model = request.getfixturevalue(case.split()[0])[:3], {}, new_model()
    options, start = (private if keeps else {}), evaluate(model, owners[1].train).loss
    plan = replace(PLAN, rounds=3, local=replace(LOCAL, epochs=2))
    history = run(model, trains_of(owners), strategy, plan, client_states=states, **options)
    assert not history[-1].left_out
    scored, shared, own = getattr(model, "scores_tokens", False), of_model(model), []
    for client, owner in enumerate(owners):
        own.append(own_weights(shared, states[client], owner.train, scored))
        model.load_state_dict(own[-1])
        assert evaluate(model, owner.test)["examples"] == owner.test.asked
    assert differ(own[0], own[1])
    assert differ(own[0], shared)
    model.load_state_dict(own[1])
    assert evaluate(model, owners[1].train).loss < start


def test_fine_tuning_keeps_what_is_best_on_validation(glucose, keyboards):
    for new_model, owner in ((series_model, glucose[2]), (tied_model, keyboards[0])):
        model, start = new_model(), of_model(new_model())
        tuned = fine_tune(model, start, owner.train, LOCAL, 3, validation=owner.validation)
        model.load_state_dict(start)
        before = evaluate(model, owner.validation).loss
        model.load_state_dict(tuned.weights)
        assert evaluate(model, owner.validation).loss < before
        assert tuned.epochs > 0


# Privacy


def test_patients_are_protected_and_the_account_is_kept(glucose):
    strategy = strategies.private(clip=0.5, noise_multiplier=1.0)
    history = run(series_model(), trains_of(glucose), strategy, replace(PLAN, clients_per_round=4))
    first, second = history.to_frame()["epsilon"]
    assert 0 < first < second < math.inf


def test_one_window_of_a_patient_is_protected_by_its_own_epsilon(glucose):
    strategy = strategies.dp_sgd(clip=1.0, noise_multiplier=0.8)
    data = glucose[0].train
    history = run(series_model(), trains_of(glucose[:2]), strategy, PLAN)
    assert not history[1].left_out
    assert 0 < strategy.private.epsilon(len(data), LOCAL, rounds=2) < math.inf


def test_noise_for_each_example_reaches_every_word(keyboards):
    """Which rows move would name the words: the whole table does, and every word is scored."""
    model = tied_model()
    before = of_model(model)["embedding.weight"]
    run(model, trains_of(keyboards[:1]), strategies.dp_sgd(1.0, 1.0), replace(PLAN, rounds=1))
    assert (of_model(model)["embedding.weight"] != before).any(1).all()


@pytest.mark.parametrize("kind", ["glucose", "keyboards"])
def test_a_secure_sum_is_the_mean_but_for_rounding(kind, request):
    owners = request.getfixturevalue(kind)[:3]
    most = max(owner.train.asked for owner in owners)
    secure = SecureSum(32, clip=2.0, most_examples=most)
    ends = []
    for options in ({"secure": secure}, {"codec": make_codec("dense")}):
        model = tied_model() if kind == "keyboards" else series_model()
        history = run(model, trains_of(owners), strategies.fedavg(), PLAN, **options)
        assert not history[1].left_out
        ends.append(of_model(model))
    for name, tensor in ends[0].items():
        torch.testing.assert_close(tensor, ends[1][name], atol=1e-4, rtol=0)
    assert differ(*ends)


def test_a_secure_sum_over_more_than_was_said_leaves_its_owner_out(glucose):
    """What counts are the targets that are asked, some hundreds, not the windows."""
    data = trains_of(glucose[:3])
    least = SecureSum(32, clip=2.0, most_examples=max(len(part) for part in data))
    with pytest.raises(NoUpdateLeft, match="examples: got 306, expected 0 to 13, the most of one"):
        run(series_model(), data, strategies.fedavg(), PLAN, secure=least)


# Smaller models


@pytest.mark.parametrize("kind", ["glucose", "keyboards"])
def test_a_rounded_model_learns_and_answers_nearly_as_its_own(kind, request):
    owner = request.getfixturevalue(kind)[0]
    model = tied_model() if kind == "keyboards" else series_model()
    near = predict(Rounded(model, 8), owner.test) - predict(model, owner.test)
    assert 0 < near.abs().max() < 0.05
    before = evaluate(Rounded(model, 4), owner.train).loss
    train(Rounded(model, 4), owner.train, replace(LOCAL, epochs=4))
    assert evaluate(Rounded(model, 4), owner.train).loss < before


@pytest.mark.parametrize("kind", ["glucose", "keyboards"])
def test_pruned_weights_stay_zero(kind, request):
    owner = request.getfixturevalue(kind)[0]
    model = tied_model() if kind == "keyboards" else series_model()
    masks = smallest_masks(model, 0.5)
    train(model, owner.train, LOCAL, hooks=keep_pruned(masks))
    for name, mask in masks.items():
        assert (model.get_parameter(name)[~mask] == 0).all()


SHRINKS = {
    "units": lambda model: keep_units(model, [0, 1]),
    "their sizes": unit_sizes,
    "a narrow table": lambda model: narrow_embedding(model, 2),
    "factors": lambda model: factor_recurrent(model, 2),
    "fewer words": lambda model: trim_model(model, 9),
}


@pytest.mark.parametrize("shrink", SHRINKS.values(), ids=SHRINKS)
@pytest.mark.parametrize("make", [series_model, tied_model])
def test_what_knows_one_model_refuses_others_by_name(shrink, make):
    with pytest.raises(ValueError, match=r"model: got .*, expected a SentimentLSTM with one"):
        shrink(make())


def test_a_keyboard_fits_into_a_file_and_a_series_is_refused_by_name():
    assert to_onnx(tied_model(), None, bits=8).SerializeToString()
    with pytest.raises(ValueError, match=r"got SeriesRNN.* a SentimentLSTM or Tied"):
        to_onnx(series_model(), None)


@pytest.mark.parametrize("kind", ["glucose", "keyboards"])
def test_a_teacher_answers_with_classes(kind, request):
    owner = request.getfixturevalue(kind)[0]
    model = tied_model() if kind == "keyboards" else series_model()
    answers, before = predict(model, owner.test), of_model(model)
    for attempt in (
        lambda: taught(owner.test, answers[..., 0] if answers.dim() == 2 else answers),
        lambda: agreement(model, answers[..., 0] if answers.dim() == 2 else answers, owner.test),
    ):
        with pytest.raises(ValueError, match=r"logits: got \(.*expected \(N, C\) of at least 2"):
            attempt()
    with pytest.raises(ValueError, match="distillation_rounds: needs a class for each example"):
        next(distillation_rounds([model], [owner.train], owner.test, PLAN))
    assert not differ(before, of_model(model))


# A whole course of events


def test_a_run_of_risks_learns_who_will_default(banks):
    model, data = SeriesRNN(credit.FEATURES, 6, seed=0), trains_of(banks)
    plan = Plan(12, local=LocalConfig(2, 8, 0.02), workers=1)
    *_, record = rounds(model, data, strategies.fedadam(), plan, test=banks[0].test)
    assert record.metrics["auc"] > 0.9
