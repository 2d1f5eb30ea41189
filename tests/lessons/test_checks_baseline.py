"""Each check of notebook 03 passes the right answer and has a hint for typical wrong ones."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from verdicts import refused

from fedlab_helpers.lessons.checks import baseline as checks
from fedlab_helpers.tasks.reviews.order_pairs import order_pairs
from fedlab_helpers.tasks.reviews.words import Vocabulary, tokenize


def test_reviews_needed():
    exact = 0.84 * 0.16 / 0.002**2
    for answer in (exact, 33_600, 34_000, 33_000, np.int64(33_600), np.float32(exact)):
        assert checks.reviews_needed(answer).passed
    assert checks.reviews_needed(torch.tensor(33_600)).passed
    refused(checks.reviews_needed(0.84 * 0.16 / 0.2**2), "0.002")
    refused(checks.reviews_needed(3473 * 0.62 / 0.2), "root")
    refused(checks.reviews_needed(3473 * 0.65 / 0.2), "root")
    refused(checks.reviews_needed(0.84 / 0.002**2), "factor 1 - p")
    refused(checks.reviews_needed(4 * exact), "95% interval")
    refused(checks.reviews_needed(0.84 * 0.16 / 0.002), "square")
    refused(checks.reviews_needed(5000), "error of 0.518 points")
    refused(checks.reviews_needed(30_000), "error of 0.212 points")
    for odd in (0, -5, float("nan")):
        refused(checks.reviews_needed(odd), "one number above 0")
    refused(checks.reviews_needed("many"), "expected a number, got str")
    refused(checks.reviews_needed([1, 2]), "expected one number, got 2")


GRID = torch.arange(0.2, 4, 0.05)


def by_loss(logits, labels, candidates=GRID):
    return min(candidates, key=lambda t: float(cross_entropy(logits / t, labels)))


def by_accuracy(logits, labels, candidates=GRID + 0.8):
    return max(candidates, key=lambda t: float(((logits / t).argmax(1) == labels).double().mean()))


def by_gradient(logits, labels):
    log_t = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=50)

    def closure():
        optimizer.zero_grad()
        loss = cross_entropy(logits / log_t.exp(), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_t.exp()


def test_temperature():
    assert checks.temperature(by_loss).passed
    assert checks.temperature(by_gradient).passed
    refused(checks.temperature(lambda g, y: 1 / by_loss(g, y)), "1 / T")
    refused(checks.temperature(by_accuracy), "always 1.00", "accuracies")
    refused(checks.temperature(lambda g, y: by_accuracy(g, y, GRID + 0.3)), "always 0.50")
    refused(checks.temperature(lambda g, y: by_loss(g, y, torch.arange(1, 4, 0.1))), "below 1")
    refused(checks.temperature(lambda g, y: 3.0), "3.00")
    refused(checks.temperature(lambda g, y: -1.0), "above 0")
    for odd, hint in (
        (float("nan"), "above 0"),
        (None, "`return`"),
        ("warm", "got str"),
        ((1, 2), "one"),
    ):
        refused(checks.temperature(lambda g, y, odd=odd: odd), hint)
    assert checks.temperature(lambda g, y: np.float64(by_loss(g, y))).passed


def test_the_labels_call_for_the_temperature_that_is_accepted():
    for true in (3.0, 0.5):
        logits, labels = checks._scaled_logits(true)
        assert float(by_loss(logits, labels)) == pytest.approx(true, rel=0.03)
        assert checks._excess_loss(logits, labels, true) < 2e-3


def by_difference(a, b):
    d = np.subtract(a, b, dtype=float)
    return d.mean(), d.std() / np.sqrt(len(d))


def by_counts(a, b):
    only_a, only_b, n = np.sum(a & ~b), np.sum(~a & b), len(a)
    difference = (only_a - only_b) / n
    return difference, np.sqrt(only_a + only_b - n * difference**2) / n


def unpaired(a, b):
    return a.mean() - b.mean(), np.sqrt((a.var() + b.var()) / len(a))


def test_paired():
    assert checks.paired(by_difference).passed
    assert checks.paired(by_counts).passed
    assert checks.paired(lambda a, b: torch.tensor(by_difference(a, b))).passed
    assert checks.paired(lambda a, b: np.float32(by_counts(a, b))).passed
    in_points = lambda a, b: [100 * number for number in by_counts(a, b)]  # noqa: E731
    refused(checks.paired(in_points), "in points")
    refused(checks.paired(lambda a, b: a - b), "astype(float)")
    refused(checks.paired(lambda a, b: by_counts(a, b)[0]), "two numbers")
    refused(checks.paired(unpaired), "two separate sets")
    refused(checks.paired(lambda a, b: by_difference(b, a)), "sign")
    refused(checks.paired(lambda a, b: (a.mean() - b.mean(), np.std(a * 1.0 - b))), "mean")
    uncentred = lambda a, b: (by_counts(a, b)[0], np.sqrt(np.sum(a != b)) / len(a))  # noqa: E731
    refused(checks.paired(uncentred), "under the root")
    refused(checks.paired(lambda a, b: (0.5, 0.01)), "0.5000")
    refused(checks.paired(lambda a, b: (a.mean() - b.mean(), 0.02)), "0.02000")
    refused(checks.paired(lambda a, b: (a.mean() - b.mean(), by_counts(~a, b)[1])), "expected")
    refused(checks.paired(lambda a, b: len(3)), "TypeError")


def test_paired_also_asks_what_a_model_differs_from_itself():
    def no_reviews_left(a, b):
        return by_difference(a, b) if (a != b).any() else (0.0, float("nan"))

    refused(checks.paired(no_reviews_left), "itself")


def test_reading_length():
    tried = {32: 0.81, 64: 0.83, 128: 0.84}
    verdict = checks.reading_length(tried, 128)
    assert verdict.passed
    assert "+1.0 points" in verdict.message
    assert checks.reading_length({32: 0.81, 64: 0.83, 128: 0.83}, 64).passed
    refused(checks.reading_length(tried, 64), "84.0%", "83.0%")
    refused(checks.reading_length(tried, 256), "256", "none of")
    refused(checks.reading_length({32: 0.8, 64: 0.9}, 64), "each side")
    refused(checks.reading_length({32: 0.8, 128: 0.9}, 128), "holds 64")
    refused(checks.reading_length({32: 81.0, 64: 83.0, 128: 84.0}, 128), "shares")
    refused(checks.reading_length([0.8, 0.9], 64), "dict")
    refused(checks.reading_length({**tried, 96: "high"}, 128), "shares")
    of_torch = {words: torch.tensor(share) for words, share in tried.items()}
    assert checks.reading_length(of_torch, np.int64(128)).passed


KNOWN = Vocabulary(
    "以前 很 好 ， 现在 很差 差 。 房间 服务 早餐 酒店 前台 价格 书 不 但是 性价比".split()
)


def now(thing):
    return f"{thing}以前好，{thing}现在差。", f"{thing}以前差，{thing}现在好。"


def test_own_pairs():
    good = [now(thing)[::-1] for thing in ("房间", "服务", "早餐", "酒店", "前台", "价格")]
    assert checks.own_pairs(good, KNOWN).passed
    assert checks.own_pairs(tuple(map(list, good)), KNOWN).passed
    wrong = {
        "is not two sentences": ["房间好", *good],
        "5 of at least 6 pairs": good[:5],
        "bag can tell": [*good, ("房间好。", "房间差。")],
        "is there already": [*good, good[0]],
        "same order": [*good, ("书，好。", "书 ，好。")],
        "knows 键盘": [*good, now("键盘")],
    }
    for hint, pairs in wrong.items():
        refused(checks.own_pairs(pairs, KNOWN), hint)
    ours = order_pairs()[0]
    known = Vocabulary([*KNOWN.words[2:], *tokenize(ours.positive)])
    refused(checks.own_pairs([(ours.positive, ours.negative)], known), "already")
