"""The settings of a run: equal where runs are equal, back from JSON, explained where wrong."""

import itertools
import json
import math
import re
import threading
from dataclasses import replace

import numpy as np
import pytest

from fedlab_helpers import compression as comp
from fedlab_helpers.compression.registry import KEEPS, WRITES
from fedlab_helpers.core import wire
from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.state import of_model
from fedlab_helpers.personal.methods import METHODS
from fedlab_helpers.recipe import LOCAL, STRATEGIES, Recipe, make_strategy
from fedlab_helpers.strategies import fedadam, fedavg, fedprox
from fedlab_helpers.strategies.attacks import STRENGTHS, Hostile, attacked
from fedlab_helpers.tasks.reviews.task import DEALS

ENDS = ("default", "low", "high")
SMALL = {"partition": "iid", "clients": 6, "cohort": 4, "rounds": 2}
SENT = Recipe("rowwise", keep="everything", **SMALL)
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
    def codec(**parts):
        return replace(SENT, **parts).new_codec()

    sent, fed_back = comp.Compressed, comp.WithFeedback
    assert codec(keep="touched_rows") == wire.touched_rows()
    assert codec(keep="dense") == wire.dense()
    assert codec() == sent()
    assert codec(keep="lowrank", amount=2) == sent(comp.LowRank(2))
    topk = {"keep": "topk", "amount": 0.05}
    assert codec(**topk, write="signs", squeeze=19) == sent(comp.TopK(0.05), comp.Sign(), 19)
    assert codec(**topk, feedback=True, momentum=0.9) == fed_back(sent(comp.TopK(0.05)), 0.9)
    random = {"keep": "randomk", "amount": 0.1}
    assert codec(**random) == sent(comp.RandomK(0.1))
    assert codec(**random, feedback=True) == fed_back(sent(comp.RandomK(0.1, scaled=False)))
    nearest = sent(write=comp.Quantized(4, stochastic=False))
    assert codec(write="bits4") == sent(write=comp.Quantized(4))
    assert codec(write="bits4", feedback=True) == fed_back(nearest)


def test_every_keep_goes_with_every_write():
    for keep, write in itertools.product(KEEPS, WRITES):
        Recipe(keep=keep, write=write, feedback=True, momentum=0.9).new_codec()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_name_alone_makes_the_strategy_that_a_recipe_makes(name):
    assert make_strategy(name, {}, 0.02) == Recipe(name).new_strategy()
    assert make_strategy("fedadam", {"server_rate": 0.5}, 0.02) == fedadam(0.5)
    with pytest.raises(ValueError, match=r"parameters: .*'nu'.* has"):
        make_strategy(name, {"nu": 3}, 0.02)


NAMED = "strategy optimizer partition attack keep write method cell pooling".split()


@pytest.mark.parametrize(
    ("recipe", "values", "message"),
    [
        *((Recipe(), {name: "best"}, f"{name}: got 'best', expected one of") for name in NAMED),
        (Recipe("fedprox"), {"parameters": {"nu": 1}}, r"got \['nu'\], .* of fedprox: \['mu'"),
        (Recipe(), {"partition": "two_desks"}, "partition: got 'two_desks'"),
        # What a personal method's federation does not offer.
        (OWN, {"partition": "iid"}, "partition: got 'iid'"),
        (OWN, {"rounds": 3}, "rounds: got 3, expected at least 4"),
        (OWN, {"strategy": "median"}, r"got 'median', expected one of \['rowwise'\] with a pers"),
        (OWN, {"attackers": 0.2}, r"attackers: got 0.2, expected one of \[0\]"),
        (OWN, {"keep": "topk"}, "keep: got 'topk', expected one of .'touched_rows'"),
        (OWN, {"hidden": 32}, r"hidden: got 32, expected one of \[64\]"),
    ],
)
def test_what_is_not_offered_is_refused(recipe, values, message):
    with pytest.raises(ValueError, match=message):
        replace(recipe, **values)


# JSON


@pytest.mark.parametrize(
    "recipe",
    [
        *map(Recipe, STRATEGIES),
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


def test_json_that_was_written_before_is_still_read():
    written = (
        '{"strategy": "fedprox", "parameters": {"mu": 0.1}, "server_rate": 1.0, "optimizer": '
        '"adam", "lr": 0.02, "epochs": 1, "partition": "iid", "alpha": null, "clients": 20, '
        '"cohort": 10, "attackers": 0.0, "attack": null, "rounds": 15, "seed": 0, "keep": '
        '"touched_rows", "amount": null, "write": null, "squeeze": null, "feedback": false, '
        '"momentum": 0.0, "method": null, "number": null, "cell": "lstm", "pooling": "mean", '
        '"embedding": 64, "hidden": 64, "dropout": 0.3}'
    )
    recipe = Recipe("fedprox", {"mu": 0.1}, partition="iid")
    assert (Recipe.from_json(written), recipe.to_json()) == (recipe, written)


def test_json_of_anything_else_is_refused_by_name():
    values = json.loads(Recipe().to_json())
    lacking = {name: value for name, value in values.items() if name not in ("seed", "cell")}
    for odd, why in (
        (json.dumps(values | {"speed": 3}), r"keys: got \['speed'\]"),
        (json.dumps(lacking), r"keys: got \['cell', 'seed'\]"),
        (json.dumps(values | {"strategy": "best"}), "strategy: got 'best'"),
        *((text, "recipe: not the JSON of one") for text in ("[]", "null", "{")),
    ):
        with pytest.raises(ValueError, match=why):
            Recipe.from_json(odd)


# What cannot be run


def test_alpha_matters_for_exactly_the_deals_that_say_so(small_task):
    def sizes(kind, alpha):
        return [p.tolist() for p in small_task.deal(kind, 4, numpy_rng(0), alpha)]

    assert {k for k in DEALS if sizes(k, 0.1) != sizes(k, 9.0)} == {
        kind for kind, deal in DEALS.items() if deal.uses_alpha
    }


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_runs_at_the_ends_of_its_ranges(name, small_task):
    ends = [{p.name: getattr(p, end) for p in STRATEGIES[name].parameters} for end in ENDS]
    if name == "krum":
        ends = [{"f": 1, "keep": 2}]  # the others are for larger cohorts
    for recipe in {Recipe(name, own, **SMALL | {"cohort": 6, "rounds": 1}) for own in ends}:
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
    "rows of dense": ({"strategy": "rowwise", "keep": "dense"}, "codec.*to average row by row"),
    "dropout": ({"dropout": 1.0}, "model.*dropout: got 1.0"),
    "share": ({"attackers": 1.5}, "share: got 1.5"),
    "no attacker": ({"attackers": 0.05}, "got 0.05, expected at least one of 6 clients"),
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
    hostile = Hostile((1, 3), "sign", STRENGTHS["sign"])
    assert attacked(clients, (1, 3), "sign") == (clients, (hostile,))
    assert attacked(clients, (), "sign") == (clients, ())


# Runs


def test_a_result_counts_what_was_sent(small_task):
    untrained, first, second = SENT.run(small_task)
    assert (untrained.round, untrained.total_bytes) == (0, 0)
    assert (untrained.factor, untrained.kilobytes) == (1, 0)
    assert [result.updates for result in (first, second)] == [4, 8]
    assert 0 < first.bytes_up < second.bytes_up
    assert second.factor == second.dense_bytes_up / second.bytes_up
    assert second.kilobytes == second.bytes_up / 8 / 1e3
    assert second.dense_bytes_up == 8 * comp.dense_size(SENT.new_model(small_task))
    assert list(second.measures) == ["accuracy", "loss"]
    assert second.score == second.measures["accuracy"]
    assert [result.settled for result in (untrained, first, second)] == [False, False, True]


def test_what_the_server_refused_was_sent(small_task):
    recipe = Recipe(keep="dense", attackers=0.5, attack="nan", **SMALL | {"cohort": 6})
    last = recipe.run(small_task)[-1]
    assert (last.left_out, last.updates, last.factor) == (3, 12, 1.0)
    spoiled = replace(recipe, keep="topk").run(small_task)[-1]  # which cannot be written so
    assert (spoiled.left_out, spoiled.updates) == (3, 6)


def test_the_dense_size_is_that_of_a_real_update(small_model):
    weights = of_model(small_model())
    update = Update(3, weights, {}, 57, 4, (0.6,))
    assert comp.dense_size(small_model()) == len(wire.pack(update, wire.dense(), weights))


def test_the_same_settings_give_the_same_results_and_feedback_others(small_task):
    recipe = replace(SENT, keep="topk", amount=0.01, write="bits2", rounds=3, seed=1)
    recipes = (recipe, recipe, replace(recipe, feedback=True))
    once, again, fed_back = (
        [replace(result, seconds=0.0) for result in each.run(small_task)] for each in recipes
    )
    assert once == again
    assert once != fed_back


def test_a_run_can_be_stopped(small_task):
    stop, seen = threading.Event(), []
    for result in SENT.results(small_task, stop=stop):
        seen.append(result.round)
        if result.round:
            stop.set()
    assert seen == [0, 1]


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
    # The shared model is not trained again.
    assert recipe.run(small_task, federations=federations) == seen[2:]


def test_results_are_accuracies_on_validation_reviews_of_the_clients_kinds(small_task):
    recipe, federations = replace(OWN, method="shared"), {}
    last = recipe.run(small_task, federations=federations)[-1]
    (federation,) = federations.values()
    answer, labels = federation.answer_of(federation.shared[4][0]), small_task.validation.labels
    right = (answer(small_task.validation).argmax(1) == labels).numpy()
    domains = np.array([review.domain for review in small_task.validation_reviews])
    for member, accuracy, group in zip(federation.members, last.own, last.groups, strict=True):
        assert group == member.domain
        own = np.concatenate([member.train.labels, member.validation.labels])
        alike = [(domains == group) & (labels.numpy() == label) for label in (0, 1)]
        expected = sum((own == label).mean() * right[alike[label]].mean() for label in set(own))
        assert accuracy == pytest.approx(expected)


def test_test_reviews_are_not_looked_at(small_task):
    blind = replace(small_task, test=None, test_reviews=())
    assert OWN.run(blind)[-1].settled


@pytest.mark.parametrize("method", ["shared", "fedper", "per_fedavg"])
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
