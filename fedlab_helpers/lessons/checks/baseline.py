"""Checks of notebook 03: a centralised baseline."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedlab_helpers.lessons.checks.verdict import Verdict, exercise, near, right, slip, wrong

ACCURACY, TARGET_ERROR = 0.84, 0.002
CUT = 64  # words that `load_task` keeps


@exercise("compute how many test reviews a standard error of 0.2 points takes at 84% accuracy")
def reviews_needed(answer: float) -> Verdict:
    """Judge the number of reviews at which sqrt(p (1 - p) / n) is 0.002, for p = 0.84."""
    variance = ACCURACY * (1 - ACCURACY)
    if near(answer, variance / TARGET_ERROR**2, 0.01):
        return right("some 33,600: a third of the error costs about ten times the reviews.")
    in_step = math.sqrt(variance * 3473) / TARGET_ERROR
    slips = {
        "0.2 points are a share of 0.002; you divided by the square of 0.2.": variance / 0.2**2,
        "as if the error fell in step with the reviews. What does the root do to n?": in_step,
        "the factor 1 - p is missing.": ACCURACY / TARGET_ERROR**2,
    }
    general = f"got {answer:,.0f}; solve error = sqrt(p (1 - p) / n) for n."
    return wrong(slip(answer, slips, 0.06) or general)


@exercise("write `best_temperature`: the T at which the validation loss of logits / T is smallest")
def temperature(function: Callable[[Tensor, Tensor], float]) -> Verdict:
    """Judge a function of (logits (N, C), labels (N,)) that returns the best temperature."""
    for true in (2.0, 0.5):
        logits, labels = _scaled_logits(true)
        got = float(torch.as_tensor(function(logits.clone(), labels.clone())).detach())
        if not (math.isfinite(got) and got > 0):
            return wrong(f"got {got}; a temperature is a finite number above 0.")
        if _excess_loss(logits, labels, got) < 2e-3:
            continue
        if _excess_loss(logits, labels, 1 / got) < 2e-3:
            return wrong("this is 1 / T. Do you divide the logits by it, or multiply?")
        if true < 1 <= got:
            return wrong("this model is too timid: its best T is below 1. Where do you search?")
        if got == 1.0:
            return wrong(
                "always 1? If you compared accuracies: dividing all logits by T > 0 changes no "
                "answer. Which number does it change?"
            )
        return wrong(f"got {got:.2f} for logits that are about {true} times too large.")
    return right("the answers stay as they are; only how sure they sound has changed.")


def _scaled_logits(scale: float) -> tuple[Tensor, Tensor]:
    """Return logits of two classes, `scale` times what the shares of their labels call for."""
    odds = torch.linspace(-4, 4, 41)
    positive = (100 * odds.sigmoid()).round()  # of 100 reviews with the same logits
    labels = torch.arange(100) < positive[:, None]
    logits = torch.stack([-odds / 2, odds / 2], dim=1).repeat_interleave(100, dim=0)
    return scale * logits, labels.long().flatten()


def _excess_loss(logits: Tensor, labels: Tensor, temperature: float) -> float:
    """Return by how much the loss at this temperature exceeds the smallest there is, in nats."""
    grid = torch.arange(0.2, 4, 0.01)
    best = min(float(cross_entropy(logits / t, labels)) for t in grid)
    return float(cross_entropy(logits / temperature, labels)) - best


@exercise("write `paired`: the difference of two accuracies, and its paired standard error")
def paired(function: Callable[[np.ndarray, np.ndarray], tuple[float, float]]) -> Verdict:
    """Judge a function of two bool arrays (N,), right or not, that returns both numbers."""
    both, first, second, neither = 800, 60, 40, 100
    a = np.repeat([True, True, False, False], [both, first, second, neither])
    b = np.repeat([True, False, True, False], [both, first, second, neither])
    got, error = (float(number) for number in function(a, b))
    n = len(a)
    difference = (first - second) / n
    expected = math.sqrt(first + second - (first - second) ** 2 / n) / n
    unpaired = math.sqrt(sum(s.mean() * (1 - s.mean()) for s in (a, b)) / n)
    if math.isclose(got, -difference):
        return wrong("the sign: a positive difference should mean that the first is better.")
    if not math.isclose(got, difference, abs_tol=1e-9):
        return wrong(f"the difference came out as {got:.4f}, expected {difference:.4f}.")
    if math.isclose(error, unpaired, rel_tol=5e-3):
        return wrong(
            "this is the error for two separate sets of reviews. Here each review was answered "
            "by both: look at a - b, review by review."
        )
    if math.isclose(error, expected * math.sqrt(n), rel_tol=5e-3):
        return wrong("this is how far single reviews spread; the error of their mean is smaller.")
    if not math.isclose(error, expected, rel_tol=5e-3):
        return wrong(f"the error came out as {error:.5f}, expected {expected:.5f}.")
    if not np.allclose(function(a, a), 0):
        return wrong("a model compared with itself should give 0 and 0.")
    return right("only the reviews on which the two disagree count.")


@exercise(f"try shorter and longer than {CUT} words on validation reviews, and choose")
def reading_length(accuracy: Mapping[int, float], chosen: Any) -> Verdict:
    """Judge validation accuracies by number of words read, and the number that was chosen."""
    if not isinstance(accuracy, Mapping) or CUT not in accuracy:
        return wrong(f"expected a dict from words to accuracy that holds {CUT}, to compare with.")
    if not min(accuracy) < CUT < max(accuracy):
        return wrong(f"try at least one length on each side of {CUT}.")
    if not all(0 <= share <= 1 for share in accuracy.values()):
        return wrong("give accuracies as shares between 0 and 1.")
    if chosen not in accuracy:
        return wrong(f"you chose {chosen!r}, which is none of the lengths you tried.")
    best = max(accuracy.values())
    if accuracy[chosen] < best:
        return wrong(f"another length reaches {best:.1%}, yours {accuracy[chosen]:.1%}.")
    gain = 100 * (accuracy[chosen] - accuracy[CUT])
    return right(f"{chosen} words: {gain:+.1f} points against {CUT}, without one training step.")
