"""Each check of notebook 06 passes the right answer and has a hint for typical wrong ones."""

import math

import torch
from verdicts import refused

from fedlab_helpers.core import state
from fedlab_helpers.core.history import History, RoundRecord
from fedlab_helpers.lessons.checks import differences as checks


def test_one_sided_bits():
    by_sum = 0.5 * math.log2(1 / 0.75) + 0.25 * math.log2(0.5 / 0.75) + 0.25 * math.log2(2)
    assert checks.one_sided_bits(by_sum).passed
    assert checks.one_sided_bits(0.31).passed
    refused(checks.one_sided_bits(1.0), "Kullback")
    refused(checks.one_sided_bits(by_sum * math.log(2)), "nats")
    refused(checks.one_sided_bits(2 * by_sum), "one half")
    refused(checks.one_sided_bits(0.5), "0.5", "1/4")


def cosine(start, a, b):
    a, b = (state.flatten(state.subtract(end, start)) for end in (a, b))
    return float(a @ b / (a.norm() * b.norm()))


def test_update_cosine():
    assert checks.update_cosine(cosine).passed
    zeros = {"a": torch.zeros(2), "b": torch.zeros(1, 1)}
    refused(checks.update_cosine(lambda s, a, b: cosine(zeros, a, b)), "weights")
    refused(checks.update_cosine(lambda s, a, b: abs(cosine(s, a, b))), "opposite")
    refused(checks.update_cosine(lambda s, a, b: 0.5), "0.5")


def seen(accuracy, counts):
    return sum(accuracy[kind] * n for kind, n in counts.items()) / sum(counts.values())


def test_seen_by():
    assert checks.seen_by(seen).passed
    refused(checks.seen_by(lambda a, c: sum(a[k] for k in c) / len(c)), "plain mean")
    refused(checks.seen_by(lambda a, c: sum(a.values()) / len(a)), "does not hold")
    refused(checks.seen_by(lambda a, c: sum(a[k] * n for k, n in c.items())), "of how many")
    refused(checks.seen_by(lambda a, c: None), "return")
    refused(checks.seen_by(lambda a, c: 0.6), "seven reviews")
    refused(checks.seen_by(lambda a, c: 0.1), "0.1")


def ends(strictness, wishes, lr, steps):
    pulls = [1 - (1 - lr * a) ** steps for a in strictness]
    return sum(p * c for p, c in zip(pulls, wishes, strict=True)) / sum(pulls)


def played(strictness, wishes, lr, steps):
    x = 0.0
    for _ in range(3_000):
        x = sum(
            c + (1 - lr * a) ** steps * (x - c) for a, c in zip(strictness, wishes, strict=True)
        )
        x /= len(wishes)
    return x


def optimum(strictness, wishes, *_):
    return sum(a * c for a, c in zip(strictness, wishes, strict=True)) / sum(strictness)


def test_where_it_ends():
    assert checks.where_it_ends(ends).passed
    assert checks.where_it_ends(played).passed
    refused(checks.where_it_ends(optimum), "3 local steps", "optimum")
    refused(checks.where_it_ends(lambda a, c, lr, e: sum(c) / len(c)), "mean of the wishes")
    refused(checks.where_it_ends(lambda a, c, lr, e: 0.123), "0.1230")


def history(*accuracies: float, **metrics) -> History:
    return History(
        tuple(
            RoundRecord(i, (0,), 1, 1, {0: 0.5}, {}, 10, 10, 0.1, {"accuracy": a, **metrics})
            for i, a in enumerate(accuracies, 1)
        )
    )


def test_steadier_plan():
    assert checks.steadier_plan(history(0.5, 0.66, 0.64, 0.66)).passed
    refused(checks.steadier_plan(history(0.9, 0.9, 0.5, 0.6, 0.5)), "cohort")
    refused(checks.steadier_plan(history(*[0.9] * 11)), "11 rounds")
    refused(checks.steadier_plan(history(0.9)), "last three")
    refused(checks.steadier_plan([0.9] * 5), "History")
    blind = History((*history(0.9, 0.9), RoundRecord(3, (0,), 1, 1, {0: 1.0}, {}, 1, 1, 0.1, {})))
    refused(checks.steadier_plan(blind), "evaluated")
