"""Each check of notebook 04 passes every right answer and has a hint for typical wrong ones."""

from math import inf

import numpy as np
import pytest
import torch
from verdicts import refused

from fedlab_helpers.core import state
from fedlab_helpers.lessons.checks import averaging as checks


@pytest.mark.parametrize(
    "answer",
    [293 / 350, 0.837, np.float32(0.837), np.float64(293 / 350), torch.tensor(293 / 350), 83.7],
)
def test_pooled_accuracy_passes(answer):
    assert checks.pooled_accuracy(answer).passed


def test_pooled_accuracy_has_hints():
    refused(checks.pooled_accuracy((0.9 + 0.5 + 0.3) / 3), "mean of the three")
    refused(checks.pooled_accuracy(293), "of how many")
    refused(checks.pooled_accuracy(0.84), "three digits")
    for answer in (0.5, 0.9, 350, 56.7, "0.837"):
        refused(checks.pooled_accuracy(answer))


def cut(mean, others=((3.0, 50),), same=1e-5, whole=300, pieces=(100, 200), answer=bool):
    """Return whether a mean is as before when a client is cut; one thing may be wrong."""
    a = {"w": torch.tensor([0.1, 1.7])}
    rest = [{"w": torch.tensor([value, -value])} for value, _ in others]
    sizes = [size for _, size in others]
    before = mean([a, *rest], [whole, *sizes])
    after = mean([a] * len(pieces) + rest, [*pieces, *sizes])
    return answer((before["w"] - after["w"]).abs().max() <= same)


def knows_the_mean(mean):
    """Return whether a mean is right, without cutting a client."""
    got = mean([{"w": torch.tensor([1.0])}, {"w": torch.tensor([4.0])}], [300, 100])["w"]
    return abs(got.item() - 1.75) < 1e-5


@pytest.mark.parametrize("answer", [bool, np.bool_, torch.as_tensor])
def test_counts_reviews_passes(answer):
    assert checks.counts_reviews(lambda mean: cut(mean, answer=answer)).passed
    assert checks.counts_reviews(lambda mean: cut(mean, others=[(3.0, 500), (9.0, 70)])).passed


def test_counts_reviews_has_hints():
    refused(checks.counts_reviews(lambda mean: True), "the plain mean", "other clients")
    refused(checks.counts_reviews(lambda mean: False), "the weighted mean", "False")
    refused(checks.counts_reviews(lambda mean: cut(mean, others=[])), "other clients")
    refused(checks.counts_reviews(lambda mean: cut(mean, others=[(0.1, 50)], same=9)), "other")
    refused(checks.counts_reviews(lambda mean: cut(mean, pieces=(100, 100))), "still there")
    refused(checks.counts_reviews(lambda mean: cut(mean, same=-1)), "rounding")
    exact = {"whole": 256, "pieces": (64, 192), "others": [(3.0, 256)], "same": 0.0}
    refused(checks.counts_reviews(lambda mean: cut(mean, **exact)), "rounding")
    refused(checks.counts_reviews(knows_the_mean), "Cut a client")
    refused(checks.counts_reviews(lambda mean: mean([{"w": 1.0}], [1])), "raised")
    refused(checks.counts_reviews(lambda mean: "yes"), "True or False")


def rowwise(weigh=float, least=1e-12, diluted=False, kind=torch.float32):
    """Return a mean of rows in which one thing may be wrong."""

    def mean(changes, rows, weights, n_rows):
        total, weight = torch.zeros(n_rows, 2, dtype=kind), torch.zeros(n_rows, 1, dtype=kind)
        for change, touched, w in zip(changes, rows, map(weigh, weights), strict=True):
            total[touched] += w * change
            weight[touched] += w
        return total / (sum(weights) if diluted else weight.clamp(min=least))

    return mean


def last_one_wins(changes, rows, weights, n_rows):
    total = torch.zeros(n_rows, changes[0].shape[1])
    for change, touched in zip(changes, rows, strict=True):
        total[touched] = change
    return total


@pytest.mark.parametrize("form", [torch.as_tensor, np.asarray, torch.Tensor.tolist])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_rowwise_mean_passes(form, kind):
    assert checks.rowwise_mean(lambda *given: form(rowwise(kind=kind)(*given))).passed


def test_rowwise_mean_has_hints():
    refused(checks.rowwise_mean(rowwise(diluted=True)), "plain FedAvg")
    refused(checks.rowwise_mean(rowwise(weigh=lambda w: 1.0)), "do not weigh the same")
    refused(checks.rowwise_mean(rowwise(least=0)), "NaN")
    refused(checks.rowwise_mean(last_one_wins), "row 1 is")
    refused(checks.rowwise_mean(lambda c, r, w, n: c[0]), "5 rows")
    refused(checks.rowwise_mean(lambda c, r, w, n: None), "None")


@pytest.mark.parametrize(
    "right",
    [
        lambda change: change.any(1).nonzero().flatten(),
        lambda change: change.any(1).nonzero().flatten().tolist(),
        lambda change: np.flatnonzero(change.numpy().any(1)),
        lambda change: torch.where(change.abs().sum(1) > 0)[0].int(),
        lambda change: set(change.nonzero()[:, 0].tolist()),
        lambda change: [row for row in change.any(1).nonzero()[:, 0]],  # noqa: C416
    ],
)
def test_rows_in_passes(right):
    assert checks.rows_in(right).passed


def test_rows_in_has_hints():
    refused(checks.rows_in(lambda change: change.any(1)), "ids of the marked rows")
    refused(checks.rows_in(lambda change: change.any(1).numpy()), "ids of the marked rows")
    refused(checks.rows_in(lambda change: change.any(1).int()), "ids of the marked rows")
    refused(checks.rows_in(lambda change: change.nonzero()), "its row and its column")
    refused(checks.rows_in(lambda change: list(change.nonzero())), "its row and its column")
    refused(checks.rows_in(lambda change: change.nonzero()[:, 0]), "more than once")
    refused(checks.rows_in(lambda change: change.sum(1).nonzero().flatten()), "sum to 0")
    refused(checks.rows_in(lambda change: (change > 0).any(1).nonzero().flatten()), "tiny")
    refused(checks.rows_in(lambda change: (change == 0).any(1).nonzero().flatten()), "row")
    refused(checks.rows_in(lambda change: range(len(change))), "row 0")
    refused(checks.rows_in(lambda change: [1.5]), "whole numbers")
    refused(checks.rows_in(lambda change: 3), "raised TypeError")


def stacked(reduce):
    """Return a rule that reduces each weight by itself, (5, …) -> (…)."""

    def rule(states, weights):
        return {n: reduce(torch.stack([s[n] for s in states])) for n in states[0]}

    return rule


def trimmed(values):
    return values.sort(0).values[1:-1].mean(0)  # NaN sorts to the end


def nearest_to_all(states, weights):
    """Return the state whose distances to the others have the smallest median."""
    flat = torch.stack([state.flatten(s) for s in states]).double().nan_to_num(1e9, 1e9, -1e9)
    return states[int(torch.cdist(flat, flat).nanmedian(1).values.argmin())]


@pytest.mark.parametrize(
    "rule",
    [
        stacked(lambda values: values.nanmedian(0).values),
        stacked(trimmed),
        stacked(lambda values: trimmed(values.double()).numpy()),
    ],
)
def test_my_rule_passes(rule):
    assert checks.my_rule(rule).passed


def writes_into(states, weights):
    for s in states:
        s["bias"].zero_()
    return states[0]


def without_huge(states, weights):
    """Return the mean of the states that have no value over 100."""
    fine = [s for s in states if state.flatten(s).abs().nan_to_num(inf).max() <= 100]
    return state.weighted_mean(fine, [1] * len(fine))


def without_longest(states, weights):
    """Return the mean of all states but the longest."""
    lengths = [state.flatten(s).norm().nan_to_num(inf) for s in states]
    fine = [s for s, length in zip(states, lengths, strict=True) if length < max(lengths)]
    return state.weighted_mean(fine or states, [1] * len(fine or states))


def test_my_rule_has_hints():
    refused(checks.my_rule(nearest_to_all), "property 3", "but for one weight")
    refused(checks.my_rule(without_huge), "property 3", "5 everywhere")
    refused(checks.my_rule(without_longest), "property 3", "for one weight")
    refused(checks.my_rule(lambda s, w: state.weighted_mean(s, w)), "property 3", "range")
    refused(checks.my_rule(stacked(lambda values: values.median(0).values)), "nan")
    refused(checks.my_rule(stacked(lambda values: values.nansum(0))), "property 1")
    refused(checks.my_rule(stacked(lambda values: values.clamp(-9, 9).mean(0))), "property 3")
    refused(checks.my_rule(lambda s, w: s[0]), "property 2")
    refused(checks.my_rule(writes_into), "property 4")
    refused(checks.my_rule(lambda s, w: s), "return a state")
    refused(checks.my_rule(stacked(lambda values: values)), "shape")
    refused(checks.my_rule(lambda s, w: {"table": s[0]["table"]}), "names")
