"""Checks of notebook 08: right answers pass, likely mistakes get their own hint."""

import pytest
import torch
from verdicts import refused

from fedlab_helpers.lessons.checks import personalization as checks
from fedlab_helpers.recipe import Result


def test_break_even():
    assert checks.break_even(25).passed
    refused(checks.break_even(5), "squared")
    refused(checks.break_even(100), "got 100")


def test_pulled():
    assert checks.pulled(lambda v, w, lam, lr: (v + lr * lam * w) / (1 + lr * lam)).passed
    refused(checks.pulled(lambda v, w, lam, lr: v - lr * lam * (v - w)), "beyond")
    refused(checks.pulled(lambda v, w, lam, lr: v + w), "expected [2.5, -1.0]")
    refused(checks.pulled(lambda v, w, lam, lr: (v + w) / 2), "lam = 0")
    close = lambda v, w, lam, lr: v - min(lr * lam, 1.0) / 2 * (v - w)  # noqa: E731
    refused(checks.pulled(close), "huge pull")
    refused(checks.pulled(lambda *_: None), "return")


def ifca(models, losses, changes, examples, *, weigh=True, over_all=False, empty=True):
    new = []
    for place, model in enumerate(models):
        takers = [k for k, row in enumerate(losses) if row.index(min(row)) == place]
        weights = [examples[k] if weigh else 1 for k in takers]
        total = sum(examples) if over_all else sum(weights)
        if not takers and empty:
            new.append(model)
            continue
        moved = sum((w * changes[k] for w, k in zip(weights, takers, strict=True)), 0 * model)
        new.append(model + moved / torch.tensor(float(total)))
    return new


def test_ifca():
    assert checks.ifca(ifca).passed
    refused(checks.ifca(lambda *a: ifca(*a, weigh=False)), "weigh them")
    refused(checks.ifca(lambda *a: ifca(*a, empty=False)), "nobody took the third")
    refused(checks.ifca(lambda *a: ifca(*a, over_all=True)), "divide by the examples")
    refused(checks.ifca(lambda *a: ifca(*a)[:2]), "list of three")
    refused(checks.ifca(lambda models, *_: models), "model 0")
    refused(checks.ifca(lambda *_: None), "return")


def gains(before, after, labels):
    def balanced(answers):
        rights = [(answers == labels)[labels == y].double().mean() for y in (0, 1)]
        return sum(rights) / 2

    gain = (after == labels).double().mean() - (before == labels).double().mean()
    return gain, balanced(after) - balanced(before)


def test_gains():
    assert checks.gains(gains).passed
    refused(checks.gains(lambda *a: (gains(*a)[0],) * 2), "each label by itself")
    refused(checks.gains(lambda *a: (-0.2, 0.1)), "a gain of 0.2")
    refused(checks.gains(lambda *a: (gains(*a)[0], 0.5)), "0.75")
    refused(checks.gains(lambda *_: None), "return")


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
    refused(checks.pays(result((0.9,) * 10)), "not how the run ended")
    refused(checks.pays(result((0.9,), groups=("hotel",), settled=True)), "two_desks")
    refused(checks.pays(0.9), "expected the last result")
    refused(checks.pays(Result(12, {"accuracy": 0.9}, settled=True)), "expected the last result")
