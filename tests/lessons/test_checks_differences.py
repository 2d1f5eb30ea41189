"""Each check of notebook 06 passes the right answer and has a hint for typical wrong ones."""

import math

import numpy as np
import torch
from verdicts import refused

from fedlab_helpers.core import state
from fedlab_helpers.core.history import History, RoundRecord
from fedlab_helpers.lessons.checks import differences as checks
from fedlab_helpers.tasks import partition


def test_one_sided_bits():
    by_sum = 0.5 * math.log2(1 / 0.75) + 0.25 * math.log2(0.5 / 0.75) + 0.25 * math.log2(2)
    assert checks.one_sided_bits(by_sum).passed
    assert checks.one_sided_bits(0.31).passed
    refused(checks.one_sided_bits(1.0), "Kullback")
    refused(checks.one_sided_bits(by_sum * math.log(2)), "nats")
    refused(checks.one_sided_bits(2 * by_sum), "one half")
    refused(checks.one_sided_bits(0.5), "0.5", "1/4")
    refused(checks.one_sided_bits(by_sum**0.5), "square root")
    refused(checks.one_sided_bits(-1), "-1")
    refused(checks.one_sided_bits("0.31 bits"), "number")
    for form in (np.float32(by_sum), torch.tensor([by_sum])):
        assert checks.one_sided_bits(form).passed


def cosine(start, a, b):
    a, b = (state.flatten(state.subtract(end, start)) for end in (a, b))
    return float(a @ b / (a.norm() * b.norm()))


def test_update_cosine():
    assert checks.update_cosine(cosine).passed

    zeros = {"a": torch.zeros(2), "b": torch.zeros(1, 1)}

    def in_place(s, a, b):
        for end in (a, b):
            for name in end:
                end[name] -= s[name]
        return cosine(zeros, a, b)

    assert checks.update_cosine(in_place).passed
    refused(checks.update_cosine(lambda s, a, b: cosine(zeros, a, b)), "weights")
    refused(checks.update_cosine(lambda s, a, b: abs(cosine(s, a, b))), "opposite")
    refused(checks.update_cosine(lambda s, a, b: 0.5), "0.5")

    def by_the_first(s, a, b):
        u, v = (state.flatten(state.subtract(end, s)).double() for end in (a, b))
        return float(u @ v / u.norm() ** 2)

    def sign(s, a, b):
        return float(np.sign(round(cosine(s, a, b), 6)))

    refused(checks.update_cosine(by_the_first), "twice as long")
    refused(checks.update_cosine(sign), "3 and √5")
    refused(checks.update_cosine(lambda s, a, b: None), "return")
    refused(checks.update_cosine(lambda s, a, b: "0"), "number")

    def each(s, a, b):
        moved = [[end[n] - s[n] for n in s] for end in (a, b)]
        pairs = zip(*moved, strict=True)
        return [torch.cosine_similarity(x.flatten(), y.flatten(), dim=0) for x, y in pairs]

    refused(checks.update_cosine(each), "one long vector")
    refused(checks.update_cosine(lambda s, a, b: torch.stack(each(s, a, b))), "one long vector")
    refused(checks.update_cosine(lambda s, a, b: dict(enumerate(each(s, a, b)))), "one long vector")
    refused(checks.update_cosine(lambda s, a, b: sum(each(s, a, b)) / 2), "as much as a long")
    refused(checks.update_cosine(lambda s, a, b: sum(each(s, a, b))), "sum")
    refused(checks.update_cosine(lambda s, a, b: each(s, a, b)[0]), "one tensor only")
    refused(checks.update_cosine(lambda s, a, b: each(s, a, b)[1]), "last tensor")
    for form in (torch.tensor, np.float32, lambda value: torch.tensor([value])):
        assert checks.update_cosine(lambda *states, form=form: form(cosine(*states))).passed


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
    refused(checks.seen_by(lambda a, c: sum(a[k] * c[k] for k in a) / sum(c.values())), "book 1")
    refused(checks.seen_by(lambda a, c: 100 * seen(a, c)), "share")
    refused(checks.seen_by(lambda a, c: seen(a, c) * 40 / len(c)), "number of reviews")
    assert checks.seen_by(lambda a, c: torch.tensor(seen(a, c))).passed
    assert checks.seen_by(lambda a, c: np.float32(seen(a, c))).passed


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
    refused(checks.where_it_ends(played), "1e-07", "solve")
    refused(checks.where_it_ends(optimum), "3 local steps", "optimum")
    refused(checks.where_it_ends(lambda a, c, lr, e: sum(c) / len(c)), "mean of the wishes")
    refused(checks.where_it_ends(lambda a, c, lr, e: 0.123), "0.1230")
    refused(checks.where_it_ends(lambda a, c, lr, e: None), "return")

    def weighted(by):
        def wrongly(a, c, lr, e):
            weights = [by((1 - lr * each) ** e) for each in a]
            return sum(w * wish for w, wish in zip(weights, c, strict=True)) / sum(weights)

        return checks.where_it_ends(wrongly)

    refused(weighted(lambda left: left), "is gone")
    once = lambda a, c, lr, e: ends(a, c, lr, e) * sum(1 - (1 - lr * s) ** e for s in a) / 3  # noqa: E731
    refused(checks.where_it_ends(once), "one round")
    assert checks.where_it_ends(lambda *given: torch.tensor(ends(*given))).passed
    assert checks.where_it_ends(lambda *given: np.array([ends(*given)])).passed


def history(*accuracies: float, **metrics) -> History:
    return History(
        tuple(
            RoundRecord(i, (0,), 1, 1, {0: 0.5}, {}, 10, 10, 0.1, {"accuracy": a, **metrics})
            for i, a in enumerate(accuracies, 1)
        )
    )


def test_steadier_plan():
    assert checks.steadier_plan(history(0.5, 0.66, 0.65, 0.66)).passed
    refused(checks.steadier_plan(history(0.9, 0.9, 0.5, 0.6, 0.5)), "cohort")
    refused(checks.steadier_plan(history(0.554, 0.726, 0.677)), "55.4%", "swing")
    refused(checks.steadier_plan(history(0.66, 0.64, 0.66)), "64.0%")
    refused(checks.steadier_plan(history(*[0.9] * 11)), "11 rounds")
    refused(checks.steadier_plan(history(0.9)), "last three")
    refused(checks.steadier_plan([0.9] * 5), "History")
    refused(checks.steadier_plan(0.9), "float")
    blind = History((*history(0.9, 0.9), RoundRecord(3, (0,), 1, 1, {0: 1.0}, {}, 1, 1, 0.1, {})))
    refused(checks.steadier_plan(blind), "evaluated")


def noisy(labels, n_clients, rng, spread=0.4):
    """Sorted by label, but for some noise, and cut into pieces of one size."""
    order = np.argsort(labels + spread * rng.standard_normal(len(labels)))
    return np.array_split(order, n_clients)


def test_own_deal():
    assert checks.own_deal(noisy).passed
    assert checks.own_deal(lambda *given: [part.tolist() for part in noisy(*given)]).passed
    assert checks.own_deal(lambda *given: [torch.tensor(part) for part in noisy(*given)]).passed
    assert checks.own_deal(lambda *given: partition.shards(*given, per_client=1)).passed
    refused(checks.own_deal(lambda *given: partition.dirichlet(*given, 0.5)), "largest")
    refused(checks.own_deal(partition.iid), "bits")
    refused(checks.own_deal(lambda *given: None), "return")
    refused(checks.own_deal(lambda labels, n, rng: noisy(labels, n + 1, rng)), "parts")
    refused(checks.own_deal(lambda *given: [part[1:] for part in noisy(*given)]), "not")
    twice = lambda *given: [np.append(part, part[0]) for part in noisy(*given)]  # noqa: E731
    refused(checks.own_deal(twice), "twice")
    refused(checks.own_deal(lambda labels, n, rng: [[0.5]] * n), "indices")
    refused(checks.own_deal(lambda labels, n, rng: [[-1]] * n), "indices")
    refused(checks.own_deal(lambda labels, n, rng: [list(range(2_001))] + [[]] * (n - 1)), "twice")
    fixed = lambda labels, n, rng: noisy(labels, n, np.random.default_rng(0))  # noqa: E731
    refused(checks.own_deal(fixed), "shuffle")
    wild = lambda labels, n, rng: noisy(labels, n, np.random.default_rng())  # noqa: E731
    refused(checks.own_deal(wild), "chance")
