"""Checks of notebook 03: a centralised baseline."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedlab_helpers.lessons.checks.verdict import (
    Verdict,
    exercise,
    near,
    number,
    right,
    slip,
    tensor,
    whole,
    wrong,
)
from fedlab_helpers.tasks.reviews.order_pairs import order_pairs
from fedlab_helpers.tasks.reviews.words import Vocabulary, tokenize

ACCURACY, TARGET_ERROR = 0.84, 0.002
CUT = 64  # words that `load_task` keeps
OWN_PAIRS = 6


@exercise("compute how many test reviews a standard error of 0.2 points takes at 84% accuracy")
def reviews_needed(answer: float) -> Verdict:
    """Judge the number of reviews at which sqrt(p (1 - p) / n) is 0.002, for p = 0.84."""
    got, variance = number(answer), ACCURACY * (1 - ACCURACY)
    if not 0 < got < math.inf:
        return wrong(f"got {answer!r}; expected how many reviews it takes, one number above 0.")
    if near(got, variance / TARGET_ERROR**2, 0.02):  # 33,000 and 34,000 are rounded
        return right("33,600, or some 34,000: a third of the error costs ten times the reviews.")
    in_step = math.sqrt(variance * 3473) / TARGET_ERROR
    slips = {
        "0.2 points are a share of 0.002; you divided by the square of 0.2.": variance / 0.2**2,
        "as if the error fell in step with the reviews. What does the root do to n?": in_step,
        "the factor 1 - p is missing.": ACCURACY / TARGET_ERROR**2,
        "this is n for two standard errors of 0.2 points, a 95% interval.": 4
        * variance
        / TARGET_ERROR**2,
        "you forgot to square: (p (1 - p)) / 0.002.": variance / TARGET_ERROR,
    }
    points = 100 * math.sqrt(variance / got)
    general = f"{got:,.0f} reviews have an error of {points:.3g} points; 0.2 was asked."
    return wrong(slip(got, slips, 0.06) or general)


@exercise("write `best_temperature`: the T at which the validation loss of logits / T is smallest")
def temperature(function: Callable[[Tensor, Tensor], float]) -> Verdict:
    """Judge a function of (logits (N, C), labels (N,)) that returns the best temperature."""
    models = {true: _scaled_logits(true) for true in (3.0, 0.5)}
    found = [number(function(g.clone(), y.clone())) for g, y in models.values()]
    for (true, (logits, labels)), got in zip(models.items(), found, strict=True):
        if not 0 < got < math.inf:
            return wrong(f"got {got}; a temperature is one finite number above 0.")
        if math.isclose(*found):
            return wrong(
                f"always {got:.2f}? If you compared accuracies: dividing all logits by T > 0 "
                "changes no answer. Which number does it change?"
            )
        if _excess_loss(logits, labels, got) < 2e-3:
            continue
        if _excess_loss(logits, labels, 1 / got) < 2e-3:
            return wrong("this is 1 / T. Do you divide the logits by it, or multiply?")
        if true < 1 <= got:
            return wrong("this model is too timid: its best T is below 1. Where do you search?")
        return wrong(f"got {got:.2f} for logits that are about {true} times too large.")
    return right("the answers stay as they are; only how sure they sound has changed.")


def _scaled_logits(scale: float) -> tuple[Tensor, Tensor]:
    """Return logits of two classes, `scale` times what the shares of their labels call for."""
    log_odds = torch.linspace(-4, 4, 41)
    positive = (100 * log_odds.sigmoid()).round()  # of 100 reviews with the same logits
    labels = torch.arange(100) < positive[:, None]
    logits = torch.stack([-log_odds / 2, log_odds / 2], dim=1).repeat_interleave(100, dim=0)
    return scale * logits, labels.long().flatten()


def _excess_loss(logits: Tensor, labels: Tensor, temperature: float) -> float:
    """Return by how much the loss at this temperature exceeds the smallest there is, in nats."""
    grid = torch.arange(0.2, 4, 0.01)
    best = min(float(cross_entropy(logits / t, labels)) for t in grid)
    return float(cross_entropy(logits / temperature, labels)) - best


@exercise("write `paired_difference`: the difference of two accuracies, and its paired error")
def paired(function: Callable[[np.ndarray, np.ndarray], tuple[float, float]]) -> Verdict:
    """Judge a function of two bool arrays (N,), right or not, that returns both numbers."""
    both, first, second, neither = 800, 90, 10, 100
    a = np.repeat([True, True, False, False], [both, first, second, neither])
    b = np.repeat([True, False, True, False], [both, first, second, neither])
    try:
        came = function(a, b)
    except TypeError as error:
        if "boolean" not in str(error):
            raise
        return wrong("NumPy does not subtract booleans; a.astype(float) makes numbers of them.")
    answer = tensor(came, "two numbers, the difference and its error")
    if answer.numel() != 2:
        return wrong(f"expected two numbers, the difference and its error, got {came!r:.60}.")
    got, error = answer.flatten().tolist()
    n = len(a)
    difference = (first - second) / n
    expected = math.sqrt(first + second - (first - second) ** 2 / n) / n
    unpaired = math.sqrt(sum(s.mean() * (1 - s.mean()) for s in (a, b)) / n)
    if math.isclose(got, -difference, rel_tol=1e-4):
        return wrong("the sign: a positive difference should mean that the first is better.")
    if math.isclose(got, 100 * difference, rel_tol=1e-4):
        return wrong("the difference is in points; return shares, the difference and its error.")
    if not math.isclose(got, difference, rel_tol=1e-4):
        return wrong(f"the difference came out as {got:.4f}, expected {difference:.4f}.")
    if math.isclose(error, unpaired, rel_tol=5e-3):
        return wrong(
            "this is the error for two separate sets of reviews. Here each review was answered "
            "by both: look at a - b, review by review."
        )
    if math.isclose(error, expected * math.sqrt(n), rel_tol=5e-3):
        return wrong("this is how far single reviews spread; the error of their mean is smaller.")
    if math.isclose(error, math.sqrt(first + second) / n, rel_tol=5e-3):
        return wrong("the spread is one around the mean: (b - c)**2 / n goes off under the root.")
    if not math.isclose(error, expected, rel_tol=5e-3):
        return wrong(f"the error came out as {error:.5f}, expected {expected:.5f}.")
    if not np.allclose(tensor(function(a, a)), 0):
        return wrong("a model compared with itself should give 0 and 0.")
    return right("only the reviews on which the two disagree count.")


@exercise(f"try shorter and longer than {CUT} words on validation reviews, and choose")
def reading_length(accuracy: Mapping[int, float], chosen: Any) -> Verdict:
    """Judge validation accuracies by number of words read, and the number that was chosen."""
    if not isinstance(accuracy, Mapping) or CUT not in accuracy:
        return wrong(f"expected a dict from words to accuracy that holds {CUT}, to compare with.")
    if not min(accuracy) < CUT < max(accuracy):
        return wrong(f"try at least one length on each side of {CUT}.")
    shares = tensor(list(accuracy.values()), "accuracies as shares between 0 and 1")
    if not all(0 <= share <= 1 for share in shares):
        return wrong("give accuracies as shares between 0 and 1.")
    if (chosen := whole(chosen)) not in accuracy:
        return wrong(f"you chose {chosen}, which is none of the lengths you tried.")
    accuracy = dict(zip(accuracy, shares.tolist(), strict=True))
    best = max(accuracy.values())
    if accuracy[chosen] < best:
        return wrong(f"another length reaches {best:.1%}, yours {accuracy[chosen]:.1%}.")
    gain = 100 * (accuracy[chosen] - accuracy[CUT])
    return right(f"{chosen} words: {gain:+.1f} points against {CUT}, without one training step.")


@exercise(f"write at least {OWN_PAIRS} pairs: (the positive sentence, the negative one)")
def own_pairs(pairs: Sequence[tuple[str, str]], vocab: Vocabulary) -> Verdict:
    """Judge pairs of Chinese sentences: the same words in another order, all of them known."""
    ours = {text for pair in order_pairs() for text in (pair.positive, pair.negative)}
    seen: set[str] = set()
    for place, pair in enumerate(pairs, start=1):
        if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(t, str) for t in pair):
            return wrong(f"pair {place}: {pair!r:.60} is not two sentences.")
        cut = [tokenize(text) for text in pair]
        counts = [Counter(words) for words in cut]
        if odd := sorted((counts[0] - counts[1]) + (counts[1] - counts[0])):
            return wrong(
                f"pair {place}: a bag can tell these apart; {' '.join(odd)} is on one side only. "
                f"jieba cuts {' / '.join(cut[0])} and {' / '.join(cut[1])}."
            )
        if cut[0] == cut[1]:
            return wrong(f"pair {place}: both sentences have their words in the same order.")
        if unknown := [word for word in cut[0] if word not in vocab]:
            return wrong(f"pair {place}: no model knows {' '.join(unknown)}; it reads “unknown”.")
        if ours & set(pair) or seen & set(pair):
            return wrong(f"pair {place}: {pair[0]} / {pair[1]} is there already; write your own.")
        seen |= set(pair)
    if len(pairs) < OWN_PAIRS:
        return wrong(f"{len(pairs)} of at least {OWN_PAIRS} pairs so far: so few say little.")
    return right(
        f"{len(pairs)} pairs that no bag can order. What no program checks is whether a reader "
        "would call the first of each positive and the second negative: ask one."
    )
