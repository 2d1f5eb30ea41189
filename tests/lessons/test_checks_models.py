"""The checks of notebook 15: right answers pass, mistakes get hints, stubs are not yet."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from verdicts import refused

from fedlab_helpers.lessons.checks import models as checks
from fedlab_helpers.tasks.layers import at_once, one_by_one


def min_gru(gates, candidates):
    return one_by_one(gates[None], candidates[None])[0]


def summed_gradient(clients, weights):
    return sum(x.T @ (expit(x @ weights) - y) for x, y in clients)


def ridge_from(sent, number):
    inner, outer = (sum(parts) for parts in zip(*sent, strict=True))
    return np.linalg.solve(inner + number * np.eye(len(outer)), outer)


def choose(models, most):
    fit = {n: m for n, m in models.items() if m[2] is not None and m[2] <= most}
    top, spread, _ = max(fit.values())  # ValueError where there is none
    return min((n for n in fit if fit[n][0] >= top - spread), key=lambda n: fit[n][2])


RIGHT = [
    (checks.min_gru, min_gru),
    (checks.min_gru, lambda z, c: at_once(z[None], c[None])[0].numpy()),
    (checks.min_gru, lambda z, c: [row.tolist() for row in min_gru(z, c)]),
    (checks.summed_gradient, summed_gradient),
    (checks.summed_gradient, lambda c, w: summed_gradient(c, w).tolist()),
    (checks.ridge_from, ridge_from),
    (checks.ridge_from, lambda sent, number: torch.from_numpy(ridge_from(sent, number))),
    (checks.choose, choose),
    (checks.drops, {"bag": 0.0, "gru": 2.5}),
    (checks.drops, {"gru": torch.tensor(-0.1), "bag": np.float64(0.03)}),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer):
    check(answer).require()


def in_place(gates, candidates):
    candidates[0] *= gates[0]
    return min_gru(gates, candidates)


def no_error(models, most):
    try:
        return choose(models, most)
    except ValueError:
        return next(iter(models))


def best_score(models, most):
    return max((m[0], n) for n, m in models.items() if m[2] is not None and m[2] <= most)[1]


def own_spread(models, most):
    fit = {n: m for n, m in models.items() if m[2] is not None and m[2] <= most}
    top = max(m[0] for m in fit.values())
    return min((n for n in fit if fit[n][0] >= top - fit[n][1]), key=lambda n: fit[n][2])


def second_only(models, most):
    fit = {n: m for n, m in models.items() if m[2] is not None and m[2] <= most}
    best, *others = sorted(fit, key=lambda n: -fit[n][0])
    first_two = {n: fit[n] for n in (best, *others[:1])}
    return choose(first_two, most)


WRONG = [
    (checks.min_gru, lambda z, c: min_gru(1 - z, c), "how much is *written*"),
    (checks.min_gru, lambda z, c: z * c, "nothing is kept"),
    (checks.min_gru, lambda z, c: min_gru(torch.cat([torch.ones_like(z[:1]), z[1:]]), c),
     "the state before the first step is 0"),
    (checks.min_gru, lambda z, c: min_gru(z, c)[-1], "one state a step"),
    (checks.min_gru, in_place, "changed what it was given"),
    (checks.summed_gradient,
     lambda c, w: summed_gradient(c, w) / sum(len(y) for _, y in c), "mean over examples"),
    (checks.summed_gradient, lambda c, w: -summed_gradient(c, w), "the other way round"),
    (checks.summed_gradient,
     lambda c, w: sum(x.T @ (x @ w - y) for x, y in c), "*probability*"),
    (checks.summed_gradient,
     lambda c, w: np.mean([x.T @ (expit(x @ w) - y) / len(y) for x, y in c], 0),
     "mean of the clients' means"),
    (checks.summed_gradient, lambda c, w: 1.0, "one number for each weight"),
    (checks.ridge_from, lambda sent, number: np.mean([ridge_from([s], number) for s in sent], 0),
     "mean of the clients' own solutions"),
    (checks.ridge_from, lambda sent, number: ridge_from(sent, 0), "the number is missing"),
    (checks.ridge_from, lambda sent, number: ridge_from(sent, number * len(sent)),
     "once, not once for each client"),
    (checks.ridge_from,
     lambda sent, n: np.linalg.solve(sum(a for a, _ in sent) + n, sum(b for _, b in sent)),
     "along the diagonal only"),
    (checks.choose, best_score, "'c' is within the ±"),
    (checks.choose, lambda models, most: max(models), "never reached the target"),
    (checks.choose, lambda models, most: min(models), "got 'a'"),
    (checks.choose, no_error, "raise a ValueError"),
    (checks.choose, lambda models, most: 3, "return the name"),
    (checks.choose, own_spread, "*best* one"),
    (checks.choose, second_only, "of *all*"),
    (checks.drops, {"bag": 0.0, "gru": 0.034}, "give points"),
    (checks.drops, {"bag": 0.0, "gru": -3.4}, "minus that on shuffled"),
    (checks.drops, {"bag": np.nan, "gru": 3.4}, "two numbers"),
    (checks.drops, {"bag": 1.5, "gru": 2.0}, "It cannot hear order"),
    (checks.drops, {"bag": 0.0, "gru": 300}, "give points"),
    (checks.drops, {"bag": 0.0}, "a dictionary with 'bag' and 'gru'"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_mistakes_get_a_hint(check, answer, hint):
    refused(check(answer), hint)


def stub(*_):
    raise NotImplementedError


@pytest.mark.parametrize(
    "check", [checks.min_gru, checks.summed_gradient, checks.ridge_from, checks.choose]
)
def test_stubs_are_not_yet(check):
    assert not check(stub).started
    assert not check(None).started
    assert not checks.drops(None).started
