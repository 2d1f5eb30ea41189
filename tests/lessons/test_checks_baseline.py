"""Each check of notebook 03 passes the right answer and has a hint for typical wrong ones."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from verdicts import refused

from fedlab_helpers.lessons.checks import baseline as checks


def test_reviews_needed():
    assert checks.reviews_needed(0.84 * 0.16 / 0.002**2).passed
    assert checks.reviews_needed(33_600).passed
    refused(checks.reviews_needed(0.84 * 0.16 / 0.2**2), "0.002")
    refused(checks.reviews_needed(3473 * 0.62 / 0.2), "root")
    refused(checks.reviews_needed(3473 * 0.65 / 0.2), "root")
    refused(checks.reviews_needed(0.84 / 0.002**2), "factor 1 - p")
    refused(checks.reviews_needed(5000), "5,000")
    refused(checks.reviews_needed(30_000), "30,000")


GRID = torch.arange(0.2, 4, 0.05)


def by_loss(logits, labels, candidates=GRID):
    return min(candidates, key=lambda t: float(cross_entropy(logits / t, labels)))


def by_accuracy(logits, labels):
    candidates = torch.arange(1, 4, 0.05)
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
    refused(checks.temperature(by_accuracy), "accuracies")
    refused(checks.temperature(lambda g, y: by_loss(g, y, torch.arange(1, 4, 0.1))), "below 1")
    refused(checks.temperature(lambda g, y: 3.0), "3.00")
    refused(checks.temperature(lambda g, y: -1.0), "above 0")
    refused(checks.temperature(lambda g, y: float("nan")), "above 0")


def test_the_labels_call_for_the_temperature_that_is_accepted():
    for true in (2.0, 0.5):
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
    refused(checks.paired(unpaired), "two separate sets")
    refused(checks.paired(lambda a, b: by_difference(b, a)), "sign")
    refused(checks.paired(lambda a, b: (a.mean() - b.mean(), np.std(a * 1.0 - b))), "mean")
    refused(checks.paired(lambda a, b: (0.5, 0.01)), "0.5000")
    refused(checks.paired(lambda a, b: (a.mean() - b.mean(), 0.02)), "0.02000")
    refused(checks.paired(lambda a, b: (a.mean() - b.mean(), by_counts(~a, b)[1])), "expected")
    refused(checks.paired(lambda a, b: a - b), "TypeError")


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
