"""The settings of a run: equal where runs are equal, back from JSON, explained where wrong."""

import json
import math
import re
import threading
from dataclasses import replace

import numpy as np
import pytest

from fedlab_helpers.compression import (
    Compressed,
    Everything,
    LowRank,
    RandomK,
    Sign,
    TopK,
    dense_size,
)
from fedlab_helpers.core import wire
from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.state import of_model
from fedlab_helpers.personal.methods import METHODS
from fedlab_helpers.recipe import (
    KEEPS,
    LOCAL,
    STRATEGIES,
    WRITES,
    Measure,
    Recipe,
    Result,
    make_strategy,
    measure_of,
)
from fedlab_helpers.strategies import fedadam, fedavg, fedprox
from fedlab_helpers.strategies.attacks import STRENGTHS, Hostile, attacked
from fedlab_helpers.studies.aggregation import CHOSEN
from fedlab_helpers.studies.contenders import CONTENDERS
from fedlab_helpers.tasks.reviews.task import DEALS

SMALL = {"partition": "iid", "clients": 6, "cohort": 4, "rounds": 2}
SENT = Recipe("rowwise", partition="iid", rounds=2, keep="everything")
OWN = Recipe(method="fedper", partition="by_domain", rounds=4, clients=6, cohort=4)


# Settings


def test_what_does_not_apply_makes_no_difference():
    assert Recipe(alpha=3.0, **SMALL) == Recipe(alpha=0.1, **SMALL)
    assert Recipe(attack="nan", **SMALL) == Recipe(attack="sign", **SMALL)
    assert Recipe("feddyn", server_rate=2.0) == Recipe("feddyn")
    assert Recipe("fedprox") == Recipe("fedprox", {"mu": 1e-4}, server_rate=1.0)
    assert Recipe(optimizer="sgd") == Recipe(optimizer="sgd", lr=LOCAL["sgd"].lr)
    assert Recipe(write="signs", squeeze=3, feedback=True, amount=0.1) == Recipe()
    assert replace(SENT, amount=0.1) == SENT
    assert replace(SENT, keep="topk", momentum=0.9) == replace(SENT, keep="topk", amount=0.01)
    assert replace(SENT, keep="sketch", feedback=True) == replace(SENT, keep="sketch")
    assert replace(SENT, write="ternary", feedback=True) == replace(SENT, write="ternary")
    assert replace(SENT, keep="lowrank", feedback=True, momentum=0.9).momentum == 0
    assert replace(SENT, keep="topk", feedback=True, momentum=0.9).momentum == 0.9
    assert (Recipe().strategy, OWN.strategy) == ("fedavg", "rowwise")
    assert replace(OWN, number=3.0) == OWN
    assert replace(OWN, method="ditto") == replace(OWN, method="ditto", number=10.0)
    assert Recipe(number=3.0) == Recipe()


def test_what_applies_makes_one():
    assert len({Recipe(alpha=3.0), Recipe(alpha=0.1), Recipe()}) == 3
    assert len({Recipe(attackers=0.2, attack=attack) for attack in STRENGTHS}) == len(STRENGTHS)
    assert Recipe(attackers=0.2) == Recipe(attackers=0.2, attack="sign")
    assert len({Recipe(keep=keep) for keep in ("dense", "touched_rows", *KEEPS)}) == 7
    assert len({Recipe(cell=cell) for cell in ("lstm", "gru", "rnn")}) == 3
    assert (Recipe().alpha, replace(OWN, partition="dirichlet").alpha) == (0.5, 0.3)


def test_the_parts_of_a_run_are_those_of_the_package(small_task):
    assert Recipe().new_strategy() == fedavg()
    assert Recipe("fedprox", {"mu": 0.1}).new_strategy() == fedprox(0.1)
    assert Recipe("fedadam", server_rate=0.5).new_strategy() == fedadam(0.5)
    qfedavg = Recipe("qfedavg", {"q": 2.0}, optimizer="sgd", lr=2.0)
    assert qfedavg.new_strategy().combine.lr == 2.0
    assert Recipe().plan().local == LOCAL["adam"]
    plan = Recipe(epochs=3, optimizer="sgd", lr=3.0, seed=4, rounds=7, cohort=5).plan()
    assert (plan.local.epochs, plan.local.optimizer, plan.local.lr) == (3, "sgd", 3.0)
    assert (plan.seed, plan.rounds, plan.clients_per_round) == (4, 7, 5)
    assert len(Recipe(clients=10, attackers=0.3).hostile()) == 3
    model = Recipe(cell="gru", embedding=5, hidden=3, pooling="last").new_model(small_task)
    assert model.embedding.weight.shape == (50, 5)
    assert model.recurrent.weight_hh_l0.shape == (9, 3)


def test_settings_make_the_codec_that_they_name():
    assert Recipe().new_codec() == wire.touched_rows()
    assert Recipe(keep="dense").new_codec() == wire.dense()
    assert SENT.new_codec() == Compressed() == Compressed(Everything())
    topk = replace(SENT, keep="topk", amount=0.05, write="signs", squeeze=19)
    codec = replace(topk, feedback=True, momentum=0.9).new_codec()
    assert (codec.codec, codec.momentum) == (Compressed(TopK(0.05), Sign(), 19), 0.9)
    random = replace(SENT, keep="randomk", amount=0.1)
    assert random.new_codec().keep == RandomK(0.1)
    assert replace(random, feedback=True).new_codec().codec.keep == RandomK(0.1, scaled=False)
    assert replace(SENT, keep="lowrank", amount=2).new_codec().keep == LowRank(2)
    assert replace(SENT, write="bits4").new_codec().write.stochastic is True
    nearest = replace(SENT, write="bits4", feedback=True).new_codec()
    assert nearest.codec.write.stochastic is False
    for keep in KEEPS:
        for write in WRITES:
            Recipe(keep=keep, write=write, feedback=True, momentum=0.9).new_codec()


@pytest.mark.parametrize("name", sorted(STRATEGIES.keys() & CHOSEN.keys()))
def test_each_strategy_is_offered_as_it_was_tuned(name):
    entry, tuned = STRATEGIES[name], CHOSEN[name].parameter
    defaults = [parameter.default for parameter in entry.parameters]
    if CONTENDERS[name].parameter == "server_rate":
        assert entry.server_rate == tuned
    elif tuned is not None:
        assert defaults == [tuned]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_name_alone_makes_the_strategy_that_a_recipe_makes(name):
    assert make_strategy(name, {}, 0.02) == Recipe(name).new_strategy()
    assert make_strategy("fedadam", {"server_rate": 0.5}, 0.02) == fedadam(0.5)
    with pytest.raises(ValueError, match=r"parameters: .*'nu'.* has"):
        make_strategy(name, {"nu": 3}, 0.02)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        *(({"attackers": 0.2, name: "best"}, f"{name}: got 'best', expected one of")
          for name in ("strategy", "optimizer", "partition", "attack", "keep", "write", "method",
                       "cell", "pooling")),
        ({"strategy": "fedprox", "parameters": {"nu": 1}}, r"got \['nu'\], fedprox has \['mu'"),
        ({"partition": "two_desks"}, "partition: got 'two_desks'"),
    ],
)  # fmt: skip
def test_unknown_names_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"partition": "iid"}, "partition: got 'iid'"),
        ({"rounds": 3}, "rounds: got 3, expected at least 4"),
        ({"strategy": "median"}, "strategy: got 'median', expected 'rowwise' with a personal"),
        ({"attackers": 0.2}, "attackers: got 0.2, expected 0"),
        ({"keep": "topk"}, "keep: got 'topk', expected 'touched_rows'"),
        ({"hidden": 32}, "hidden: got 32, expected 64"),
    ],
)
def test_what_a_personal_federation_does_not_offer_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        replace(OWN, **values)


# JSON


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        OWN,
        replace(OWN, method="ditto", number=math.inf),
        Recipe("krum", {"f": np.int64(3)}, attackers=np.float64(0.3), cell="gru", seed=4),
        replace(SENT, keep="topk", write="signs", squeeze=19, feedback=True, momentum=0.9),
    ],
    ids=lambda recipe: recipe.method or recipe.strategy,
)
def test_settings_come_back_equal_from_json(recipe):
    written = recipe.to_json()
    json.loads(written, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert Recipe.from_json(written) == recipe
    assert hash(Recipe.from_json(written)) == hash(recipe)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_comes_back_from_json(name):
    assert Recipe.from_json(Recipe(name).to_json()) == Recipe(name)


def test_json_of_anything_else_is_refused_by_name():
    values = json.loads(Recipe().to_json())
    lacking = {name: value for name, value in values.items() if name not in ("seed", "cell")}
    for odd, why in (
        (values | {"speed": 3}, r"unknown keys \['speed'\], missing keys \[\]"),
        (lacking, r"unknown keys \[\], missing keys \['cell', 'seed'\]"),
        (values | {"strategy": "best"}, "strategy: got 'best'"),
        ([], "recipe: not the JSON of one"),
        (None, "recipe: not the JSON of one"),
    ):
        with pytest.raises(ValueError, match=why):
            Recipe.from_json(json.dumps(odd))
    with pytest.raises(ValueError, match="recipe: not the JSON of one"):
        Recipe.from_json("{")


# What cannot be run


def test_alpha_matters_for_exactly_the_deals_that_say_so(small_task):
    def sizes(kind, alpha):
        return [p.tolist() for p in small_task.deal(kind, 4, numpy_rng(0), alpha)]

    assert {k for k in DEALS if sizes(k, 0.1) != sizes(k, 9.0)} == {
        kind for kind, deal in DEALS.items() if deal.uses_alpha
    }


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_runs_at_the_ends_of_its_ranges(name, small_task):
    for end in ("default", "low", "high"):
        own = {p.name: getattr(p, end) for p in STRATEGIES[name].parameters}
        if name == "krum":
            own = {"f": 1, "keep": 2}  # the others are for larger cohorts
        recipe = Recipe(name, own, **SMALL | {"cohort": 6, "rounds": 1})
        assert recipe.problem(small_task) is None
        assert recipe.run(small_task)[-1].settled


BAD = {
    "more clients than reviews": ({"clients": 300}, "partition"),
    "too few reviews each": ({"partition": "quantity", "clients": 20}, "at least 20 example"),
    "fewer clients than domains": ({"partition": "by_domain", "clients": 1}, "book.*hotel"),
    "alpha": ({"partition": "dirichlet", "alpha": 0.0}, "alpha: got 0.0"),
    "cohort": ({"cohort": 7}, "plan.*got 7, expected 1 to 6"),
    "rounds": ({"rounds": 0}, "plan.*rounds: got 0"),
    "epochs": ({"epochs": 0}, "epochs: got 0"),
    "rate": ({"lr": 0.0}, "plan.*lr: got 0"),
    "parameter": ({"strategy": "fedprox", "parameters": {"mu": -1}}, "strategy.*mu: got -1"),
    "server rate": ({"server_rate": -1.0}, "strategy.*server_rate: got -1"),
    "krum": ({"strategy": "krum", "parameters": {"f": 1}}, "cohort: got 4, expected at least 5"),
    "multi-krum": ({"strategy": "krum", "parameters": {"f": 0, "keep": 5}}, "at least 5 clients"),
    "amount": ({"keep": "topk", "amount": 3.0}, "codec.*got 3.0"),
    "dropout": ({"dropout": 1.0}, "model.*dropout: got 1.0"),
    "share": ({"attackers": 1.5}, "share: got 1.5"),
    "no attacker": ({"attackers": 0.05}, "5% of 6 clients is less than one"),
    "people": ({"strategy": "rowwise", "method": "tune", "partition": "by_domain", "rounds": 4,
                "clients": 500}, "partition"),
}  # fmt: skip


@pytest.mark.parametrize("change", BAD)
def test_what_cannot_be_run_is_told_by_its_part(change, small_task):
    changed, why = BAD[change]
    said = " ".join(Recipe(**SMALL | changed).problem(small_task))
    assert re.search(why, said), said


def test_an_attack_reaches_the_clients_it_says(small_task):
    clients = small_task.clients(Recipe(**SMALL).deal(small_task))
    data, transforms = attacked(clients, (1, 3), "flip_labels")
    assert [k for k in range(6) if not data[k].labels.equal(clients[k].labels)] == [1, 3]
    assert transforms == ()
    data, transforms = attacked(clients, (1, 3), "sign")
    assert (data, transforms) == (clients, (Hostile((1, 3), "sign", STRENGTHS["sign"]),))
    assert attacked(clients, (), "sign") == (clients, ())


# Runs


def test_a_result_counts_what_was_sent(small_task):
    untrained, first, second = SENT.run(small_task)
    assert (untrained.round, untrained.total_bytes, untrained.factor) == (0, 0, 1)
    assert [result.updates for result in (first, second)] == [10, 20]
    assert 0 < first.bytes_up < second.bytes_up
    assert second.factor == second.dense_bytes_up / second.bytes_up
    assert second.kilobytes == second.bytes_up / 20 / 1e3
    assert second.dense_bytes_up == 20 * dense_size(SENT.new_model(small_task))
    assert list(second.measures) == ["accuracy", "loss"]
    assert second.score == second.measures["accuracy"]
    assert [result.settled for result in (untrained, first, second)] == [False, False, True]


def test_the_dense_size_is_that_of_a_real_update(small_model):
    model = small_model()
    update = Update(3, of_model(model), {}, 57, 4, (0.6,))
    assert dense_size(model) == len(wire.pack(update, wire.dense(), of_model(model)))


def test_the_same_settings_give_the_same_results(small_task):
    recipe = replace(SENT, keep="topk", amount=0.05, write="bits2", feedback=True)
    once, again = (
        [replace(result, seconds=0.0) for result in recipe.run(small_task)] for _ in range(2)
    )
    assert once == again


def test_feedback_changes_what_is_learnt(small_task):
    recipe = replace(SENT, keep="topk", amount=0.01, rounds=4)
    plain, fed_back = (
        [result.measures for result in replace(recipe, feedback=on).run(small_task)]
        for on in (False, True)
    )
    assert plain[:2] == fed_back[:2]  # nobody has anything to remember yet
    assert plain != fed_back


def test_a_run_can_be_stopped(small_task):
    stop, seen = threading.Event(), []
    for result in replace(SENT, rounds=5).results(small_task, stop=stop):
        seen.append(result.round)
        if result.round:
            stop.set()
    assert seen == [0, 1]


def test_the_measure_is_that_of_the_objective(small_task):
    assert measure_of(small_task) == Measure("accuracy", True)

    class Number:
        measure, higher_is_better = "rmse", False

    class Series:
        validation = type("Examples", (), {"objective": Number})

    assert measure_of(Series) == Measure("rmse", False)


# Personal methods


@pytest.mark.parametrize("method", ["shared", "tune_head", "fedper", "ifca_mixed"])
def test_results_come_with_the_shared_model_first_and_then_client_by_client(method, small_task):
    federations = {}
    recipe = replace(OWN, method=method)
    seen = recipe.run(small_task, federations=federations)
    assert [result.round for result in seen[:2]] == [2, 4]
    assert not any(result.own for result in seen[:2])
    assert [len(result.own) for result in seen[2:8]] == list(range(1, 7))
    assert all(len(result.shared) == len(result.groups) == 6 for result in seen)
    assert (seen[-1].settled, seen[-1].round) == (True, 4)
    assert not any(result.settled for result in seen[:-1])
    assert seen[-1].total_bytes > seen[-1].bytes_up > 0
    assert seen[-1].score == pytest.approx(np.mean(seen[-1].own))
    if method == "shared":
        assert seen[-1].own == seen[-1].shared
    again = OWN.run(small_task, federations=federations)
    assert again[0].own  # the shared model is not trained again
    assert again == OWN.run(small_task)[2:]


def test_results_are_accuracies_on_validation_reviews_of_the_clients_kinds(small_task):
    recipe, federations = replace(OWN, method="shared"), {}
    last = recipe.run(small_task, federations=federations)[-1]
    (federation,) = federations.values()
    answer = federation.answer_of(federation.shared[4][0])
    right = (answer(small_task.validation).argmax(1) == small_task.validation.labels).numpy()
    domains = np.array([review.domain for review in small_task.validation_reviews])
    for member, accuracy, group in zip(federation.members, last.own, last.groups, strict=True):
        assert group == member.domain
        own = np.concatenate([member.train.labels, member.validation.labels])
        home = domains == member.domain
        expected = sum(
            (own == label).mean()
            * right[home & (small_task.validation.labels.numpy() == label)].mean()
            for label in np.unique(own)
        )
        assert accuracy == pytest.approx(expected)


def test_test_reviews_are_not_looked_at(small_task):
    blind = replace(small_task, test=None, test_reviews=())
    assert OWN.run(blind)[-1].settled


@pytest.mark.parametrize("method", ["shared", "tune", "fedper", "ifca", "per_fedavg"])
def test_a_personal_run_can_be_stopped_and_made_again(method, small_task):
    federations, stop, seen = {}, threading.Event(), []
    recipe = replace(OWN, method=method)
    for result in recipe.results(small_task, stop=stop, federations=federations):
        seen.append(result)
        stop.set()
    assert len(seen) == 1
    assert recipe.run(small_task, federations=federations) == recipe.run(small_task)


def test_fine_tuning_stops_between_two_clients(small_task):
    stop, seen = threading.Event(), []
    for result in replace(OWN, method="tune").results(small_task, stop=stop):
        seen.append(result)
        if len(result.own) == 3:
            stop.set()
    assert len(seen[-1].own) == 3
    assert not seen[-1].settled


def test_every_method_has_its_number_or_none():
    for name, method in METHODS.items():
        assert (replace(OWN, method=name).number is None) == (not method.tries), name


def test_a_result_of_nothing_sent_is_no_division_by_zero():
    assert (Result(0, {}).factor, Result(0, {}).kilobytes) == (1, 0)
