"""Each check of notebook 07 passes the right answer and has a hint for typical wrong ones."""

import math

import numpy as np
import pytest
import torch
from verdicts import refused

from fedlab_helpers import strategies
from fedlab_helpers.core.messages import Update
from fedlab_helpers.lessons.checks import strategies as checks
from fedlab_helpers.lessons.runs import Run
from fedlab_helpers.recipe import Recipe, Result
from fedlab_helpers.strategies import robust


def test_overrun():
    share = math.prod((10 - i) / (20 - i) for i in range(4))  # each in turn gets a seat
    assert checks.overrun(share).passed
    for rounded in (0.0433, 0.043, 0.04):
        assert checks.overrun(rounded).passed
    refused(checks.overrun(0.05), "0.05")
    refused(checks.overrun(100 * share), "percent")
    refused(checks.overrun(0.0625), "independently")
    refused(checks.overrun(0.121), "anew")
    refused(checks.overrun(0.5), "0.5", "cohorts")
    refused(checks.overrun(1 - share), "not")
    refused(checks.overrun("a tenth"), "number")
    for form in (np.float32, torch.tensor, lambda value: np.array([value])):
        assert checks.overrun(form(share)).passed


def nova(updates, steps, examples):
    n = sum(examples)
    per_step = sum(e / n * u / s for u, s, e in zip(updates, steps, examples, strict=True))
    return per_step * sum(e / n * s for s, e in zip(steps, examples, strict=True))


def average(updates, examples):
    return sum(e * u for u, e in zip(updates, examples, strict=True)) / sum(examples)


def test_fednova():
    assert checks.fednova(nova).passed

    def by_helper(updates, steps, examples):
        sent = (
            Update(k, {"w": u}, {}, e, s, (1.0,))
            for k, (u, s, e) in enumerate(zip(updates, steps, examples, strict=True))
        )
        return strategies.fednova().combine({"w": torch.zeros(2)}, sent)["w"]

    assert checks.fednova(by_helper).passed
    refused(checks.fednova(lambda u, s, e: average(u, e)), "FedAvg's mean")
    plain = lambda u, s, e: nova(u, s, e) / average(s, e) * sum(s) / len(s)  # noqa: E731
    refused(checks.fednova(plain), "mean by examples")
    refused(checks.fednova(lambda u, s, e: nova(u, s, e) / average(s, e)), "How many steps")
    common = lambda u, s, e: average(u, e) * average(s, e) / (sum(s) / len(s))  # noqa: E731
    refused(checks.fednova(common), "its own steps")
    refused(checks.fednova(lambda u, s, e: None), "return")
    refused(checks.fednova(lambda u, s, e: sum(u) / len(u)), "plain mean")
    assert checks.fednova(lambda u, s, e: nova(u, s, e).numpy()).passed
    assert checks.fednova(lambda u, s, e: nova([x.double() for x in u], s, e).tolist()).passed
    refused(checks.fednova(lambda u, s, e: u[0]), "by examples")
    wild = lambda u, s, e: average(u, e) * s[0] / s[1]  # noqa: E731
    refused(checks.fednova(wild), "2 and 8 steps")


def trimmed(updates, share):
    cut = int(share * len(updates))
    return updates.sort(dim=0).values[cut : len(updates) - cut].mean(0)


def test_trimmed_mean():
    assert checks.trimmed_mean(trimmed).passed

    def by_helper(updates, share):
        sent = (Update(k, {"w": u}, {}, 1, 1, (1.0,)) for k, u in enumerate(updates))
        return robust.TrimmedMean(share)({"w": torch.zeros(3)}, sent)["w"]

    assert checks.trimmed_mean(by_helper).passed
    refused(checks.trimmed_mean(lambda u, s: u.mean(0)), "plain mean")
    refused(checks.trimmed_mean(lambda u, s: u[1:-1].mean(0)), "client")
    refused(checks.trimmed_mean(lambda u, s: u.sort(dim=0).values[1:].mean(0)), "too far up")
    refused(checks.trimmed_mean(lambda u, s: u.median(0).values), "median")
    refused(checks.trimmed_mean(lambda u, s: u.mean()), "shape")
    refused(checks.trimmed_mean(lambda u, s: u.sort(dim=0).values[:-1].mean(0)), "too far down")
    refused(checks.trimmed_mean(lambda u, s: u.sort(dim=1).values[1:-1].mean(0)), "dim=1")
    refused(checks.trimmed_mean(lambda u, s: u.sort(dim=1).values[:, 1:-1].mean(1)), "dim=0")
    refused(checks.trimmed_mean(lambda u, s: u.sort(dim=0).values[1:-1].sum(0)), "sum")
    refused(checks.trimmed_mean(lambda u, s: u.sort(dim=0).values[1:-1].sum(0) / 5), "left")
    assert checks.trimmed_mean(lambda u, s: trimmed(u.double(), s).numpy()).passed
    assert checks.trimmed_mean(lambda u, s: trimmed(u, s).tolist()).passed
    refused(checks.trimmed_mean(lambda u, s: None), "return")
    refused(checks.trimmed_mean(lambda u, s: torch.zeros(3)), "expected")
    refused(checks.trimmed_mean(lambda u, s: trimmed(u, 0.2)), "share of 0")
    refused(
        checks.trimmed_mean(lambda u, s: trimmed(u, math.ceil(s * 5) / 5 + 1e-9)), "round it down"
    )


def by_seed(table, name):
    return table[table["strategy"] == name].set_index("seed")["accuracy"]


def paired(table, a, b):
    difference = by_seed(table, a) - by_seed(table, b)
    return difference.mean(), difference.sem()


def test_paired():
    assert checks.paired(paired).passed
    refused(checks.paired(lambda t, a, b: paired(t, b, a)), "sign")
    refused(checks.paired(lambda t, a, b: (0.5, 0.1)), "0.5000")
    refused(checks.paired(lambda t, a, b: None), "return")

    def error(of):
        def wrongly(table, a, b):
            difference = by_seed(table, a) - by_seed(table, b)
            return difference.mean(), of(difference, by_seed(table, a))

        return checks.paired(wrongly)

    refused(error(lambda d, a: d.std()), "surer")
    refused(error(lambda d, a: d.std(ddof=0)), "n - 1")
    refused(error(lambda d, a: d.std(ddof=0) / 3**0.5), "n - 1")
    refused(error(lambda d, a: a.sem()), "same seed")
    refused(error(lambda d, a: 0.001), "over √3")

    def by_place(table, a, b):  # rows that are not of the same seed
        a, b = (table[table["strategy"] == name]["accuracy"].to_numpy() for name in (a, b))
        return (a - b).mean(), (a - b).std(ddof=1) / 3**0.5

    refused(checks.paired(by_place), "same seed")

    def by_index(table, a, b):  # pandas finds no row that both have
        a, b = (table[table["strategy"] == name]["accuracy"] for name in (a, b))
        return (a - b).mean(), (a - b).sem()

    refused(checks.paired(by_index), "index")
    refused(checks.paired(lambda t, a, b: paired(t, a, b)[0]), "two numbers")
    mixed = lambda t, a, b: (100 * paired(t, a, b)[0], paired(t, a, b)[1])  # noqa: E731
    refused(checks.paired(mixed), "one unit")
    assert checks.paired(lambda t, a, b: [100 * value for value in paired(t, a, b)]).passed
    assert checks.paired(lambda t, a, b: np.array(paired(t, a, b))).passed
    assert checks.paired(lambda t, a, b: torch.tensor(paired(t, a, b), dtype=torch.double)).passed


def run(*accuracies, state="finished", **settings) -> Run:
    chosen = {"partition": "iid", "attack": "sign", "attackers": 0.3, "rounds": 8} | settings
    results = tuple(Result(i, {"accuracy": a}) for i, a in enumerate(accuracies))
    return Run(1, Recipe(**chosen), results, state)


def test_stands_attack():
    assert checks.stands_attack(run(0.5, 0.77, 0.72, 0.78)).passed
    refused(checks.stands_attack(run(0.9, 0.5, 0.5, 0.5)), "decide")
    refused(checks.stands_attack(run(0.9, 0.9, 0.64)), "each")
    refused(checks.stands_attack(run(0.9, 0.9, 0.9, attackers=0.1)), "0.1")
    refused(checks.stands_attack(run(0.9, 0.9, 0.9, attack="nan")), "nan")
    refused(checks.stands_attack(run(0.9, 0.9, 0.9, partition="quantity")), "quantity")
    refused(checks.stands_attack(run(0.9, 0.9, 0.9, rounds=9)), "8 rounds")
    refused(checks.stands_attack(run(0.9, 0.9, 0.9, state="stopped")), "stopped")
    refused(checks.stands_attack("run"), "str")
    refused(checks.stands_attack([run(0.9, 0.9, 0.9)]), "list")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"strategy": "median", "cohort": 20}, "stands 9 liars, and a cohort never has more"),
        ({"strategy": "krum", "parameters": {"f": 6}, "cohort": 20}, "never has more"),
        ({"strategy": "krum", "parameters": {"f": 3, "keep": 4}}, "in 31% of the rounds"),
        ({"strategy": "median"}, "in 7% of the rounds"),
        ({"strategy": "norm_clipping"}, "No bound"),
    ],
)
def test_what_stands_an_attack_is_told_its_bound(settings, told):
    verdict = checks.stands_attack(run(0.8, 0.8, 0.8, **settings))
    assert verdict.passed
    assert told in verdict.message


def near_the_crowd(updates):
    """The mean of the updates, each moved to within the median distance of the median."""
    middle = updates.median(dim=0).values
    away = updates - middle
    lengths = away.norm(dim=1, keepdim=True)
    limit = lengths.median()
    return middle + (away * (limit / lengths.clamp(min=limit + 1e-9))).mean(0)


def no_longer_than_most(updates):
    """The mean of the updates, each cut to the median length."""
    lengths = updates.norm(dim=1, keepdim=True)
    return (updates * (lengths.median() / lengths).clamp(max=1)).mean(0)


RIGHT = [
    near_the_crowd,
    no_longer_than_most,
    lambda u: u.median(0).values,
    lambda u: trimmed(u, 0.2),
]
RIGHT += [lambda u: trimmed(u, 0.2).double().numpy(), lambda u: trimmed(u, 0.2).tolist()]


@pytest.mark.parametrize("function", RIGHT)
def test_many_combinations_stand_one_liar(function):
    assert checks.own_combination(function).passed, checks.own_combination(function)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda u: u.mean(0), "one client of nine"),
        (lambda u: u.sum(0), "all agree"),
        (lambda u: u[0], "order"),
        (lambda u: (u / u.norm(dim=1, keepdim=True).clamp(min=1)).mean(0), "from the crowd"),
        (lambda u: u.sort(dim=0).values[1:].mean(0), "one client of nine"),
        (lambda u: u.max(0).values, "farther than any"),
        (lambda u: u.mean(1), "shape"),
        (lambda u: u.mean(0) / 0, "finite"),
        (lambda u: torch.zeros(4), "all agree"),
        (lambda u: None, "return"),
        (lambda u: "mean", "str"),
    ],
)
def test_a_combination_that_does_not_is_told_why(function, told):
    refused(checks.own_combination(function), told)
