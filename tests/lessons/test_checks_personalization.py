"""Checks of notebook 08: right answers pass in any form, likely mistakes get their own hint."""

import numpy as np
import pytest
import torch
from verdicts import refused

from fedlab_helpers.core.training import LocalConfig, evaluate, train
from fedlab_helpers.lessons.checks import personalization as checks
from fedlab_helpers.personal.fine_tuning import fine_tune
from fedlab_helpers.recipe import Result


@pytest.mark.parametrize("answer", [25, 25.0, 1 / 0.2**2, 26, np.int64(25), torch.tensor([25.0])])
def test_break_even(answer):
    assert checks.break_even(answer).passed


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (5, "squared"),
        (0.04, "other way round"),
        (0.2, "Δ / σ"),
        (24, "alone still errs more"),
        (100, "got 100"),
        (-25, "got -25"),
        ("25", "expected a number"),
        ([25, 26], "one number"),
    ],
)
def test_break_even_refuses(answer, hint):
    refused(checks.break_even(answer), hint)


def pulled(v, w, lam, lr):
    return (v + lr * lam * w) / (1 + lr * lam)


@pytest.mark.parametrize(
    "form", [lambda t: t, lambda t: t.double(), lambda t: t.numpy(), lambda t: t.tolist()]
)
def test_pulled(form):
    assert checks.pulled(lambda *given: form(pulled(*given))).passed
    assert checks.pulled(lambda v, w, lam, lr: v.lerp_(w, lr * lam / (1 + lr * lam))).passed


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda v, w, lam, lr: v - lr * lam * (v - w), "beyond"),
        (lambda v, w, lam, lr: (v + lam * w) / (1 + lam), "where is `lr`?"),
        (lambda v, w, lam, lr: (v + lr * w) / (1 + lr), "where is `lam`?"),
        (lambda v, w, lam, lr: pulled(w, v, lam, lr), "changed places"),
        (lambda v, w, lam, lr: pulled(v, w, lam, lr) - v, "only the change"),
        (lambda v, w, lam, lr: v + lr * lam * w, "divide by 1 + lr · lam"),
        (lambda v, w, lam, lr: v + w, "expected [2.2, -0.8]"),
        (lambda v, w, lam, lr: v - 0.6 * (v - w), "lam = 0"),
        (lambda v, w, lam, lr: v - min(lr * lam, 1.5) / 2.5 * (v - w), "huge pull"),
        (lambda v, w, lam, lr: pulled(v, w, lam, lr).sum(), "came back"),
        (lambda *_: "far", "expected a tensor like `own`"),
        (lambda *_: None, "return"),
    ],
)
def test_pulled_refuses(answer, hint):
    refused(checks.pulled(answer), hint)


def ifca(models, losses, changes, examples, *, weigh=True, over_all=False, empty=True, pick=min):
    new = []
    for place, model in enumerate(models):
        takers = [k for k, row in enumerate(losses) if row.index(pick(row)) == place]
        weights = [examples[k] if weigh else 1 for k in takers]
        total = sum(examples) if over_all else sum(weights)
        if not takers and empty:
            new.append(model)
            continue
        moved = sum((w * changes[k] for w, k in zip(weights, takers, strict=True)), 0 * model)
        new.append(model + moved / torch.tensor(float(total)))
    return new


@pytest.mark.parametrize(
    "form",
    [
        lambda new: new,
        torch.stack,
        lambda new: tuple(each.double() for each in new),
        lambda new: [each.numpy() for each in new],
        lambda new: np.array([each.tolist() for each in new]),
        lambda new: [each.tolist() for each in new],
    ],
)
def test_ifca(form):
    assert checks.ifca(lambda *given: form(ifca(*given))).passed


def summed(models, losses, changes, examples):
    picks = [row.index(min(row)) for row in losses]
    return [
        model + sum((changes[k] for k, pick in enumerate(picks) if pick == place), 0 * model)
        for place, model in enumerate(models)
    ]


def without_guard(models, losses, changes, examples):
    picks = [row.index(min(row)) for row in losses]
    totals = [sum(n for n, p in zip(examples, picks, strict=True) if p == j) for j in range(3)]
    return [model / (total / total) for model, total in zip(models, totals, strict=True)]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda *a: ifca(*a, weigh=False), "weigh them"),
        (lambda *a: ifca(*a, empty=False), "nobody took the third"),
        (without_guard, "nobody took the third"),
        (lambda *a: [*ifca(*a)[:2], torch.zeros(2)], "nobody took the third"),
        (lambda *a: ifca(*a, over_all=True), "took *this* model"),
        (lambda *a: ifca(*a, pick=max), "*lowest*"),
        (lambda *a: [n - m for n, m in zip(ifca(*a), a[0], strict=True)], "changes alone"),
        (summed, "sum of changes"),
        (
            lambda m, lo, c, n: summed(m, lo, [k * x for k, x in zip(n, c, strict=True)], n),
            "weighted sum",
        ),
        (
            lambda m, lo, c, n: [
                x + sum(k * y for k, y in zip(n, c, strict=True)) / sum(n) for x in m
            ],
            "not of everybody",
        ),
        (lambda *a: ifca(*a)[:2], "list of three"),
        (lambda *a: torch.cat(ifca(*a)), "list of three"),
        (lambda models, *_: models, "model 0"),
        (lambda *_: {}, "list of three"),
        (lambda *_: None, "return"),
    ],
)
def test_ifca_refuses(answer, hint):
    refused(checks.ifca(answer), hint)


def balanced(answers, labels):
    return sum((answers == labels)[labels == y].double().mean() for y in (0, 1)) / 2


def gains(before, after, labels):
    gain = (after == labels).double().mean() - (before == labels).double().mean()
    return gain, balanced(after, labels) - balanced(before, labels)


@pytest.mark.parametrize(
    "form",
    [
        lambda pair: pair,
        lambda pair: [float(value) for value in pair],
        lambda pair: np.array([float(value) for value in pair], dtype=np.float32),
        lambda pair: torch.stack(pair),
        lambda pair: tuple(100 * value for value in pair),  # points
    ],
)
def test_gains(form):
    assert checks.gains(lambda *given: form(gains(*given))).passed


def precision(answers, labels):
    rights = [(answers == labels)[answers == y].double() for y in (0, 1)]
    return sum(each.mean() for each in rights if len(each)) / 2


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda *a: (gains(*a)[0],) * 2, "each label by itself"),
        (lambda b, a, y: ((a == y).double().mean(), gains(b, a, y)[1]), "accuracy after"),
        (lambda b, a, y: gains(a, b, y), "the other way round"),
        (lambda b, a, y: (gains(b, a, y)[0], balanced(a, y)), "subtract the one before"),
        (lambda *a: (gains(*a)[0], 2 * gains(*a)[1]), "not their sum"),
        (lambda b, a, y: (gains(b, a, y)[0], precision(a, y) - precision(b, y)), "of the answers"),
        (lambda *a: (gains(*a)[0], -0.1), "0.75"),
        (lambda *a: (0.3, -0.25), "a gain of 0.2"),
        (lambda *a: gains(*a)[0], "two numbers"),
        (lambda *_: "many", "two numbers"),
        (lambda *_: None, "return"),
    ],
)
def test_gains_refuses(answer, hint):
    refused(checks.gains(answer), hint)


FINE = LocalConfig(lr=1e-2, batch_size=16)


def stopped(model, start, data, validation, seed):
    return fine_tune(model, start, data, FINE, 20, validation=validation, seed=seed)


def blended(model, start, data, validation, seed):
    """Go from the shared weights towards tuned ones as far as validation reviews like it."""
    own = fine_tune(model, start, data, FINE, 20, seed=seed).weights

    def between(share):
        return {name: start[name].lerp(own[name], share) for name in start}

    def loss(share):
        model.load_state_dict(between(share))
        return evaluate(model, validation).loss

    return between(min((0.0, 0.25, 0.5, 0.75, 1.0), key=loss))


def or_shared(model, start, data, validation, seed):
    """Train by hand, and keep that only if it is better."""
    model.load_state_dict(start)
    before = evaluate(model, validation).accuracy
    train(model, data, LocalConfig(12, 16, 2e-2), seed=seed)
    return start if evaluate(model, validation).accuracy < before else model.state_dict()


@pytest.mark.parametrize(
    "answer",
    [
        stopped,  # as it comes from the helper
        lambda *given: stopped(*given).weights,
        blended,
        or_shared,
        lambda *given: {name: t.double() for name, t in blended(*given).items()},
    ],
)
def test_a_method_of_ones_own(answer):
    assert checks.method(answer).passed


def calls_differ(model, start, data, validation, seed):
    calls_differ.seed += 1
    return stopped(model, start, data, validation, calls_differ.seed)


calls_differ.seed = 0


def spoils_start(model, start, data, validation, seed):
    weights = stopped(model, start, data, validation, seed).weights
    for name, value in weights.items():
        start[name].copy_(value)
    return weights


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda model, start, *_: start, "gains +0 points"),
        (lambda m, s, d, v, seed: fine_tune(m, s, d, FINE, 20, seed=seed), "mislabelled"),
        (lambda m, s, d, v, seed: fine_tune(m, s, v, FINE, 1, seed=seed), "long enough"),
        (lambda m, s, *_: {n: t for n, t in s.items() if n.startswith("head")}, "whole model"),
        (lambda m, s, *_: {n: torch.full_like(t, torch.nan) for n, t in s.items()}, "not finite"),
        (lambda *_: 0.8, "whole model"),
        (lambda m, *given: stopped(m, *given) and m, "whole model"),
        (lambda m, s, d, v, seed: fine_tune(m, s, v, FINE, 20, seed=seed), "to choose by"),
        (calls_differ, "two results"),
        (lambda *_: None, "whole model"),
    ],
)
def test_a_method_of_ones_own_refuses(answer, hint):
    refused(checks.method(answer), hint)


def test_a_method_must_leave_the_shared_weights_alone():
    refused(checks.method(spoils_start), "belongs to everybody")
    assert checks.method(stopped).passed  # the next try begins with sound ones
    assert checks.method(lambda *_: ...).message.startswith("expected weights")
    assert not checks.method(...).started


DESKS = ("price desk", "service desk") * 5


def result(own, **more):
    return Result(12, {}, shared=(0.7,) * len(own), own=own, **{"groups": DESKS} | more)


@pytest.mark.parametrize(
    ("own", "hint"),
    [
        ((0.78,) * 9 + (0.6,), None),
        ((0.85,) * 8 + (0.6,) * 2, "2 of 10 clients lose"),
        ((0.74,) * 10, "+4.0 points, 0 of 10"),
    ],
)
def test_pays(own, hint):
    verdict = checks.pays(result(own, settled=True))
    if hint:
        refused(verdict, hint, "Which part of the model")
    else:
        assert verdict.passed
        assert "1 of 10" in verdict.message


def test_pays_needs_the_last_result_of_such_a_run():
    last = result((0.9,) * 10, settled=True)
    refused(checks.pays((last,)), "take the last")
    refused(checks.pays(result((0.9,) * 10)), "not how the run ended")
    refused(checks.pays(result((0.9,), groups=("hotel",), settled=True)), "two_desks")
    refused(checks.pays(0.9), "expected the last result")
    refused(checks.pays([]), "expected the last result")
    refused(checks.pays(Result(12, {"accuracy": 0.9}, settled=True)), "expected the last result")
